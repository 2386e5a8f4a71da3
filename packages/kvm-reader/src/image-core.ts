import {
  KvmError,
  type AddressSpace,
  type Architecture,
  type BlockCache,
  type Core,
  type CoreFormat,
  type FormatContext,
  type Registers,
} from '@libkvm/minidump-core';
import { ElfFile } from './elf-file.js';
import { openElfImage, openRawImage, type MemoryImage, type RawRange } from './memory-image.js';

/** ELF cores with physical segments, walked through the page tables that their registers name. */
export const elfImageFormat: CoreFormat = {
  name: 'ELF core with physical memory',
  probe: (head) =>
    head.length >= 4 && head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46,
  open: (cache, context) => coreOfImage('elf', openElfImage(cache, ElfFile.open(cache)), context),
};

/**
 * Opens a file that is nothing but physical memory. Its format cannot be recognised: where it lies must be said, and the
 * architecture with its registers when KVAs are to be resolved.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function openRawCore(cache: BlockCache, ranges: readonly RawRange[], context: FormatContext): Core {
  return coreOfImage('raw', openRawImage(cache, ranges), context);
}

/**
 * A memory image as a core. Without registers it has no address space: physical memory can be read all the same.
 *
 * @throws KvmError `INVALID_ARGUMENT` for an architecture that was not given, or one that a register is missing for
 */
export function coreOfImage(format: string, image: MemoryImage, context: FormatContext): Core {
  const architecture = architectureOf(image, context);
  const registers = registersOf(image, context);
  const byteOrder =
    context.image?.byteOrder ?? image.identity?.byteOrder ?? architecture?.byteOrders[0] ?? 'little';
  const addressSpace = walk(architecture, image, registers, context);
  return {
    format,
    architecture: architecture?.name ?? 'unknown',
    byteOrder,
    bits: architecture?.bits ?? image.identity?.bits ?? 64,
    pageSize: architecture?.pageSizes.find((size) => size >= 4096) ?? 4096,
    ...(addressSpace?.pteFormat !== undefined && { pteFormat: addressSpace.pteFormat }),
    ...elfMachineOf(image, architecture),
    sections: image.sections,
    memory: image.memory,
    ...(addressSpace && { addressSpace }),
    notes: notesOf(image, registers),
    cache: image.cache,
    warnings: image.warnings,
  };
}

function architectureOf(
  image: MemoryImage,
  { architectures, image: options }: FormatContext,
): Architecture | undefined {
  const asked = options?.architecture;
  if (asked === undefined) {
    return architectures.find(({ elfMachines }) => elfMachines.includes(image.identity?.machine ?? -1));
  }
  const found = architectures.find(({ name }) => name === asked);
  if (found) return found;
  throw new KvmError('INVALID_ARGUMENT', `no architecture ${asked}`, {
    field: 'architecture',
    hint: `it is one of ${architectures.map(({ name }) => name).join(', ')}`,
  });
}

/** The registers of one processor, with those given by hand in place of its own. */
function registersOf(image: MemoryImage, { image: options }: FormatContext): Registers {
  const cpu = options?.cpu ?? 0;
  if (cpu > 0 && cpu >= image.cpus.length) {
    throw new KvmError(
      'INVALID_ARGUMENT',
      `the image has registers of ${image.cpus.length} processors, none of ${cpu}`,
      {
        field: 'cpu',
      },
    );
  }
  return { ...image.cpus[cpu]?.registers, ...options?.registers };
}

function walk(
  architecture: Architecture | undefined,
  { memory }: MemoryImage,
  registers: Registers,
  { image: options }: FormatContext,
): AddressSpace | undefined {
  if (architecture?.walker === undefined || Object.keys(registers).length === 0) return undefined;
  return architecture.walker(memory, {
    registers,
    ...(options?.byteOrder && { byteOrder: options.byteOrder }),
    ...(options?.pteFormat !== undefined && { pteFormat: options.pteFormat }),
  });
}

function elfMachineOf(image: MemoryImage, architecture: Architecture | undefined): { elfMachine?: number } {
  const machine = architecture?.elfMachines[0] ?? image.identity?.machine;
  return machine === undefined ? {} : { elfMachine: machine };
}

/** Registers as text, a processor a line; control registers of the one that is walked are those in use. */
function notesOf(image: MemoryImage, registers: Registers): Record<string, string> {
  const lines = image.cpus.map(({ registers: own, general }, i) => registerLine(i, { ...own, ...general }));
  if (lines.length === 0 && Object.keys(registers).length > 0) lines.push(registerLine(0, registers));
  return lines.length > 0 ? { registers: lines.join('\n') + '\n' } : {};
}

function registerLine(cpu: number, registers: Registers): string {
  return [
    `cpu${cpu}`,
    ...Object.entries(registers).map(([name, value]) => `${name}=0x${value.toString(16)}`),
  ].join(' ');
}

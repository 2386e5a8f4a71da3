import {
  KvmError,
  type Architecture,
  type BlockCache,
  type Core,
  type CoreFormat,
  type FormatContext,
  type Registers,
} from '@libkvm/minidump-core';
import { ElfFile } from './elf-file.js';
import { formatRegisters } from './elf-registers-note.js';
import { findTables, type Tables } from './image-tables.js';
import { openElfImage, openRawImage, type MemoryImage, type RawRange } from './memory-image.js';

/**
 * ELF cores with physical segments, walked through the page tables that their registers name, or, in FreeBSD's full dumps,
 * the symbols of the kernel.
 */
export const elfImageFormat: CoreFormat = {
  name: 'ELF core with physical memory',
  probe: (head) =>
    head.length >= 4 && head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46,
  open: (cache, context) => {
    const { architectures } = context;
    return coreOfImage('elf', openElfImage(cache, ElfFile.open(cache), { architectures }), context);
  },
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
 * A memory image as a core. Its page tables are found by registers, the image's own or given ones, or by the symbols of
 * the kernel. Where they are not, the core has no address space and says why: physical memory can be read all the same.
 *
 * @throws KvmError `INVALID_ARGUMENT` for an architecture that was not given, or given registers that do not suffice
 */
export function coreOfImage(format: string, image: MemoryImage, context: FormatContext): Core {
  const architecture = architectureOf(image, context);
  const byteOrder =
    context.image?.byteOrder ?? image.identity?.byteOrder ?? architecture?.byteOrders[0] ?? 'little';
  const own = registersOf(image, context);
  const tables = findTables(architecture, image, { own, byteOrder }, context);
  const { addressSpace, why, root } = tables;
  return {
    format,
    architecture: architecture?.name ?? 'unknown',
    byteOrder,
    bits: architecture?.bits ?? image.identity?.bits ?? 64,
    pageSize: architecture?.pageSizes.find((size) => size >= 4096) ?? 4096,
    ...(addressSpace?.pteFormat !== undefined && { pteFormat: addressSpace.pteFormat }),
    ...(root?.kernbase !== undefined && { kernbase: root.kernbase }),
    ...elfMachineOf(image, architecture),
    sections: image.sections,
    memory: image.memory,
    ...(addressSpace && { addressSpace, registers: tables.registers }),
    ...(why && { whyPhysicalOnly: why }),
    notes: notesOf(image, tables, context),
    cache: image.cache,
    warnings: [...image.warnings, ...tables.warnings],
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

/** The image's own registers of the processor that is asked for. */
function registersOf(image: MemoryImage, { image: options }: FormatContext): Registers {
  const cpu = options?.cpu ?? 0;
  if (cpu === 0 || cpu < image.cpus.length) return image.cpus[cpu]?.registers ?? {};
  throw new KvmError(
    'INVALID_ARGUMENT',
    `the image has registers of ${image.cpus.length} processors, none of ${cpu}`,
    { field: 'cpu', hint: 'processors count from 0' },
  );
}

function elfMachineOf(image: MemoryImage, architecture: Architecture | undefined): { elfMachine?: number } {
  const machine = architecture?.elfMachines[0] ?? image.identity?.machine;
  return machine === undefined ? {} : { elfMachine: machine };
}

/** Registers as text, a processor a line; control registers of the one that is walked are those in use. */
function notesOf(
  image: MemoryImage,
  { registers, root }: Tables,
  context: FormatContext,
): Record<string, string> {
  const walked = context.image?.cpu ?? 0;
  const cpus = image.cpus.map((cpu, i) => (i === walked ? { ...cpu, registers } : cpu));
  if (cpus.length === 0 && Object.keys(registers).length > 0) {
    cpus.push({ registers, assumed: [], general: {} });
  }
  return {
    ...(cpus.length > 0 && { registers: formatRegisters(cpus) }),
    ...(root?.kernphys !== undefined && { kernphys: `0x${root.kernphys.toString(16)}` }),
  };
}

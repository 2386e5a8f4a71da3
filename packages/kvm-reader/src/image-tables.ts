import {
  KvmError,
  isKvmError,
  type AddressSpace,
  type Architecture,
  type ByteOrder,
  type FormatContext,
  type FoundRoot,
  type Registers,
} from '@libkvm/minidump-core';
import type { MemoryImage } from './memory-image.js';

/** The page tables of a memory image: an address space, or the reason why there is none. */
export interface Tables {
  readonly addressSpace?: AddressSpace;
  /** The registers that it is walked with. */
  readonly registers: Registers;
  /** What the kernel's symbols told, where they were asked. */
  readonly root?: FoundRoot;
  readonly why?: KvmError;
  readonly warnings: readonly string[];
}

/** What the image itself says of its processors. */
interface ImageFacts {
  /** Registers of the processor that is walked. */
  readonly own: Registers;
  readonly byteOrder: ByteOrder;
}

const HINT =
  'give the kernel file of this core (--kernel), or registers of a processor (--reg CR3=...; on arm TTBR0 and TTBCR) ' +
  'and, where the file does not say it, the architecture (--arch)';

/**
 * Finds page tables: by the registers that the image has and those given by hand, which win; where these do not suffice,
 * through variables of the kernel, whose registers then come last.
 *
 * @throws KvmError `INVALID_ARGUMENT` for given registers that do not suffice, with the kernel's or without;
 *   `UNSUPPORTED`
 */
export function findTables(
  architecture: Architecture | undefined,
  image: MemoryImage,
  { own, byteOrder }: ImageFacts,
  context: FormatContext,
): Tables {
  const given = { ...own, ...context.image?.registers };
  const none = { registers: given, warnings: [] };
  if (architecture?.walker === undefined)
    return { ...none, why: physicalOnly('its architecture is not known') };
  const direct = Object.keys(given).length === 0 ? undefined : tryWalk(architecture, image, given, context);
  if (direct?.addressSpace) return { ...none, addressSpace: direct.addressSpace };
  const found = tryRoot(architecture, image, byteOrder, context);
  if ('why' in found) {
    // Registers given by hand are a mistake of the caller; a note may say anything.
    if (direct && context.image?.registers) throw direct.error;
    const why = direct?.error ?? found.why;
    const warnings = image.identity ? [`KVAs cannot be resolved: ${why.message}`] : [];
    return { ...none, why, warnings };
  }
  const { root } = found;
  const registers = { ...root.registers, ...given };
  const addressSpace = walk(architecture, image, registers, context, root.pteFormat);
  return { addressSpace, registers, root, warnings: root.warnings };
}

/** The error says which register is missing. */
function tryWalk(
  architecture: Architecture,
  image: MemoryImage,
  registers: Registers,
  context: FormatContext,
): { addressSpace: AddressSpace; error?: undefined } | { error: KvmError; addressSpace?: undefined } {
  try {
    return { addressSpace: walk(architecture, image, registers, context) };
  } catch (error) {
    if (isKvmError(error, 'INVALID_ARGUMENT')) return { error };
    throw error;
  }
}

function walk(
  architecture: Architecture,
  { memory }: MemoryImage,
  registers: Registers,
  { image: options }: FormatContext,
  foundFormat?: string,
): AddressSpace {
  const pteFormat = options?.pteFormat ?? foundFormat;
  return architecture.walker!(memory, {
    registers,
    ...(options?.byteOrder && { byteOrder: options.byteOrder }),
    ...(pteFormat !== undefined && { pteFormat }),
  });
}

/** Asks the kernel's symbols. Nothing that they lead to keeps the image from opening. */
function tryRoot(
  architecture: Architecture,
  { memory, dumpDelta }: MemoryImage,
  byteOrder: ByteOrder,
  { symbols, image: options, ruledOut }: FormatContext,
): { readonly root: FoundRoot } | { readonly why: KvmError } {
  if (architecture.findRoot === undefined)
    return { why: physicalOnly('its notes have no control registers') };
  if (symbols === undefined) {
    return {
      why: physicalOnly('its notes have no control registers, and no kernel was given to find them by'),
    };
  }
  try {
    const root = architecture.findRoot(memory, {
      ...{ symbols, byteOrder },
      ...(dumpDelta && { delta: dumpDelta }),
      ...(ruledOut && { ruledOut }),
      ...(options?.pteFormat !== undefined && { pteFormat: options.pteFormat }),
    });
    return { root };
  } catch (error) {
    // A kernel file that is damaged is no reason either.
    if (!isKvmError(error) || isKvmError(error, 'IO', 'ABORTED', 'INVALID_ARGUMENT')) throw error;
    return { why: error };
  }
}

function physicalOnly(reason: string): KvmError {
  return new KvmError('UNSUPPORTED', `this image has physical memory only: ${reason}`, {
    field: 'registers',
    hint: HINT,
  });
}

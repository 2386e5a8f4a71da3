import {
  KVA_PAGE,
  KvmError,
  MAPPED,
  NOT_CANONICAL,
  TABLE_ABSENT,
  TABLE_TRUNCATED,
  TRUNCATED,
  UNSUPPORTED_ENTRY,
  kvaOf,
  toHex,
  type Core,
  type KvmErrorDetails,
  type PhysicalMemory,
} from '@libkvm/minidump-core';
import type { Translator } from './translator.js';

/** How much of a read was done when it failed. */
export interface Progress {
  readonly length: number;
  readonly bytesDone: number;
}

/** Why the byte at an address cannot be read: translates it again and says what is in the way. */
export function virtualFault(
  translator: Translator,
  page: number,
  offset: number,
  progress?: Progress,
): KvmError {
  const address =
    page >= translator.endPage ? kvaOf(translator.endPage - 1, KVA_PAGE - 1) + 1n : kvaOf(page, offset);
  const where: KvmErrorDetails = { address, addressSpace: 'virtual', ...progress };
  if (page >= translator.endPage) {
    return new KvmError('NOT_CANONICAL', `the address space ends at ${toHex(address)}`, {
      ...where,
      hint: 'ask for fewer bytes',
    });
  }
  const { translation } = translator;
  const outcome = translator.translate(page, offset);
  const holeLength = translation.length;
  if (outcome === MAPPED) {
    const details = { ...where, physicalAddress: translation.pa };
    return pageFault(translator.core.memory, translation.pa, translation.length, toHex(address), details);
  }
  switch (outcome) {
    case NOT_CANONICAL:
      return new KvmError('NOT_CANONICAL', `no such address on this machine: ${toHex(address)}`, {
        ...where,
        holeLength,
        hint: 'the upper bits of an address must all equal its highest translated bit',
      });
    case TABLE_ABSENT:
    case TABLE_TRUNCATED:
      return tableFault(outcome === TABLE_TRUNCATED, translation.pa, { ...where, holeLength });
    case UNSUPPORTED_ENTRY:
      return new KvmError('UNSUPPORTED', `the page-table entry of ${toHex(address)} has no defined meaning`, {
        ...where,
        holeLength,
        hint: 'the page table is damaged, or is none: what it should map may be in the direct map',
      });
    default:
      if (translator.core.addressSpace === undefined) return noAddressSpace(translator.core, where);
      return new KvmError('NOT_MAPPED', `not mapped: ${toHex(address)}`, {
        ...where,
        holeLength,
        ...belowKernbase(translator.core, address),
      });
  }
}

/** Why the byte at a physical address cannot be read. */
export function physicalFault(memory: PhysicalMemory, pa: number, progress?: Progress): KvmError {
  const details: KvmErrorDetails = {
    address: BigInt(pa),
    addressSpace: 'physical',
    physicalAddress: pa,
    ...progress,
  };
  return pageFault(memory, pa, 2 ** 52, `PA ${toHex(pa)}`, details);
}

function pageFault(
  memory: PhysicalMemory,
  pa: number,
  limit: number,
  what: string,
  where: KvmErrorDetails,
): KvmError {
  const holeLength = memory.hole(pa, limit);
  const details = { ...where, holeLength };
  const at = where.addressSpace === 'virtual' ? ` (PA ${toHex(pa)})` : '';
  if (memory.locate(pa) === TRUNCATED) {
    return new KvmError('TRUNCATED', `${what}${at}: the file ends before this page`, {
      ...details,
      hint: 'the core is cut short; copy it again or make a new one',
    });
  }
  const inRam = memory.ranges.has(pa);
  return new KvmError('NOT_DUMPED', `${what}${at}: the page is not in the core`, {
    ...details,
    hint: inRam
      ? 'the kernel did not dump this page; a full dump would have it'
      : "the address lies outside the machine's memory (a device, or a hole)",
  });
}

/** Tables of a minidump start at kernbase; those that a processor walks map user addresses as well. */
function belowKernbase({ kernbase, format }: Core, address: bigint): { hint?: string } {
  if (kernbase === undefined || address >= kernbase || format === 'elf' || format === 'raw') return {};
  return { hint: `this core describes addresses from ${toHex(kernbase)} on: the kernel's` };
}

function noAddressSpace({ whyPhysicalOnly: why }: Core, details: KvmErrorDetails): KvmError {
  const message = why?.message ?? 'this image has physical memory only: its page tables are not known';
  return new KvmError('UNSUPPORTED', message, {
    ...details,
    hint:
      why?.hint ??
      'give the kernel file (--kernel), or registers of a processor (--reg) and the architecture',
    ...(why && { cause: why }),
  });
}

function tableFault(truncated: boolean, tablePa: number, details: KvmErrorDetails): KvmError {
  const address = details.address ?? 0n;
  const why = truncated ? 'lies past the end of the file' : 'is not in the core';
  return new KvmError(
    truncated ? 'TRUNCATED' : 'NOT_DUMPED',
    `${toHex(address)}: its page table at PA ${toHex(tablePa)} ${why}, so whether it is mapped is unknown`,
    { ...details, hint: 'what this table maps can still be read through the direct map, if its PA is known' },
  );
}

import {
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_SHIFT,
  USER,
  WRITE,
  type ByteOrder,
  type EntryHalves,
  type LeafKind,
  type TableEncoder,
} from '@libkvm/minidump-core';
import { armLpaeFormat } from './lpae-format.js';
import { armOldTableEncoder } from './old-table-encoder.js';
import { ARM_PTE_FORMATS } from './pte-format.js';
import { completeArmRegisters } from './complete-registers.js';
import { armV6TableEncoder } from './short-table-encoder.js';

const PHYSICAL_LIMIT = 2 ** 40;
const ACCESSED = 1 << 10;
const INNER_SHAREABLE = 3 << 8;
const AP1_USER = 1 << 6;
const AP2_READ_ONLY = 1 << 7;
const NOT_GLOBAL = 1 << 11;
/** Bits 54 and 53, XN and PXN, in the high half. */
const NEVER_EXECUTED = 0x60_0000;

/** The encoder for a page-table format of this architecture. */
export function armTableEncoder(pteFormat: string, byteOrder: ByteOrder): TableEncoder | undefined {
  const name = ARM_PTE_FORMATS.find((known) => known === pteFormat);
  if (name === undefined) return undefined;
  if (name === 'v6') return armV6TableEncoder(byteOrder);
  return name === 'lpae' ? armLpaeTableEncoder(byteOrder) : armOldTableEncoder(name, byteOrder);
}

/**
 * Long descriptors (Arm ARM DDI 0406, B3.6): all addresses through TTBR0 (T0SZ and T1SZ 0), three levels of which the
 * first has 4 entries.
 */
export function armLpaeTableEncoder(byteOrder: ByteOrder): TableEncoder {
  return {
    format: armLpaeFormat,
    byteOrder,
    levels: [
      { shift: 12, entries: 512, tableBytes: 4096 },
      { shift: 21, entries: 512, tableBytes: 4096 },
      { shift: 30, entries: 4, tableBytes: 4096 },
    ],
    leaves: [
      { size: 0x1000, level: 1, physicalLimit: PHYSICAL_LIMIT },
      { size: 0x20_0000, level: 2, physicalLimit: PHYSICAL_LIMIT },
      { size: 0x4000_0000, level: 3, physicalLimit: PHYSICAL_LIMIT },
    ],
    tableLimit: PHYSICAL_LIMIT,
    encodeLeaf,
    encodeTable(_level: number, pa: number, out: EntryHalves): void {
      out.low = (pa | 3) >>> 0;
      out.high = Math.floor(pa / 0x1_0000_0000);
    },
    registers: (root) => completeArmRegisters({ TTBR0: BigInt(root) }, 'lpae', byteOrder),
    completeRegisters: (registers) => completeArmRegisters(registers, 'lpae', byteOrder),
  };
}

function encodeLeaf({ level }: LeafKind, pa: number, flags: number, out: EntryHalves): void {
  const attributes =
    (level === 1 ? 3 : 1) |
    (((flags >>> MEMORY_TYPE_SHIFT) & 7) << 2) |
    (flags & USER ? AP1_USER : 0) |
    (flags & WRITE ? 0 : AP2_READ_ONLY) |
    INNER_SHAREABLE |
    ACCESSED |
    (flags & GLOBAL ? 0 : NOT_GLOBAL);
  out.low = (pa | attributes) >>> 0;
  out.high = Math.floor(pa / 0x1_0000_0000) | (flags & EXECUTE ? 0 : NEVER_EXECUTED);
}

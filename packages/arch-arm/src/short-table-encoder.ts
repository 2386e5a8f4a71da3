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
  type TableLevel,
} from '@libkvm/minidump-core';
import { completeArmRegisters } from './complete-registers.js';
import { SCTLR_AFE, SCTLR_M, SCTLR_XP, unsigned } from './registers.js';
import { ArmV6Format } from './v6-format.js';

const FOUR_GB = 2 ** 32;
const MB = 0x10_0000;
const SUPERSECTION = 1 << 18;

/** The first-level table of all short descriptors: 16 KB, on a boundary of 16 KB. */
export const FIRST_LEVEL: TableLevel = { shift: 20, entries: 4096, tableBytes: 0x4000 };
/** Second-level tables of 1 KB. */
export const COARSE: TableLevel = { shift: 12, entries: 256, tableBytes: 0x400 };

const KINDS: readonly LeafKind[] = [
  { size: 0x1000, level: 1, physicalLimit: FOUR_GB },
  { size: 0x1_0000, level: 1, physicalLimit: FOUR_GB },
  { size: MB, level: 2, physicalLimit: FOUR_GB },
  { size: 16 * MB, level: 2, physicalLimit: 2 ** 40 },
];

/** One table for all addresses, and the access flag. */
const REGISTERS = { TTBCR: 0n, SCTLR: unsigned(SCTLR_M | SCTLR_XP | SCTLR_AFE) };

/**
 * Short descriptors of ARMv6 and ARMv7 (Arm ARM DDI 0406, B3.5.1), for a processor with the access flag enabled, as
 * FreeBSD has it (sys/arm/arm/pmap-v6.c). The flag itself, AP[0], is set, so that the entries mean the same without.
 */
export function armV6TableEncoder(byteOrder: ByteOrder): TableEncoder {
  return {
    format: new ArmV6Format({ accessFlag: true }),
    byteOrder,
    levels: [COARSE, FIRST_LEVEL],
    leaves: KINDS,
    tableLimit: FOUR_GB,
    encodeLeaf,
    encodeTable(_level: number, pa: number, out: EntryHalves): void {
      out.low = (pa | 1) >>> 0;
      out.high = 0;
    },
    registers: (root) => completeArmRegisters({ ...REGISTERS, TTBR0: BigInt(root) }, 'v6', byteOrder),
    completeRegisters: (registers) => completeArmRegisters(registers, 'v6', byteOrder),
  };
}

/** The bits of the PA of a supersection: PA[35:32] and PA[39:36], which processors before ARMv6 do not have. */
export function supersectionAddress(pa: number): number {
  const high = Math.floor(pa / FOUR_GB);
  return (pa % FOUR_GB) | SUPERSECTION | ((high & 0xf) << 20) | ((high & 0xf0) << 1);
}

function encodeLeaf({ size }: LeafKind, pa: number, flags: number, out: EntryHalves): void {
  const type = flags >>> MEMORY_TYPE_SHIFT;
  const [cacheable, tex] = [(type & 3) << 2, (type >>> 2) & 7];
  const access = 1 | (flags & USER ? 2 : 0);
  const readOnly = flags & WRITE ? 0 : 1;
  const notGlobal = flags & GLOBAL ? 0 : 1;
  const never = flags & EXECUTE ? 0 : 1;
  out.high = 0;
  if (size < MB) {
    const common = pa | (access << 4) | (readOnly << 9) | (notGlobal << 11) | cacheable;
    out.low = common | (size === 0x1000 ? 2 | never | (tex << 6) : 1 | (never << 15) | (tex << 12));
  } else {
    const address = size === MB ? pa : supersectionAddress(pa);
    const attributes = (access << 10) | (readOnly << 15) | (notGlobal << 17) | (never << 4) | (tex << 12);
    out.low = address | attributes | cacheable | 2;
  }
  out.low >>>= 0;
}

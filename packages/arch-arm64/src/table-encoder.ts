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
import { Arm64Format } from './format.js';
import { hasBlocks, levelShift, pageShift, type Granule } from './granule.js';
import { SCTLR_EE, SCTLR_M, arm64Register } from './registers.js';

/** Addresses of 48 bits, both virtual ones of either half and physical ones. */
const BITS = 48;
const PHYSICAL_LIMIT = 2 ** BITS;
const TOP_PAGE = 2 ** 52;
const HALF_PAGES = 2 ** (BITS - 12);

const ACCESSED = 1 << 10;
const INNER_SHAREABLE = 3 << 8;
const AP1_USER = 1 << 6;
const AP2_READ_ONLY = 1 << 7;
const NOT_GLOBAL = 1 << 11;
/** Bits 54 and 53, UXN and PXN, in the high half. */
const NEVER_EXECUTED = 0x60_0000;

/** TCR_EL1 for 48 bits: T0SZ and T1SZ 16, IPS 5, and the granules in TG0 (15:14) and TG1 (31:30). */
const TCR = 0x5_0010_0010n;
const GRANULE_FIELDS: Readonly<Record<Granule, bigint>> = {
  0x1000: 0x8000_0000n,
  0x4000: 0x4000_8000n,
  0x1_0000: 0xc000_4000n,
};

/**
 * The encoder for the tables of one granule, by the name of the format: `arm64-4k`, `arm64-16k`, `arm64-64k`. Without a
 * name, as where the halves of an address space have different granules, the smallest one, which can map all.
 */
export function arm64TableEncoder(pteFormat: string, byteOrder: ByteOrder): TableEncoder | undefined {
  const granules = [0x1000, 0x4000, 0x1_0000] as const;
  const granule =
    pteFormat === '' ? granules[0] : granules.find((size) => pteFormat === `arm64-${size / 1024}k`);
  return granule === undefined ? undefined : encoder(granule, byteOrder);
}

/**
 * Stage 1 tables of EL1 (Arm ARM DDI 0487, D8.3) for both halves of the address space: one root of two granules, of which
 * the first is that of TTBR0, the second that of TTBR1.
 */
function encoder(granule: Granule, byteOrder: ByteOrder): TableEncoder {
  const page = pageShift(granule);
  const depth = Math.ceil((BITS - page) / (page - 3));
  const entries = granule / 8;
  const rootPages = 2 ** (levelShift(granule, depth) - 12);
  return {
    format: new Arm64Format(granule),
    byteOrder,
    levels: Array.from({ length: depth }, (_, i) => {
      const halves = i === depth - 1 ? 2 : 1;
      return {
        shift: levelShift(granule, i + 1),
        entries: entries * halves,
        tableBytes: granule * halves,
      };
    }),
    leaves: leavesOf(granule, depth),
    tableLimit: PHYSICAL_LIMIT,
    hole: { fromPage: HALF_PAGES, toPage: TOP_PAGE - HALF_PAGES },
    rootIndex: (at) =>
      at < HALF_PAGES
        ? Math.floor(at / rootPages)
        : entries + Math.floor((at - (TOP_PAGE - HALF_PAGES)) / rootPages),
    encodeLeaf,
    encodeTable(_level: number, pa: number, out: EntryHalves): void {
      out.low = (pa | 3) >>> 0;
      out.high = Math.floor(pa / 0x1_0000_0000);
    },
    registers: (root) => ({
      ...{ TTBR0: BigInt(root), TTBR1: BigInt(root + granule) },
      TCR: TCR | GRANULE_FIELDS[granule],
      SCTLR: SCTLR_M | (byteOrder === 'big' ? SCTLR_EE : 0n),
    }),
    completeRegisters: (registers) => {
      const sctlr = (arm64Register(registers, 'SCTLR') ?? SCTLR_M) & ~SCTLR_EE;
      return { ...registers, SCTLR: sctlr | (byteOrder === 'big' ? SCTLR_EE : 0n) };
    },
  };
}

function leavesOf(granule: Granule, depth: number): LeafKind[] {
  const levels = Array.from({ length: depth }, (_, i) => i + 1);
  return levels
    .filter((level) => level === 1 || hasBlocks(granule, level))
    .map((level) => ({ size: 2 ** levelShift(granule, level), level, physicalLimit: PHYSICAL_LIMIT }));
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

import {
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_SHIFT,
  USER,
  WRITE,
  type EntryHalves,
  type LeafKind,
  type TableEncoder,
} from '@libkvm/minidump-core';
import { HOLE_4_LEVEL, HOLE_5_LEVEL } from './canonical.js';
import { amd64Format, PHYSICAL_LIMIT } from './format.js';

/** Present, accessed, dirty: as in the entries that a kernel has used. */
const IN_USE = 0x61;
const RW = 2;
const US = 4;
const PS = 0x80;
const PAT_SMALL = 0x80;
const G = 0x100;
const PAT_LARGE = 0x1000;
const XD_HIGH = 0x8000_0000;

const CR0 = 0x8001_0001n; // PG, WP, PE
const CR4_PAE = 0x20n;
const CR4_LA57 = 0x1000n;
const EFER = 0xd00n; // NXE, LMA, LME

const KINDS: readonly LeafKind[] = [
  { size: 0x1000, level: 1, physicalLimit: PHYSICAL_LIMIT },
  { size: 0x20_0000, level: 2, physicalLimit: PHYSICAL_LIMIT },
  { size: 0x4000_0000, level: 3, physicalLimit: PHYSICAL_LIMIT },
];

/** Page tables of 4 levels, and of 5 where something is mapped that 4 do not reach. */
export const amd64TableEncoder: TableEncoder = { ...encoder(4), alternative: encoder(5) };

/** Intel SDM volume 3, section 5.5. Tables take no right away: those of a leaf are its own. */
function encoder(levels: 4 | 5): TableEncoder {
  return {
    format: amd64Format,
    byteOrder: 'little',
    levels: Array.from({ length: levels }, (_, i) => ({ shift: 12 + 9 * i, entries: 512, tableBytes: 4096 })),
    leaves: KINDS,
    tableLimit: PHYSICAL_LIMIT,
    hole: levels === 4 ? HOLE_4_LEVEL : HOLE_5_LEVEL,
    encodeLeaf,
    encodeTable(_level: number, pa: number, out: EntryHalves): void {
      out.low = (pa | IN_USE | RW | US) >>> 0;
      out.high = Math.floor(pa / 0x1_0000_0000);
    },
    registers: (root) => ({
      ...{ CR0, CR3: BigInt(root), CR4: levels === 5 ? CR4_PAE | CR4_LA57 : CR4_PAE, EFER },
    }),
  };
}

function encodeLeaf({ level }: LeafKind, pa: number, flags: number, out: EntryHalves): void {
  const type = flags >>> MEMORY_TYPE_SHIFT;
  const pat = level === 1 ? PAT_SMALL : PAT_LARGE;
  const attributes =
    IN_USE |
    (level > 1 ? PS : 0) |
    (flags & WRITE ? RW : 0) |
    (flags & USER ? US : 0) |
    (flags & GLOBAL ? G : 0) |
    ((type & 3) << 3) |
    (type & 4 ? pat : 0);
  out.low = (pa | attributes) >>> 0;
  out.high = (Math.floor(pa / 0x1_0000_0000) | (flags & EXECUTE ? 0 : XD_HIGH)) >>> 0;
}

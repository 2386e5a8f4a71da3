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
import { PHYSICAL_LIMIT } from './address-width.js';
import { i386NopaeFormat } from './format-nopae.js';
import { i386PaeFormat } from './format-pae.js';
import { PAT_LARGE, PAT_SMALL } from './leaf-flags.js';

/** Present, accessed, dirty: as in the entries that a kernel has used. */
const IN_USE = 0x61;
const PRESENT = 1;
const RW = 2;
const US = 4;
const PS = 0x80;
const G = 0x100;
const XD_HIGH = 0x8000_0000;
const FOUR_GB = 2 ** 32;

const CR0 = 0x8001_0001n; // PG, WP, PE
const CR4_PSE = 0x10n;
const CR4_PAE = 0x20n;
const EFER_NXE = 0x800n;

/** 32-bit paging with 4 MB pages, of up to 40 address bits (Intel SDM volume 3, section 5.3). */
export const i386NopaeTableEncoder: TableEncoder = {
  format: i386NopaeFormat,
  byteOrder: 'little',
  levels: [
    { shift: 12, entries: 1024, tableBytes: 4096 },
    { shift: 22, entries: 1024, tableBytes: 4096 },
  ],
  leaves: [
    { size: 0x1000, level: 1, physicalLimit: FOUR_GB },
    { size: 0x40_0000, level: 2, physicalLimit: 2 ** 40 },
  ],
  tableLimit: FOUR_GB,
  encodeLeaf({ level }: LeafKind, pa: number, flags: number, out: EntryHalves): void {
    const high = Math.floor(pa / FOUR_GB);
    out.low = (pa | attributes(level, flags) | (high << 13)) >>> 0;
    out.high = 0;
  },
  encodeTable(_level: number, pa: number, out: EntryHalves): void {
    out.low = (pa | IN_USE | RW | US) >>> 0;
    out.high = 0;
  },
  registers: (root) => ({ CR0, CR3: BigInt(root), CR4: CR4_PSE }),
};

/**
 * PAE paging (Intel SDM volume 3, section 5.4). CR3 has 32 bits, so that at least the page-directory pointers have to lie
 * below 4 GB; here all tables do.
 */
export const i386PaeTableEncoder: TableEncoder = {
  format: i386PaeFormat,
  byteOrder: 'little',
  levels: [
    { shift: 12, entries: 512, tableBytes: 4096 },
    { shift: 21, entries: 512, tableBytes: 4096 },
    { shift: 30, entries: 4, tableBytes: 4096 },
  ],
  leaves: [
    { size: 0x1000, level: 1, physicalLimit: PHYSICAL_LIMIT },
    { size: 0x20_0000, level: 2, physicalLimit: PHYSICAL_LIMIT },
  ],
  tableLimit: FOUR_GB,
  encodeLeaf({ level }: LeafKind, pa: number, flags: number, out: EntryHalves): void {
    out.low = (pa | attributes(level, flags)) >>> 0;
    out.high = (Math.floor(pa / FOUR_GB) | (flags & EXECUTE ? 0 : XD_HIGH)) >>> 0;
  },
  encodeTable(level: number, pa: number, out: EntryHalves): void {
    // All but the present bit and the frame of a page-directory pointer is reserved or ignored.
    out.low = (pa | (level === 3 ? PRESENT : IN_USE | RW | US)) >>> 0;
    out.high = 0;
  },
  registers: (root) => ({ CR0, CR3: BigInt(root), CR4: CR4_PAE, EFER: EFER_NXE }),
};

/** The encoder for a page-table format of this architecture. */
export function i386TableEncoder(pteFormat: string): TableEncoder | undefined {
  return { nopae: i386NopaeTableEncoder, pae: i386PaeTableEncoder }[pteFormat];
}

/** The low bits of a leaf, where both formats have the same. */
function attributes(level: number, flags: number): number {
  const type = flags >>> MEMORY_TYPE_SHIFT;
  return (
    IN_USE |
    (level > 1 ? PS : 0) |
    (flags & WRITE ? RW : 0) |
    (flags & USER ? US : 0) |
    (flags & GLOBAL ? G : 0) |
    ((type & 3) << 3) |
    (type & 4 ? (level > 1 ? PAT_LARGE : PAT_SMALL) : 0)
  );
}

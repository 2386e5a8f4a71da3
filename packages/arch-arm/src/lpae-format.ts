import { EXECUTE, GLOBAL, READ, USER, WRITE, type RadixFormat, type TableEntry } from '@libkvm/minidump-core';
import { ALL_RIGHTS, longMemoryType } from './access.js';

/** log2 of the bytes that an entry of each level spans: 1 (the manual's third level), 2 (second) and 3 (first). */
const SHIFT = [0, 12, 21, 30];

const AP1_USER = 1 << 6;
const AP2_READ_ONLY = 1 << 7;
const NOT_GLOBAL = 1 << 11;
/** Bits 54 (XN) and 53 (PXN), and in tables bits 62:59, of the high half. */
const NEVER_EXECUTED = (1 << 22) | (1 << 21);
const TABLE_NO_WRITE = 1 << 30;
const TABLE_NO_USER = 1 << 29;
const TABLE_NEVER_EXECUTED = (1 << 28) | (1 << 27);
/** PA[39:32]; bits 51:40 of an entry are reserved. */
const HIGH_ADDRESS = 0xff;

/**
 * Long descriptors of the Large Physical Address Extension (Arm ARM DDI 0406, B3.6.1): 8-byte entries, physical addresses
 * of 40 bits, pages of 4 KB and blocks of 2 MB and 1 GB. Levels count from the leaves: level 3 here is the manual's first.
 *
 * EXECUTE is the privileged view: XN or PXN, of the entry or of a table above it, takes it away. The contiguous hint
 * (bit 52) changes nothing, as each of its entries is complete.
 */
export const armLpaeFormat: RadixFormat = {
  name: 'lpae',
  entryBytes: 8,
  decode(level: number, low: number, high: number, out: TableEntry): void {
    if ((low & 1) === 0) return out.setInvalid();
    const upper = (high & HIGH_ADDRESS) * 0x1_0000_0000;
    const table = (low & 2) !== 0;
    if (level === 1) {
      if (!table) return out.setInvalid();
      return out.setLeaf(upper + ((low & 0xffff_f000) >>> 0), 0x1000, leafRights(low, high));
    }
    if (table)
      return out.setTable(upper + ((low & 0xffff_f000) >>> 0), SHIFT[level - 1], 512, tableRights(high));
    const shift = SHIFT[level];
    out.setLeaf(upper + ((low & (-1 << shift)) >>> 0), 1 << shift, leafRights(low, high));
  },
};

/** AP[2:1]: 00 privileged read and write, 01 the same for all, 10 privileged read, 11 read for all (DDI 0406, B3.7.1). */
function leafRights(low: number, high: number): number {
  return (
    READ |
    (low & AP2_READ_ONLY ? 0 : WRITE) |
    (high & NEVER_EXECUTED ? 0 : EXECUTE) |
    (low & AP1_USER ? USER : 0) |
    (low & NOT_GLOBAL ? 0 : GLOBAL) |
    longMemoryType(low)
  );
}

/** What APTable, XNTable and PXNTable leave to the entries below (DDI 0406, B3.6.2 "Hierarchical control"). */
function tableRights(high: number): number {
  const lost =
    (high & TABLE_NO_WRITE ? WRITE : 0) |
    (high & TABLE_NO_USER ? USER : 0) |
    (high & TABLE_NEVER_EXECUTED ? EXECUTE : 0);
  return ALL_RIGHTS & ~lost;
}

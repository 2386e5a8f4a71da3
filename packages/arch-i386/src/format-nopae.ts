import { EXECUTE, READ, USER, WRITE, type RadixFormat, type TableEntry } from '@libkvm/minidump-core';
import { PAT_LARGE, PAT_SMALL, leafFlags } from './leaf-flags.js';

const PRESENT = 1;
const RW = 2;
const US = 4;
/** Bit 7: page size in level 2 (where CR4.PSE allows it), PAT in level 1. */
const PS = 0x80;
const FRAME_4K = 0xffff_f000;
const FRAME_4M = 0xffc0_0000;
/** PSE-36: bits 20:13 of the entry of a 4 MB page are bits 39:32 of its address. */
const HIGH_SHIFT = 13;
const HIGH_MASK = 0xff;

/**
 * Page-table entries of 32-bit paging (Intel SDM volume 3, section 5.3): levels 1 (page table) and 2 (page directory), 4
 * bytes each. Everything that is readable is executable.
 *
 * Addresses of 4 MB pages have 40 bits (PSE-36). FreeBSD's non-PAE kernels leave the upper ones 0.
 */
export const i386NopaeFormat: RadixFormat = nopae(true);

/** The same with CR4.PSE clear: bit 7 of a directory entry is ignored, it always names a page table. */
export const i386NopaeSmallFormat: RadixFormat = nopae(false);

function nopae(bigPages: boolean): RadixFormat {
  return {
    name: 'nopae',
    entryBytes: 4,
    decode(level: number, low: number, _high: number, out: TableEntry): void {
      if ((low & PRESENT) === 0) return out.setInvalid();
      const flags = READ | EXECUTE | (low & RW ? WRITE : 0) | (low & US ? USER : 0);
      const small = (low & FRAME_4K) >>> 0;
      if (level === 1) return out.setLeaf(small, 0x1000, flags | leafFlags(low, PAT_SMALL));
      if (!bigPages || (low & PS) === 0) return out.setTable(small, 12, 1024, flags);
      const high = (low >>> HIGH_SHIFT) & HIGH_MASK;
      const frame = high * 0x1_0000_0000 + ((low & FRAME_4M) >>> 0);
      out.setLeaf(frame, 0x40_0000, flags | leafFlags(low, PAT_LARGE));
    },
  };
}

import { EXECUTE, READ, USER, WRITE, type RadixFormat, type TableEntry } from '@libkvm/minidump-core';
import { PAT_LARGE, PAT_SMALL, leafFlags } from './leaf-flags.js';

const PRESENT = 1;
const RW = 2;
const US = 4;
/** Bit 7: page size in level 2, PAT in level 1, not looked at in level 3. */
const PS = 0x80;
/** Bit 63 (bit 31 of the high half): execute disable. */
const XD_HIGH = 0x8000_0000;
/** Bits 51:32 of the frame. */
const FRAME_HIGH = 0x000f_ffff;
const FRAME_4K = 0xffff_f000;
const FRAME_2M = 0xffe0_0000;

/**
 * Page-table entries of PAE paging (Intel SDM volume 3, section 5.4): levels 1 (page table), 2 (page directory) and 3
 * (the four page-directory pointers), 8 bytes each. 2 MB pages need no CR4.PSE.
 *
 * Of a page-directory pointer only the present bit and the frame mean anything: it takes no rights away and maps no
 * page.
 */
export const i386PaeFormat: RadixFormat = {
  name: 'pae',
  entryBytes: 8,
  decode(level: number, low: number, high: number, out: TableEntry): void {
    if ((low & PRESENT) === 0) return out.setInvalid();
    const frameHigh = (high & FRAME_HIGH) * 0x1_0000_0000;
    const small = frameHigh + ((low & FRAME_4K) >>> 0);
    if (level === 3) return out.setTable(small, 21, 512, READ | WRITE | EXECUTE | USER);
    const flags = READ | (low & RW ? WRITE : 0) | (high & XD_HIGH ? 0 : EXECUTE) | (low & US ? USER : 0);
    if (level === 1) return out.setLeaf(small, 0x1000, flags | leafFlags(low, PAT_SMALL));
    if ((low & PS) === 0) return out.setTable(small, 12, 512, flags);
    out.setLeaf(frameHigh + ((low & FRAME_2M) >>> 0), 0x20_0000, flags | leafFlags(low, PAT_LARGE));
  },
};

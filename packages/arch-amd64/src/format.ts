import {
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_SHIFT,
  READ,
  USER,
  WRITE,
  type RadixFormat,
  type TableEntry,
} from '@libkvm/minidump-core';

/** Physical addresses of this architecture lie below 2^52 (Intel SDM volume 3, section 5.5, MAXPHYADDR at most 52). */
export const PHYSICAL_LIMIT = 2 ** 52;

const PRESENT = 1;
const RW = 2;
const US = 4;
/** Bit 7: page size in levels 2 and 3, PAT in level 1, reserved above. */
const PS = 0x80;
const G = 0x100;
/** Bit 12: PAT in levels 2 and 3. */
const PAT_LARGE = 0x1000;
/** Bit 63 (bit 31 of the high half): execute disable. */
const XD_HIGH = 0x8000_0000;
/** Bits 51:32 of the frame. */
const FRAME_HIGH = 0x000f_ffff;

/** log2 of the bytes that an entry of each level spans, by level. */
const SHIFT = [0, 12, 21, 30, 39, 48];
/** Bytes of a page of each level. */
const SIZE = SHIFT.map((shift) => 2 ** shift);

/**
 * Page-table entries of 4-level and 5-level paging (Intel SDM volume 3, section 5.5, tables 5-14 to 5-20): levels 1
 * (PT), 2 (PD), 3 (PDP), 4 (PML4) and 5 (PML5).
 *
 * Reserved bits are masked, with one exception: bit 7 of a PML4 or PML5 entry, which makes it map nothing.
 */
export const amd64Format: RadixFormat = {
  name: 'amd64',
  entryBytes: 8,
  decode(level: number, low: number, high: number, out: TableEntry): void {
    if ((low & PRESENT) === 0) return out.setInvalid();
    const frame = (high & FRAME_HIGH) * 0x1_0000_0000;
    const flags = READ | (low & RW ? WRITE : 0) | (high & XD_HIGH ? 0 : EXECUTE) | (low & US ? USER : 0);
    if (level === 1) return out.setLeaf(frame + maskLow(low, 12), 4096, flags | leafFlags(low, PS));
    if ((low & PS) === 0) return out.setTable(frame + maskLow(low, 12), SHIFT[level - 1], 512, flags);
    if (level > 3) return out.setInvalid();
    const shift = SHIFT[level];
    out.setLeaf(frame + maskLow(low, shift), SIZE[level], flags | leafFlags(low, PAT_LARGE));
  },
};

/** What only leaves have: G, and the index into the page attribute table: PAT, PCD, PWT (SDM, section 12.12.3). */
function leafFlags(low: number, pat: number): number {
  const type = ((low >>> 3) & 3) | (low & pat ? 4 : 0);
  return (low & G ? GLOBAL : 0) | (type << MEMORY_TYPE_SHIFT);
}

/** The low half of a frame address: bits 31:shift, as an unsigned number. */
function maskLow(low: number, shift: number): number {
  return (low & (-1 << shift)) >>> 0;
}

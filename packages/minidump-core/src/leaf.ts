import {
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_MASK,
  MEMORY_TYPE_SHIFT,
  READ,
  SYNTHESISED,
  USER,
  WRITE,
  type Translation,
} from './address-space.js';
import { POWERS } from './powers.js';

/**
 * The leaf entry of portable minidumps: 64 bits that say of one granule of KVA what every architecture can say of it.
 * All zeros is unmapped. The bits, with the PA in place so that a hexdump can be read:
 */
export const LEAF_BITS: readonly (readonly [string, string, string])[] = [
  ['0', 'V', 'valid; an entry without it is 0'],
  ['1', 'R', 'the kernel may read'],
  ['2', 'W', 'the kernel may write'],
  ['3', 'X', 'the kernel may execute'],
  ['4', 'U', 'user mode may access'],
  ['5', 'G', 'global'],
  ['6', 'S', 'synthesised: no hardware entry looked like this'],
  ['9:7', 'level', 'level of the hardware entry: 1 for the last one; 0 unknown'],
  ['51:10', 'PA', 'physical address of the granule, a multiple of 1 KB'],
  ['56:52', 'type', "memory type: the entry format's own index (PAT, TEX C B, AttrIndx)"],
  ['62:57', 'size', 'log2 of the bytes of the hardware mapping that the granule is part of'],
  ['63', '', 'reserved, 0'],
];

const VALID = 1;
/** Bits 6:1 of a leaf are flags 5:0 of a mapping, one to one. */
const FLAGS = READ | WRITE | EXECUTE | USER | GLOBAL | SYNTHESISED;
/** Bits of the low half that are not the PA. */
const LOW_ATTRIBUTES = 0x3ff;

/** The low half of a leaf without its PA. */
export function leafLow(flags: number, level: number): number {
  return VALID | ((flags & FLAGS) << 1) | (Math.min(level, 7) << 7);
}

/** The high half of a leaf without its PA. */
export function leafHigh(flags: number, pageSize: number): number {
  return (((flags & MEMORY_TYPE_MASK) >>> MEMORY_TYPE_SHIFT) << 20) | (Math.round(Math.log2(pageSize)) << 25);
}

/** Whether a leaf maps anything. */
export function leafValid(low: number): boolean {
  return (low & VALID) !== 0;
}

/** The PA of a leaf. */
export function leafPa(low: number, high: number): number {
  return (high & 0xf_ffff) * 0x1_0000_0000 + ((low & ~LOW_ATTRIBUTES) >>> 0);
}

/** log2 of a leaf's hardware mapping. */
export function leafShift(high: number): number {
  return (high >>> 25) & 0x3f;
}

/** The flags of a leaf. */
export function leafFlags(low: number, high: number): number {
  return ((low >>> 1) & FLAGS) | (((high >>> 20) & 0x1f) << MEMORY_TYPE_SHIFT);
}

/** The level of a leaf's hardware entry, 0 when unknown. */
export function leafLevel(low: number): number {
  return (low >>> 7) & 7;
}

/** Whether the reserved bits are 0 and an invalid leaf is all zeros. */
export function leafSound(low: number, high: number): boolean {
  return leafValid(low) ? high >>> 31 === 0 && leafShift(high) <= 52 : low === 0 && high === 0;
}

/** Puts what a leaf says, but for `pa` and `length`, into a translation. */
export function describeLeaf(low: number, high: number, out: Translation): void {
  out.flags = leafFlags(low, high);
  out.pageSize = POWERS[leafShift(high)];
  out.level = leafLevel(low);
}

import { GLOBAL, MEMORY_TYPE_SHIFT } from '@libkvm/minidump-core';

const G = 0x100;
/** Where the PAT bit is: bit 7 of a 4 KB page, bit 12 of a larger one. */
export const PAT_SMALL = 0x80;
export const PAT_LARGE = 0x1000;

/**
 * What only leaves have: G, and the index into the page attribute table: PAT, PCD, PWT (Intel SDM volume 3, section
 * 12.12.3).
 */
export function leafFlags(low: number, pat: number): number {
  const type = ((low >>> 3) & 3) | (low & pat ? 4 : 0);
  return (low & G ? GLOBAL : 0) | (type << MEMORY_TYPE_SHIFT);
}

import type { RadixRegion, Registers } from '@libkvm/minidump-core';
import { TTBCR_EPD0, TTBCR_EPD1, TTBCR_PD0, TTBCR_PD1, tableBase, word } from './registers.js';

/** Pages of a 32-bit address space. */
export const PAGES_4GB = 2 ** 20;

const FIRST_LEVEL_ENTRIES = 4096;
/** Address bits of short-format base registers, and of long-format ones. */
const SHORT_BITS = 32;
const LONG_BITS = 40;

/** ARMv4 and ARMv5: one table of 16 KB for all addresses. */
export function singleRegion(registers: Registers): RadixRegion[] {
  return [shortRegion(registers, 'TTBR0', 0, PAGES_4GB, FIRST_LEVEL_ENTRIES)];
}

/**
 * Short descriptors of ARMv6 and later: addresses below 2^(32 - N) through TTBR0, whose table shrinks to 2^(14 - N)
 * bytes, the others through TTBR1 and a whole table (Arm ARM DDI 0406, B3.5.4). A region that PD0 or PD1 turns off has no
 * mappings; these bits exist with the Security Extensions only and read as 0 without them.
 *
 * @throws KvmError `INVALID_ARGUMENT` when the base register of a region is not given
 */
export function shortRegions(registers: Registers): RadixRegion[] {
  const ttbcr = word(registers, 'TTBCR') ?? 0;
  const n = ttbcr & 7;
  const boundary = PAGES_4GB / 2 ** n;
  const regions: RadixRegion[] = [];
  if ((ttbcr & TTBCR_PD0) === 0) {
    regions.push(shortRegion(registers, 'TTBR0', 0, boundary, FIRST_LEVEL_ENTRIES / 2 ** n));
  }
  if (n > 0 && (ttbcr & TTBCR_PD1) === 0) {
    regions.push(shortRegion(registers, 'TTBR1', boundary, PAGES_4GB, FIRST_LEVEL_ENTRIES));
  }
  return regions;
}

function shortRegion(
  registers: Registers,
  name: string,
  fromPage: number,
  toPage: number,
  entries: number,
): RadixRegion {
  const root = tableBase(registers, name, SHORT_BITS, entries * 4);
  return { fromPage, toPage, basePage: 0, level: 2, shift: 20, entries, root };
}

/**
 * Long descriptors: the regions of TTBR0 and TTBR1 by T0SZ and T1SZ (Arm ARM DDI 0406, B3.6.4, table B3-12). Between the
 * two there may be addresses of neither; they, and regions that EPD0 or EPD1 turn off, have no mappings.
 *
 * @throws KvmError `INVALID_ARGUMENT` when the base register of a region is not given
 */
export function longRegions(registers: Registers): RadixRegion[] {
  const ttbcr = word(registers, 'TTBCR') ?? 0;
  const t0sz = ttbcr & 7;
  const t1sz = (ttbcr >>> 16) & 7;
  const top = t1sz > 0 ? PAGES_4GB - PAGES_4GB / 2 ** t1sz : PAGES_4GB;
  const lowEnd = t0sz > 0 ? PAGES_4GB / 2 ** t0sz : top;
  const highStart = t1sz > 0 ? top : lowEnd;
  const regions: RadixRegion[] = [];
  if ((ttbcr & TTBCR_EPD0) === 0) regions.push(longRegion(registers, 'TTBR0', t0sz, 0, lowEnd));
  if (highStart < PAGES_4GB && (ttbcr & TTBCR_EPD1) === 0) {
    regions.push(longRegion(registers, 'TTBR1', t1sz, highStart, PAGES_4GB));
  }
  return regions;
}

/**
 * A region with 32 - `size` address bits. Up to one bit less than all the walk starts at the manual's first level (of 4 or
 * 2 entries, so that its table need not start on a page), with fewer bits at its second (DDI 0406, B3.6.6). The table of a
 * region of full size may reach further than the region.
 */
function longRegion(
  registers: Registers,
  name: string,
  size: number,
  fromPage: number,
  toPage: number,
): RadixRegion {
  const [level, shift] = size < 2 ? [3, 30] : [2, 21];
  const entries = 2 ** (32 - size - shift);
  const root = tableBase(registers, name, LONG_BITS, entries * 8);
  return { fromPage, toPage, basePage: size === 0 ? 0 : fromPage, level, shift, entries, root };
}

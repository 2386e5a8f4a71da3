import type { AddressHole, RadixRegion } from '@libkvm/minidump-core';

/**
 * Addresses that 4-level and 5-level paging cannot have: bits 63:47 (63:56) of a linear address are all equal (Intel SDM
 * volume 1, section 3.3.7.1). In pages.
 */
export const HOLE_4_LEVEL: AddressHole = { fromPage: 2 ** 35, toPage: 2 ** 52 - 2 ** 35 };
export const HOLE_5_LEVEL: AddressHole = { fromPage: 2 ** 44, toPage: 2 ** 52 - 2 ** 44 };

export function inHole(hole: AddressHole, page: number): boolean {
  return page >= hole.fromPage && page < hole.toPage;
}

/**
 * The hole of a machine of which only some addresses are known: that of 4-level paging, unless one of them shows that it
 * has 5 levels. A kernel on 5 levels whose own addresses fit into 4 (FreeBSD 13 and 14) cannot be told apart, and none of
 * its kernel addresses lie in the hole.
 */
export function holeAround(pages: readonly number[]): AddressHole {
  return pages.some((page) => inHole(HOLE_4_LEVEL, page)) ? HOLE_5_LEVEL : HOLE_4_LEVEL;
}

/** The parts of a region on either side of the hole; only in damaged cores is it not one part, the whole. */
export function besideHole(region: RadixRegion, hole: AddressHole): RadixRegion[] {
  const below = { ...region, toPage: Math.min(region.toPage, hole.fromPage) };
  const above = { ...region, fromPage: Math.max(region.fromPage, hole.toPage) };
  return [below, above].filter(({ fromPage, toPage }) => fromPage < toPage);
}

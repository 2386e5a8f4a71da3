import type { ByteRange } from './page-ranges.js';

/** A range of physical addresses whose bytes lie one behind the other from `offset` on. */
export interface Extent extends ByteRange {
  readonly offset: number;
  /** The address up to which the file has its bytes: `end`, unless the file is cut. */
  readonly there: number;
}

/** What {@link claimExtents} makes extents of. */
export interface Claim {
  readonly pa: number;
  readonly offset: number;
  readonly length: number;
  /** How many of its bytes the file has: at most `length`, below 0 for a segment that lies past the end. */
  readonly stored: number;
}

/**
 * Disjoint ascending extents of segments that may overlap: an address belongs to the first segment in the list that
 * holds it. Extents that are adjacent both in memory and in the file become one. Takes n log n steps however they
 * overlap: a sweep over the addresses where segments start and end, with the open ones in a heap.
 */
export function claimExtents(claims: readonly Claim[]): Extent[] {
  const filled = [...claims.keys()].filter((i) => claims[i].length > 0);
  const byStart = filled.sort((a, b) => claims[a].pa - claims[b].pa || a - b);
  const extents: Extent[] = [];
  const open = new FirstHeap();
  const endOf = (i: number): number => claims[i].pa + claims[i].length;
  let pa = 0;
  let next = 0;
  while (next < byStart.length || open.size > 0) {
    if (open.size === 0) pa = Math.max(pa, claims[byStart[next]].pa);
    while (next < byStart.length && claims[byStart[next]].pa <= pa) open.push(byStart[next++]);
    const first = open.first;
    if (endOf(first) <= pa) {
      open.pop();
      continue;
    }
    // Up to its end the first one holds, or up to where one starts that stands before it in the list.
    const start = pa;
    pa = endOf(first);
    while (next < byStart.length && claims[byStart[next]].pa < pa) {
      if (byStart[next] < first) pa = claims[byStart[next]].pa;
      else open.push(byStart[next++]);
    }
    append(extents, extentOf(claims[first], start, pa));
  }
  return extents;
}

/** Number of pages that ascending, disjoint ranges touch; empty and reversed ranges touch none. */
export function countPages(ranges: readonly ByteRange[], pageSize: number): number {
  let pages = 0;
  let counted = 0;
  for (const { start, end } of ranges) {
    if (start >= end) continue;
    const from = Math.max(counted, Math.floor(start / pageSize));
    counted = Math.ceil(end / pageSize);
    pages += Math.max(0, counted - from);
  }
  return pages;
}

/** The part `[start, end)` of a segment. */
function extentOf({ pa, offset, stored }: Claim, start: number, end: number): Extent {
  return { start, end, offset: offset + (start - pa), there: Math.max(start, Math.min(end, pa + stored)) };
}

function append(extents: Extent[], extent: Extent): void {
  const last = extents.at(-1);
  const inMemory = last?.end === extent.start && last.there === last.end;
  if (inMemory && last.offset + (last.end - last.start) === extent.offset) {
    extents[extents.length - 1] = { ...last, end: extent.end, there: extent.there };
  } else extents.push(extent);
}

/** A binary heap of list positions: the least one is first. */
class FirstHeap {
  private readonly items: number[] = [];

  get size(): number {
    return this.items.length;
  }

  get first(): number {
    return this.items[0];
  }

  push(item: number): void {
    const { items } = this;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (items[parent] <= item) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  pop(): void {
    const { items } = this;
    const item = items.pop();
    if (item === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1] < items[child]) child++;
      if (items[child] >= item) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = item;
  }
}

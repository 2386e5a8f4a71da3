import type { BlockCache } from './block-cache.js';
import type { PageRanges } from './page-ranges.js';
import { ABSENT, TRUNCATED, type PageCounts, type PhysicalMemory } from './physical-memory.js';
import type { StoredBitmap } from './stored-bitmap.js';

/**
 * Physical memory of a minidump: one page for each set bit of the page bitmap, stored in bit order from `offset` on.
 */
export class SparsePages implements PhysicalMemory {
  readonly fileOffsets = true;
  readonly pages: PageCounts;
  /** The page found last: a located byte is mostly asked about again, how far its run goes. */
  private lastPfn = -1;
  private lastOffset = 0;

  constructor(
    readonly cache: BlockCache,
    readonly offset: number,
    readonly ranges: PageRanges,
    readonly bitmap: StoredBitmap,
    readonly pageSize: number,
  ) {
    const stored = Math.max(0, cache.size - offset) / pageSize;
    this.pages = {
      dumped: bitmap.count,
      missing: Math.max(0, bitmap.count - Math.ceil(stored)),
      partial: stored < bitmap.count && stored % 1 !== 0 ? 1 : 0,
    };
  }

  locate(pa: number): number {
    const pfn = Math.floor(pa / this.pageSize);
    if (pfn !== this.lastPfn && !this.find(pfn)) return ABSENT;
    const offset = this.lastOffset + (pa - pfn * this.pageSize);
    return offset < this.cache.size ? offset : TRUNCATED;
  }

  run(pa: number, limit: number): number {
    const rest = Math.min(limit, this.cache.size - this.locate(pa));
    const pfn = this.lastPfn;
    const inPage = pa - pfn * this.pageSize;
    if (inPage + rest <= this.pageSize) return rest;
    const bit = this.ranges.bitOf(pfn);
    const pages = Math.ceil((inPage + rest) / this.pageSize);
    const end = this.bitmap.nextClear(bit, Math.min(bit + pages, this.ranges.endBitOf(pfn)));
    return Math.min(rest, (end - bit) * this.pageSize - inPage);
  }

  /** Remembers where a page lies; false when the core does not say that it holds it. */
  private find(pfn: number): boolean {
    const rank = this.bitmap.rankIfSet(this.ranges.bitOf(pfn));
    if (rank < 0) return false;
    this.lastPfn = pfn;
    this.lastOffset = this.offset + rank * this.pageSize;
    return true;
  }

  hole(pa: number, limit: number): number {
    // Pages lie in the file in the order of their PA: behind the end of the file come all that follow.
    if (this.locate(pa) === TRUNCATED) return Math.min(limit, this.dumpedEnd(pa, pa + limit) - pa);
    const next = this.nextDumped(pa, pa + limit);
    return next < 0 ? limit : Math.min(limit, next - pa);
  }

  nextDumped(pa: number, limit = Infinity): number {
    const pfn = this.nextDumpedBelow(Math.floor(pa / this.pageSize), Math.ceil(limit / this.pageSize));
    return pfn < 0 ? -1 : pfn * this.pageSize;
  }

  /** The first dumped page in `[pfn, limit)`, or -1. The limit bounds how much of the bitmap is looked at. */
  private nextDumpedBelow(pfn: number, limit: number): number {
    let page = this.ranges.nextPage(pfn);
    while (page >= 0 && page < limit) {
      const first = this.ranges.bitOf(page);
      const end = this.ranges.endBitOf(page);
      const stop = Math.min(end, first + (limit - page));
      const bit = this.bitmap.nextSet(first, stop);
      if (bit < stop) return page + (bit - first);
      if (stop < end) return -1;
      page = this.ranges.nextPage(page + (end - first));
    }
    return -1;
  }

  dumpedEnd(pa: number, limit = Infinity): number {
    const pfn = Math.floor(pa / this.pageSize);
    const bit = this.ranges.bitOf(pfn);
    const end = Math.min(this.ranges.endBitOf(pfn), bit + Math.ceil(limit / this.pageSize) - pfn);
    return (pfn + (this.bitmap.nextClear(bit, end) - bit)) * this.pageSize;
  }

  pageIndex(pa: number): number {
    return this.bitmap.rankIfSet(this.ranges.bitOf(Math.floor(pa / this.pageSize)));
  }
}

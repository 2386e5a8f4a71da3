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
    const rank = this.bitmap.rankIfSet(this.ranges.bitOf(pfn));
    if (rank < 0) return ABSENT;
    const offset = this.offset + rank * this.pageSize + (pa - pfn * this.pageSize);
    return offset < this.cache.size ? offset : TRUNCATED;
  }

  run(pa: number, limit: number): number {
    const pfn = Math.floor(pa / this.pageSize);
    const inPage = pa - pfn * this.pageSize;
    const bit = this.ranges.bitOf(pfn);
    const lastPages = Math.ceil((inPage + limit) / this.pageSize);
    const end = this.bitmap.nextClear(bit, Math.min(bit + lastPages, this.ranges.endBitOf(pfn)));
    const offset = this.offset + this.bitmap.rank(bit) * this.pageSize + inPage;
    return Math.min(limit, (end - bit) * this.pageSize - inPage, this.cache.size - offset);
  }

  hole(pa: number, limit: number): number {
    const pageEnd = (Math.floor(pa / this.pageSize) + 1) * this.pageSize;
    if (this.locate(pa) === TRUNCATED) return Math.min(limit, pageEnd - pa);
    const next = this.nextDumped(pa);
    return next < 0 ? limit : Math.min(limit, next - pa);
  }

  nextDumped(pa: number): number {
    let pfn = this.ranges.nextPage(Math.floor(pa / this.pageSize));
    while (pfn >= 0) {
      const end = this.ranges.endBitOf(pfn);
      const bit = this.bitmap.nextSet(this.ranges.bitOf(pfn), end);
      if (bit < end) return this.ranges.pfnOf(bit) * this.pageSize;
      pfn = this.ranges.nextPage(this.ranges.pfnOf(end - 1) + 1);
    }
    return -1;
  }

  dumpedEnd(pa: number): number {
    const pfn = Math.floor(pa / this.pageSize);
    const bit = this.ranges.bitOf(pfn);
    return (pfn + (this.bitmap.nextClear(bit, this.ranges.endBitOf(pfn)) - bit)) * this.pageSize;
  }

  pageIndex(pa: number): number {
    return this.bitmap.rankIfSet(this.ranges.bitOf(Math.floor(pa / this.pageSize)));
  }
}

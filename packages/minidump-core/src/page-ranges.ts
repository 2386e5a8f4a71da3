import { KvmError, toHex } from './errors.js';

/** A half-open range of physical addresses, in bytes. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The ordered physical ranges that a page bitmap is counted over (FreeBSD `dump_avail`, sys/vm/vm_dumpset.h).
 *
 * Every page that a range touches has one bit, ranges one behind the other. A page in a hole between ranges has none:
 * it never aliases a neighbour. A page that two ranges share belongs to the first.
 */
export class PageRanges {
  /** Bits, one for each page of each range. */
  readonly pages: number;
  private readonly firstPage: Float64Array;
  private readonly endPage: Float64Array;
  private readonly firstBit: Float64Array;
  /** The range found last. Most machines have one that holds almost all memory. */
  private last = 0;

  /**
   * @param ranges in bytes, ascending; ends may lie inside a page, which then counts whole
   * @param pageSize a power of two
   * @throws KvmError `CORRUPT` when a range is empty, reversed, or starts in a page before the last one of its forerunner
   */
  constructor(
    readonly ranges: readonly ByteRange[],
    readonly pageSize: number,
  ) {
    this.firstPage = new Float64Array(ranges.length);
    this.endPage = new Float64Array(ranges.length);
    this.firstBit = new Float64Array(ranges.length);
    let bits = 0;
    ranges.forEach((range, i) => {
      this.checkRange(i, range);
      this.firstPage[i] = Math.floor(range.start / pageSize);
      this.endPage[i] = Math.ceil(range.end / pageSize);
      this.firstBit[i] = bits;
      bits += this.endPage[i] - this.firstPage[i];
    });
    this.pages = bits;
  }

  /** The bit of a page frame, or -1 when no range holds it. */
  bitOf(pfn: number): number {
    const i = this.rangeEndingAfter(pfn);
    if (i === this.endPage.length || pfn < this.firstPage[i]) return -1;
    return this.firstBit[i] + (pfn - this.firstPage[i]);
  }

  /** The page frame of a bit in `[0, pages)`. */
  pfnOf(bit: number): number {
    let low = 0;
    let high = this.firstBit.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.firstBit[middle] <= bit) low = middle;
      else high = middle - 1;
    }
    return this.firstPage[low] + (bit - this.firstBit[low]);
  }

  /** The bit behind the last one of the range that holds `pfn`; 0 when no range does. */
  endBitOf(pfn: number): number {
    const i = this.rangeEndingAfter(pfn);
    if (i === this.endPage.length || pfn < this.firstPage[i]) return 0;
    return this.firstBit[i] + (this.endPage[i] - this.firstPage[i]);
  }

  /** The first page frame at or above `pfn` that some range holds, or -1. */
  nextPage(pfn: number): number {
    const i = this.rangeEndingAfter(pfn);
    return i === this.endPage.length ? -1 : Math.max(pfn, this.firstPage[i]);
  }

  /** Whether the machine's ranges hold the byte at physical address `pa` (whole pages). */
  has(pa: number): boolean {
    return this.bitOf(Math.floor(pa / this.pageSize)) >= 0;
  }

  /** Index of the first range that ends above `pfn`. */
  private rangeEndingAfter(pfn: number): number {
    const { endPage: ends, last } = this;
    if (pfn < ends[last] && (last === 0 || pfn >= ends[last - 1])) return last;
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ends[middle] > pfn) high = middle;
      else low = middle + 1;
    }
    this.last = Math.min(low, ends.length - 1);
    return low;
  }

  private checkRange(index: number, { start, end }: ByteRange): void {
    const safe = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0;
    const previous = index > 0 ? this.ranges[index - 1].end : 0;
    if (safe && start < end && start >= previous) return;
    throw new KvmError(
      'CORRUPT',
      `physical range ${index} [${toHex(start)}, ${toHex(end)}) is empty or out of order`,
      {
        field: `ranges[${index}]`,
        hint: 'the table of physical ranges is damaged; pass the ranges by hand',
      },
    );
  }
}

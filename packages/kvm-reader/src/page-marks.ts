/** A set of page indices in `[0, size)`: a bit each, so 1/32768 of the memory they stand for. */
export class PageMarks {
  private readonly words: Uint32Array;

  constructor(size: number) {
    this.words = new Uint32Array(Math.ceil(size / 32));
  }

  /** Adds `[first, first + count)`. */
  add(first: number, count: number): void {
    if (count === 1) {
      this.words[first >>> 5] |= 1 << (first & 31);
      return;
    }
    const end = first + count;
    for (let i = first; i < end;) {
      if ((i & 31) === 0 && end - i >= 32) {
        this.words[i >>> 5] = 0xffff_ffff;
        i += 32;
      } else {
        this.words[i >>> 5] |= 1 << (i & 31);
        i++;
      }
    }
  }

  /** The first index at or above `from` and below `limit` that is not in the set, or `limit`. */
  nextClear(from: number, limit: number): number {
    let i = from;
    while (i < limit) {
      const clear = ~this.words[i >>> 5] & (-1 << (i & 31));
      if (clear !== 0) return Math.min(limit, (i & ~31) + (31 - Math.clz32(clear & -clear)));
      i = (i & ~31) + 32;
    }
    return limit;
  }
}

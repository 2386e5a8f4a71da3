import type { PageRanges } from './page-ranges.js';
import { popcount, type BitOrder } from './stored-bitmap.js';

const CHUNK_BITS = 32768;
const CHUNK_WORDS = CHUNK_BITS / 32;

/**
 * The set of pages that a dump will hold: a bit for each page of the machine's ranges, in chunks that exist only where
 * a bit is set, so that a sparse machine costs little however wide its physical addresses are.
 *
 * FreeBSD's `dump_add_page` and `dump_drop_page` (sys/vm/vm_dumpset.h) are {@link PageBitmap.addPage} and
 * {@link PageBitmap.dropPage}.
 */
export class PageBitmap {
  private readonly chunks = new Map<number, Uint32Array>();
  private total = 0;

  constructor(readonly ranges: PageRanges) {}

  /** Pages in the set. */
  get count(): number {
    return this.total;
  }

  /** Adds the page that holds `pa`; false when no range has it, or it was there. */
  addPage(pa: number): boolean {
    const bit = this.bitOf(pa);
    return bit >= 0 && this.change(bit, true);
  }

  /** Takes the page that holds `pa` out; false when it was not there. */
  dropPage(pa: number): boolean {
    const bit = this.bitOf(pa);
    return bit >= 0 && this.change(bit, false);
  }

  /** Whether the page that holds `pa` is in the set. */
  has(pa: number): boolean {
    return this.hasBit(this.bitOf(pa));
  }

  /** Adds the pages that `[pa, pa + length)` touches, as far as ranges hold them; returns how many are new. */
  addRun(pa: number, length: number): number {
    const { pageSize } = this.ranges;
    const end = Math.ceil((pa + length) / pageSize);
    let added = 0;
    let pfn = this.ranges.nextPage(Math.floor(pa / pageSize));
    while (pfn >= 0 && pfn < end) {
      const bit = this.ranges.bitOf(pfn);
      const count = Math.min(end - pfn, this.ranges.endBitOf(pfn) - bit);
      for (let i = 0; i < count; i++) if (this.change(bit + i, true)) added++;
      pfn = this.ranges.nextPage(pfn + count);
    }
    return added;
  }

  /** The runs of pages in the set, ascending: PA and bytes. A run never spans two ranges. */
  *runs(): Generator<{ pa: number; length: number }, void, undefined> {
    const { ranges } = this;
    for (const chunk of [...this.chunks.keys()].sort((a, b) => a - b)) {
      let bit = this.nextSet(chunk, chunk * CHUNK_BITS);
      while (bit >= 0) {
        const pfn = ranges.pfnOf(bit);
        const limit = Math.min((chunk + 1) * CHUNK_BITS, ranges.endBitOf(pfn));
        let end = bit + 1;
        while (end < limit && this.hasBit(end)) end++;
        yield { pa: pfn * ranges.pageSize, length: (end - bit) * ranges.pageSize };
        bit = this.nextSet(chunk, end);
      }
    }
  }

  /** Bytes of the bitmap section for machine words of `wordBits` bits, not rounded to a page. */
  byteLength(wordBits: 8 | 32 | 64): number {
    return Math.ceil(this.ranges.pages / wordBits) * (wordBits / 8);
  }

  /** The bitmap section in pieces of up to 4 KB, `length` bytes in all. The piece is reused. */
  *bytes(length: number, order: BitOrder): Generator<Uint8Array, void, undefined> {
    const piece = new Uint8Array(CHUNK_BITS / 8);
    const view = new DataView(piece.buffer);
    const swap = order === 'big64' ? 1 : 0;
    for (let at = 0; at < length; at += piece.length) {
      piece.fill(0);
      const words = this.chunks.get(at / piece.length);
      if (words)
        for (let i = 0; i < CHUNK_WORDS; i++) view.setUint32((i ^ swap) * 4, words[i], order === 'little');
      yield piece.subarray(0, Math.min(piece.length, length - at));
    }
  }

  private bitOf(pa: number): number {
    return this.ranges.bitOf(Math.floor(pa / this.ranges.pageSize));
  }

  private hasBit(bit: number): boolean {
    const words = this.chunks.get(Math.floor(bit / CHUNK_BITS));
    return words !== undefined && (words[(bit % CHUNK_BITS) >>> 5] & (1 << (bit & 31))) !== 0;
  }

  private nextSet(chunk: number, from: number): number {
    const words = this.chunks.get(chunk);
    const start = chunk * CHUNK_BITS;
    let word = (from - start) >>> 5;
    if (words === undefined || word >= CHUNK_WORDS) return -1;
    let value = words[word] & (-1 << (from & 31));
    while (value === 0 && ++word < CHUNK_WORDS) value = words[word];
    return value === 0 ? -1 : start + word * 32 + (31 - Math.clz32(value & -value));
  }

  /** Sets or clears a bit; false when it already was so. */
  private change(bit: number, set: boolean): boolean {
    const chunk = Math.floor(bit / CHUNK_BITS);
    let words = this.chunks.get(chunk);
    if (words === undefined) {
      if (!set) return false;
      this.chunks.set(chunk, (words = new Uint32Array(CHUNK_WORDS)));
    }
    const index = (bit % CHUNK_BITS) >>> 5;
    const before = words[index];
    words[index] = set ? before | (1 << (bit & 31)) : before & ~(1 << (bit & 31));
    const delta = popcount(words[index]) - popcount(before);
    this.total += delta;
    return delta !== 0;
  }
}

import { PieceBuffer } from './dump-sections.js';
import type { PageRanges } from './page-ranges.js';
import { popcount, type BitOrder } from './stored-bitmap.js';

const CHUNK_BITS = 32768;
const CHUNK_WORDS = CHUNK_BITS / 32;
const CHUNK_BYTES = CHUNK_BITS / 8;

/** A piece of the bitmap, and how many of its bits are set: a full one is passed over when a run is added again. */
interface Chunk {
  readonly words: Uint32Array;
  count: number;
}

/**
 * The set of pages that a dump will hold: a bit for each page of the machine's ranges, in chunks that exist only where
 * a bit is set, so that a sparse machine costs little however wide its physical addresses are.
 *
 * FreeBSD's `dump_add_page` and `dump_drop_page` (sys/vm/vm_dumpset.h) are {@link PageBitmap.addPage} and
 * {@link PageBitmap.dropPage}.
 */
export class PageBitmap {
  private readonly chunks = new Map<number, Chunk>();
  private total = 0;

  constructor(readonly ranges: PageRanges) {}

  /** Pages in the set. */
  get count(): number {
    return this.total;
  }

  /** Adds the page that holds `pa`; false when no range has it, or it was there. */
  addPage(pa: number): boolean {
    const bit = this.bitOf(pa);
    return bit >= 0 && this.setBits(bit, bit + 1) > 0;
  }

  /** Takes the page that holds `pa` out; false when it was not there. */
  dropPage(pa: number): boolean {
    const bit = this.bitOf(pa);
    if (!this.hasBit(bit)) return false;
    const chunk = this.chunkAt(Math.floor(bit / CHUNK_BITS));
    chunk.words[(bit % CHUNK_BITS) >>> 5] &= ~(1 << (bit & 31));
    chunk.count--;
    this.total--;
    return true;
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
      added += this.setBits(bit, bit + count);
      pfn = this.ranges.nextPage(pfn + count);
    }
    return added;
  }

  /** The runs of pages in the set, ascending: PA and bytes. A run never spans two ranges. */
  *runs(): Generator<{ pa: number; length: number }, void, undefined> {
    const { ranges } = this;
    for (const [index, { words }] of [...this.chunks].sort(([a], [b]) => a - b)) {
      const start = index * CHUNK_BITS;
      for (let at = next(words, 0, 0); at < CHUNK_BITS;) {
        const pfn = ranges.pfnOf(start + at);
        const end = Math.min(next(words, at, -1), ranges.endBitOf(pfn) - start);
        yield { pa: pfn * ranges.pageSize, length: (end - at) * ranges.pageSize };
        at = next(words, end, 0);
      }
    }
  }

  /** Bytes of the bitmap section for machine words of `wordBits` bits, not rounded to a page. */
  byteLength(wordBits: 8 | 32 | 64): number {
    return Math.ceil(this.ranges.pages / wordBits) * (wordBits / 8);
  }

  /**
   * The bitmap section in pieces of up to 64 KB, `length` bytes in all. A piece is good until the next but one is asked
   * for.
   */
  *bytes(length: number, order: BitOrder): Generator<Uint8Array, void, undefined> {
    const buffer = new PieceBuffer(CHUNK_BYTES * Math.min(16, Math.ceil(length / CHUNK_BYTES)));
    const swap = order === 'big64' ? 1 : 0;
    for (let chunk = 0; chunk * CHUNK_BYTES < length; chunk++) {
      if (buffer.room === 0) yield buffer.take();
      const { view, at } = buffer;
      const words = this.chunks.get(chunk)?.words;
      if (words === undefined) buffer.bytes.fill(0, at, at + CHUNK_BYTES);
      else {
        const little = order === 'little';
        for (let i = 0; i < CHUNK_WORDS; i++) view.setUint32(at + (i ^ swap) * 4, words[i], little);
      }
      buffer.at += Math.min(CHUNK_BYTES, length - chunk * CHUNK_BYTES);
    }
    yield buffer.take();
  }

  private bitOf(pa: number): number {
    return this.ranges.bitOf(Math.floor(pa / this.ranges.pageSize));
  }

  private hasBit(bit: number): boolean {
    const chunk = this.chunks.get(Math.floor(bit / CHUNK_BITS));
    return chunk !== undefined && (chunk.words[(bit % CHUNK_BITS) >>> 5] & (1 << (bit & 31))) !== 0;
  }

  private chunkAt(index: number): Chunk {
    let chunk = this.chunks.get(index);
    if (chunk === undefined)
      this.chunks.set(index, (chunk = { words: new Uint32Array(CHUNK_WORDS), count: 0 }));
    return chunk;
  }

  /** Sets the bits `[from, to)`; returns how many were clear. */
  private setBits(from: number, to: number): number {
    const before = this.total;
    for (let bit = from; bit < to;) {
      const index = Math.floor(bit / CHUNK_BITS);
      const chunk = this.chunkAt(index);
      const end = Math.min(to, (index + 1) * CHUNK_BITS);
      if (chunk.count < CHUNK_BITS) {
        const start = index * CHUNK_BITS;
        const added = setRange(chunk.words, bit - start, end - start);
        chunk.count += added;
        this.total += added;
      }
      bit = end;
    }
    return this.total - before;
  }
}

/** Sets the bits `[from, to)` of a chunk; returns how many were clear. */
function setRange(words: Uint32Array, from: number, to: number): number {
  let added = 0;
  for (let word = from >>> 5; word << 5 < to; word++) {
    const first = Math.max(from - (word << 5), 0);
    const last = to - (word << 5);
    const mask = (-1 << first) & (last >= 32 ? -1 : (1 << last) - 1);
    added += popcount(mask & ~words[word]);
    words[word] |= mask;
  }
  return added;
}

/** The first set bit (`flip` 0) or clear bit (-1) of a chunk at or above `from`; CHUNK_BITS when there is none. */
function next(words: Uint32Array, from: number, flip: 0 | -1): number {
  if (from >= CHUNK_BITS) return CHUNK_BITS;
  let word = from >>> 5;
  let value = (words[word] ^ flip) & (-1 << (from & 31));
  while (value === 0 && ++word < CHUNK_WORDS) value = words[word] ^ flip;
  return value === 0 ? CHUNK_BITS : word * 32 + (31 - Math.clz32(value & -value));
}

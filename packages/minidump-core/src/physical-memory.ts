import type { BlockCache } from './block-cache.js';
import type { PageRanges } from './page-ranges.js';

/** {@link PhysicalMemory.locate}: the page is not in the core. */
export const ABSENT = -1;
/** {@link PhysicalMemory.locate}: the core says it holds the page, but the file ends before it. */
export const TRUNCATED = -2;

/** How many pages of physical memory a core holds. */
export interface PageCounts {
  /** Pages that the core says it holds. */
  readonly dumped: number;
  /** Of these, pages that lie wholly past the end of the file. */
  readonly missing: number;
  /** Of these, pages of which the file holds only the first bytes (at most one in a file that was cut). */
  readonly partial: number;
}

/**
 * The first map of a core: physical address -> bytes.
 *
 * Addresses are numbers, exact up to 2^53. Look-ups are by byte and never allocate: a located byte has an offset in
 * {@link PhysicalMemory.cache}, and `run` says how many bytes behind it are located one behind the other.
 */
export interface PhysicalMemory {
  /** Bytes of a page of the core's bitmap or granularity of its segments; a power of two. */
  readonly pageSize: number;
  /** The machine's memory as the core describes it. A page outside is never present. */
  readonly ranges: PageRanges;
  readonly pages: PageCounts;
  /** The bytes that located offsets index. */
  readonly cache: BlockCache;
  /** Whether located offsets are offsets in the core file (not where pages are stored compressed). */
  readonly fileOffsets: boolean;
  /**
   * True where parts of a page can be absent or lie elsewhere than the rest, at any byte (segments that do not start and
   * end with pages). Otherwise an aligned word lies in one piece, which spares page-table walkers a look-up.
   */
  readonly byteExact?: boolean;
  /** Offset of the byte at `pa` in {@link PhysicalMemory.cache}, or {@link ABSENT} or {@link TRUNCATED}. */
  locate(pa: number): number;
  /**
   * From a located byte on: how many bytes, at most `limit`, lie one behind the other both in physical memory and in
   * {@link PhysicalMemory.cache}. At least 1.
   */
  run(pa: number, limit: number): number;
  /** From a byte that is not located on: how many bytes, at most `limit`, are not located for the same reason. */
  hole(pa: number, limit: number): number;
  /**
   * Start of the first page at or above `pa` that the core says it holds (present or cut off), or -1. From `limit` on
   * the answer does not matter: it may be -1 there.
   */
  nextDumped(pa: number, limit?: number): number;
  /**
   * From a page that the core says it holds on: the end (PA) of the run of such pages in physical memory. From `limit` on
   * the answer does not matter: it may be any above it there.
   */
  dumpedEnd(pa: number, limit?: number): number;
  /**
   * The place of a page among all those that the core says it holds, in ascending PA: 0 to `pages.dumped` - 1; -1 for a
   * page it does not hold.
   */
  pageIndex(pa: number): number;
}

/** Reads 4- and 8-byte words at physical addresses, as page-table walkers do. One per user: it holds the last word. */
export class PhysicalWords {
  /** The halves of the last word; `high` is 0 after a 32-bit one. */
  low = 0;
  high = 0;

  private readonly torn = new Uint8Array(8);

  constructor(
    readonly memory: PhysicalMemory,
    private readonly little: boolean,
  ) {}

  /** Loads the aligned 32-bit word at `pa`; returns its located offset, or {@link ABSENT} or {@link TRUNCATED}. */
  load32(pa: number): number {
    const { memory } = this;
    const offset = memory.locate(pa);
    if (offset < 0) return offset;
    if (memory.byteExact === true && memory.run(pa, 4) < 4) return this.loadTorn(pa, 4);
    const word = memory.cache.load32(offset, this.little);
    if (word < 0) return TRUNCATED;
    this.low = word;
    this.high = 0;
    return offset;
  }

  /** Loads the aligned 64-bit word at `pa`; returns its located offset, or {@link ABSENT} or {@link TRUNCATED}. */
  load64(pa: number): number {
    const { memory } = this;
    const offset = memory.locate(pa);
    if (offset < 0) return offset;
    if (memory.byteExact === true && memory.run(pa, 8) < 8) return this.loadTorn(pa, 8);
    const { cache } = memory;
    if (!cache.load64(offset, this.little)) return TRUNCATED;
    this.low = cache.low;
    this.high = cache.high;
    return offset;
  }

  /** Loads a word that does not lie in one piece, byte by byte. */
  private loadTorn(pa: number, length: 4 | 8): number {
    const { memory, torn, little } = this;
    for (let i = 0; i < length; i++) {
      const offset = memory.locate(pa + i);
      if (offset < 0) return offset;
      memory.cache.readSync(offset, torn, i, 1);
    }
    const view = new DataView(torn.buffer);
    this.low = view.getUint32(length === 4 || little ? 0 : 4, little);
    this.high = length === 4 ? 0 : view.getUint32(little ? 4 : 0, little);
    return memory.locate(pa);
  }
}

import { BlockCache } from './block-cache.js';
import { ConcatSource, type ByteSource } from './byte-source.js';
import { KvmError, toHex } from './errors.js';
import { PageRanges, type ByteRange } from './page-ranges.js';
import { ABSENT, TRUNCATED, type PageCounts, type PhysicalMemory } from './physical-memory.js';
import { claimExtents, countPages, type Claim, type Extent } from './segment-extents.js';

/** A piece of physical memory that lies in one piece in a file. Addresses, offsets and lengths are in bytes. */
export interface PhysicalSegment {
  readonly pa: number;
  readonly offset: number;
  /** Bytes in the file. */
  readonly length: number;
  /** Bytes of memory that it stands for, where that is more than the file holds. */
  readonly memLength?: number;
}

/** How segments are to be read. */
export interface SegmentOptions {
  /**
   * Whether memory behind a segment's bytes in the file, up to its length in memory, is zeros, as it is in an executable.
   * Off unless asked for: in a core it may as well be memory that was left out.
   */
  readonly zeroFill?: boolean;
}

const PAGE = 4096;

/**
 * Physical memory of a file that holds it in segments: ELF cores, raw images. Presence is exact to the byte; where
 * segments overlap the first one in the list wins, as in libkvm (lib/libkvm/kvm_private.c, _kvm_pa2off).
 */
export class SegmentMemory implements PhysicalMemory {
  readonly pageSize = PAGE;
  readonly byteExact = true;
  readonly ranges: PageRanges;
  readonly pages: PageCounts;
  readonly cache: BlockCache;
  readonly fileOffsets: boolean;
  private readonly starts: Float64Array;
  private readonly ends: Float64Array;
  /** Up to which address of each extent the file has bytes. */
  private readonly there: Float64Array;
  private readonly offsets: Float64Array;
  /** The pages that extents touch, as maximal runs. */
  private readonly held: PageRanges;

  /**
   * @param cache the file's bytes
   * @param segments in any order; they may overlap, start and end anywhere, and reach past the end of the file
   * @throws KvmError `CORRUPT` for an address, offset or length that is not an integer in `[0, 2^53)`
   */
  constructor(
    cache: BlockCache,
    segments: readonly PhysicalSegment[],
    { zeroFill = false }: SegmentOptions = {},
  ) {
    segments.forEach(checkSegment);
    const zeros = zeroFill ? segments.flatMap((segment) => zeroClaim(segment, cache.size)) : [];
    const stored = segments.map((segment) => ({ ...segment, stored: cache.size - segment.offset }));
    const extents = claimExtents([...stored, ...zeros]);
    this.starts = Float64Array.from(extents, ({ start }) => start);
    this.ends = Float64Array.from(extents, ({ end }) => end);
    this.there = Float64Array.from(extents, ({ there }) => there);
    this.offsets = Float64Array.from(extents, ({ offset }) => offset);
    this.ranges = new PageRanges(joined(segments.map(memoryOf), 1), PAGE);
    this.held = new PageRanges(joined(extents, PAGE), PAGE);
    this.pages = countAll(extents, this.held.pages);
    this.fileOffsets = zeros.length === 0;
    this.cache = zeros.length === 0 ? cache : withZeros(cache, zeros);
  }

  locate(pa: number): number {
    const i = this.endingAfter(pa);
    if (i === this.ends.length || !(pa >= this.starts[i])) return ABSENT;
    return pa < this.there[i] ? this.offsets[i] + (pa - this.starts[i]) : TRUNCATED;
  }

  run(pa: number, limit: number): number {
    return Math.min(limit, this.there[this.endingAfter(pa)] - pa);
  }

  hole(pa: number, limit: number): number {
    const { starts, ends, there } = this;
    let i = this.endingAfter(pa);
    if (i === ends.length) return limit;
    if (!(pa >= starts[i])) return Math.min(limit, starts[i] - pa);
    // Cut off: as far as segments follow each other of which the file has nothing either.
    let end = ends[i];
    while (end - pa < limit && ++i < ends.length && starts[i] === end && there[i] === end) end = ends[i];
    return Math.min(limit, end - pa);
  }

  nextDumped(pa: number): number {
    const pfn = this.held.nextPage(Math.floor(pa / PAGE));
    return pfn < 0 ? -1 : pfn * PAGE;
  }

  dumpedEnd(pa: number): number {
    const end = this.held.endBitOf(Math.floor(pa / PAGE));
    return end === 0 ? pa : (this.held.pfnOf(end - 1) + 1) * PAGE;
  }

  pageIndex(pa: number): number {
    return this.held.bitOf(Math.floor(pa / PAGE));
  }

  /** Index of the first extent that ends above `pa`. */
  private endingAfter(pa: number): number {
    const { ends } = this;
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ends[middle] > pa) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function memoryOf({ pa, length, memLength = 0 }: PhysicalSegment): ByteRange {
  return { start: pa, end: pa + Math.max(length, memLength) };
}

/** Ranges widened to multiples of `unit`, sorted; those that overlap or adjoin become one. */
function joined(ranges: readonly ByteRange[], unit: number): ByteRange[] {
  const widened = ranges
    .filter(({ start, end }) => start < end)
    .map(({ start, end }) => ({ start: Math.floor(start / unit) * unit, end: Math.ceil(end / unit) * unit }))
    .sort((a, b) => a.start - b.start);
  const all: { start: number; end: number }[] = [];
  for (const range of widened) {
    const last = all.at(-1);
    if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
    else all.push(range);
  }
  return all;
}

function countAll(extents: readonly Extent[], dumped: number): PageCounts {
  const present = countPages(
    extents.map(({ start, there }) => ({ start, end: there })),
    PAGE,
  );
  const lost = countPages(
    extents.map(({ there, end }) => ({ start: there, end })),
    PAGE,
  );
  // A page with both bytes that are there and bytes that are cut off is in both counts.
  return { dumped, missing: dumped - present, partial: present + lost - dumped };
}

/** The memory of a segment that is not in the file, taken from zeros behind the end of the file: all share them. */
function zeroClaim({ pa, length, memLength = 0 }: PhysicalSegment, size: number): Claim[] {
  if (memLength <= length) return [];
  const zeros = memLength - length;
  return [{ pa: pa + length, offset: size, length: zeros, stored: zeros }];
}

/** The file and as many zeros behind it as the longest claim of them needs; they take no memory. */
function withZeros(cache: BlockCache, claims: readonly Claim[]): BlockCache {
  const size = claims.reduce((most, { length }) => Math.max(most, length), 0);
  const zeros: ByteSource = {
    size,
    readSync(offset, target, at, length) {
      const count = Math.max(0, Math.min(length, size - offset));
      target.fill(0, at, at + count);
      return count;
    },
  };
  return new BlockCache(new ConcatSource([cache, zeros]));
}

function checkSegment(segment: PhysicalSegment, index: number): void {
  const { pa, offset, length, memLength = 0 } = segment;
  const numbers = {
    pa,
    offset,
    length,
    memLength,
    end: pa + Math.max(length, memLength),
    fileEnd: offset + length,
  };
  for (const [field, value] of Object.entries(numbers)) {
    if (Number.isSafeInteger(value) && value >= 0) continue;
    throw new KvmError('CORRUPT', `segment ${index} of physical memory: ${field} is ${toHex(value)}`, {
      field: `segments[${index}].${field}`,
      hint: 'the headers of the core are damaged; no machine has such an address',
    });
  }
}

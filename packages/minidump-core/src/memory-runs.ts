import { PieceBuffer } from './dump-sections.js';
import type { DumpMemory } from './dump-source.js';
import { KvmError } from './errors.js';
import type { PageRanges } from './page-ranges.js';
import { dumpRanges } from './source-check.js';

/** A run of physical memory, in bytes. */
export interface PhysicalRun {
  readonly pa: number;
  readonly length: number;
}

/** How the runs of a memory are found. */
export interface MemoryRunOptions {
  /** PAs of pages to leave out. */
  readonly dropPages?: Iterable<number>;
  /** More runs than this are refused. */
  readonly limit?: number;
}

/** Bytes of memory that are copied in one go. */
const COPY_BYTES = 1024 * 1024;

/**
 * The runs of whole pages that a memory holds, ascending, each as long as can be. Sixteen bytes for each run, however many
 * pages it has: a terabyte in one piece takes no more than a page.
 */
export class MemoryRuns implements Iterable<PhysicalRun> {
  /** The pages of RAM. */
  readonly ranges: PageRanges;
  /** Runs, and pages of the memory in them. */
  length = 0;
  pages = 0;
  /** Pages of RAM that the memory does not hold whole. */
  absent = 0;
  /** Pages that it holds and that were left out by hand. */
  dropped = 0;
  private starts = new Float64Array(16);
  private ends = new Float64Array(16);
  private readonly drops: Float64Array;
  private nextDrop = 0;
  private readonly limit: number;

  /**
   * @throws KvmError `UNSUPPORTED` when there are more runs than the limit, `INVALID_ARGUMENT` for a page that is none
   */
  constructor(memory: DumpMemory, { dropPages = [], limit = Infinity }: MemoryRunOptions = {}) {
    this.limit = limit;
    const ranges = (this.ranges = dumpRanges(memory.ranges));
    const { pageSize } = ranges;
    this.drops = Float64Array.from(new Set([...dropPages].map((pa) => pageOf(pa, pageSize)))).sort();
    for (const { start, end } of ranges.ranges) {
      this.scan(memory, Math.floor(start / pageSize) * pageSize, Math.ceil(end / pageSize) * pageSize);
    }
  }

  *[Symbol.iterator](): Generator<PhysicalRun, void, undefined> {
    for (let i = 0; i < this.length; i++) yield { pa: this.starts[i], length: this.ends[i] - this.starts[i] };
  }

  private scan(memory: DumpMemory, start: number, end: number): void {
    const { pageSize } = this.ranges;
    for (let at = start; at < end;) {
      const bytes = wholePages(memory, at, end, pageSize);
      if (bytes > 0) {
        this.add(at, at + bytes);
        at += bytes;
        continue;
      }
      // The page at hand is not there whole; of those behind it the memory may know more at once.
      const next = at + pageSize;
      const hole = next < end && memory.available(next, 1) === 0 ? memory.hole?.(next, end - next) : 0;
      const skipped = 1 + Math.floor((hole ?? 0) / pageSize);
      this.absent += skipped;
      at += skipped * pageSize;
    }
  }

  /** Adds pages that are there, without those left out by hand. */
  private add(start: number, end: number): void {
    const { pageSize } = this.ranges;
    let at = start;
    while (this.nextDrop < this.drops.length && this.drops[this.nextDrop] < end) {
      const drop = this.drops[this.nextDrop++];
      if (drop < at) continue;
      this.append(at, drop);
      this.dropped++;
      at = drop + pageSize;
    }
    this.append(at, end);
  }

  private append(start: number, end: number): void {
    if (start >= end) return;
    this.pages += (end - start) / this.ranges.pageSize;
    if (this.length > 0 && this.ends[this.length - 1] === start) {
      this.ends[this.length - 1] = end;
      return;
    }
    if (this.length >= this.limit) throw tooMany(this.limit);
    if (this.length === this.starts.length) {
      this.starts = grown(this.starts);
      this.ends = grown(this.ends);
    }
    this.starts[this.length] = start;
    this.ends[this.length++] = end;
  }
}

/**
 * The bytes of runs of a memory, one behind the other. A piece is good until the next but one is asked for.
 *
 * @throws KvmError `IO` when a page that was there is no longer
 */
export function* copyRuns(
  memory: DumpMemory,
  runs: Iterable<PhysicalRun>,
): Generator<Uint8Array, void, undefined> {
  const buffer = new PieceBuffer(COPY_BYTES);
  for (const { pa, length } of runs) {
    const end = pa + length;
    for (let at = pa; at < end;) {
      const count = memory.available(at, Math.min(buffer.room, end - at));
      if (count === 0) throw vanished(at);
      memory.readSync(at, buffer.bytes, buffer.at, count);
      buffer.at += count;
      at += count;
      if (buffer.room === 0) yield buffer.take();
    }
  }
  yield buffer.take();
}

/** Bytes from a page on, in whole pages, that a memory holds; the last of them may lie in several pieces. */
function wholePages(memory: DumpMemory, start: number, end: number, pageSize: number): number {
  let at = start + memory.available(start, end - start);
  while (at > start && at < end && at % pageSize !== 0) {
    const more = memory.available(at, pageSize - (at % pageSize));
    if (more === 0) break;
    at += more;
  }
  return Math.floor((at - start) / pageSize) * pageSize;
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

function pageOf(pa: number, pageSize: number): number {
  if (Number.isSafeInteger(pa) && pa >= 0) return Math.floor(pa / pageSize) * pageSize;
  throw new KvmError('INVALID_ARGUMENT', `not a physical address: ${pa}`, { field: 'page' });
}

function tooMany(limit: number): KvmError {
  return new KvmError('UNSUPPORTED', `the memory is in more than ${limit} pieces`, {
    field: 'ranges',
    hint: 'no reader takes so many segments; write the portable format, which has a bit for each page',
  });
}

function vanished(pa: number): KvmError {
  return new KvmError('IO', 'a page that was there when the dump was planned can no longer be read', {
    address: BigInt(pa),
    addressSpace: 'physical',
    physicalAddress: pa,
    hint: 'the source changed between planning and writing; plan again, or drop this page',
  });
}

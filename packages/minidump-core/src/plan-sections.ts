import type { ByteSource } from './byte-source.js';
import { PieceBuffer, type SectionPlan } from './dump-sections.js';
import type { DumpMemory } from './dump-source.js';
import { copyRuns, type PhysicalRun } from './memory-runs.js';
import type { PageBitmap } from './page-bitmap.js';
import type { PageRanges } from './page-ranges.js';
import type { ByteOrder } from './struct.js';

/** Bytes of memory that are copied in one go. */
const COPY_BYTES = 1024 * 1024;

/** The message buffer in memory order; empty when there is none. */
export function ringSection(ring: ByteSource | undefined): SectionPlan {
  if (ring === undefined) return { name: 'msgbuf', length: 0, produce: () => [] };
  return { name: 'msgbuf', length: ring.size, produce: () => copySource(ring) };
}

/** The physical ranges as dump_avail: u64 pairs, ended by a pair of zeros (sys/kern/kern_dump.c). */
export function rangesSection(ranges: PageRanges, order: ByteOrder): SectionPlan {
  const little = order === 'little';
  const bytes = new Uint8Array((ranges.ranges.length + 1) * 16);
  const view = new DataView(bytes.buffer);
  ranges.ranges.forEach(({ start, end }, i) => {
    view.setBigUint64(i * 16, BigInt(start), little);
    view.setBigUint64(i * 16 + 8, BigInt(end), little);
  });
  return { name: 'ranges', length: bytes.length, produce: () => [bytes] };
}

/** Pages that no RAM holds: made up by a dialect for its page tables. They lie behind all RAM. */
export interface SparePages {
  /** PA of the first one. */
  readonly pa: number;
  readonly pages: number;
  /** Their bytes, ascending. A piece is good until the next but one is asked for. */
  readonly produce: () => Iterable<Uint8Array>;
}

/** The pages of the bitmap in ascending order, physically contiguous runs copied as runs. */
export function pagesSection(bitmap: PageBitmap, memory: DumpMemory, spare?: SparePages): SectionPlan {
  const { pageSize } = bitmap.ranges;
  return { name: 'pages', length: bitmap.count * pageSize, produce: pageBytes };

  function* pageBytes(): Generator<Uint8Array, void, undefined> {
    yield* copyRuns(memory, below(bitmap.runs(), spare?.pa ?? Infinity));
    if (spare) yield* spare.produce();
  }
}

/** Runs as far as they lie below an address. */
function* below(runs: Iterable<PhysicalRun>, end: number): Generator<PhysicalRun, void, undefined> {
  for (const { pa, length } of runs) if (pa < end) yield { pa, length: Math.min(length, end - pa) };
}

function* copySource(source: ByteSource): Generator<Uint8Array, void, undefined> {
  const buffer = new PieceBuffer(Math.min(COPY_BYTES, source.size));
  for (let at = 0; at < source.size;) {
    const got = source.readSync(at, buffer.bytes, 0, Math.min(buffer.room, source.size - at));
    if (got === 0) return;
    buffer.at = got;
    yield buffer.take();
    at += got;
  }
}

import {
  BlockCache,
  KvaParts,
  Mapping,
  SegmentMemory,
  Translation,
  kvaOf,
  type AddressSpace,
  type ByteSource,
  type PhysicalMemory,
} from '@libkvm/minidump-core';
import type { SimRam } from '../../fixtures/src/sim-ram.js';

/** Runs of each property: more with `npm run test:long`. */
export const RUNS = process.env.LIBKVM_LONG ? 2000 : 60;

/** Simulated RAM as a core would hold it: each range one segment. */
export function memoryOf(ram: SimRam): PhysicalMemory {
  let offset = 0;
  const segments = ram.ranges.map(({ start, end }) => {
    const segment = { pa: start, offset, length: end - start };
    offset += segment.length;
    return segment;
  });
  const source: ByteSource = {
    size: offset,
    readSync(from, target, at, length) {
      let done = 0;
      for (const { pa, offset: first, length: bytes } of segments) {
        const inside = from + done - first;
        if (inside < 0 || inside >= bytes || done >= length) continue;
        const count = Math.min(length - done, bytes - inside);
        target.set(ram.readBytes(pa + inside, count), at + done);
        done += count;
      }
      return done;
    },
  };
  return new SegmentMemory(new BlockCache(source, 1 << 20), segments);
}

/** One answer of an address space. */
export function ask(space: AddressSpace, kva: bigint): Translation {
  const [out, parts] = [new Translation(), new KvaParts(64)];
  parts.set(kva);
  const outcome = space.translate(parts.page, parts.offset, out);
  if (outcome !== out.outcome) throw new Error('translate returns another outcome than it stores');
  return out;
}

/** A mapping of an enumeration, as plain data. */
export interface Run {
  readonly kva: bigint;
  readonly length: number;
  readonly outcome: number;
  readonly pa: number;
  readonly flags: number;
  readonly pageSize: number;
}

/** All mappings of a window, in pages of 4 KB. */
export function runsOf(space: AddressSpace, fromPage = 0, toPage = 2 ** 52): Run[] {
  const runs: Run[] = [];
  const cursor = space.mappings(fromPage, toPage);
  const out = new Mapping();
  while (cursor.next(out)) {
    const { outcome, pa, flags, pageSize, length } = out;
    runs.push({ kva: kvaOf(out.page, out.offset), length, outcome, pa, flags, pageSize });
  }
  return runs;
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ABSENT, BlockCache, MemorySource, SegmentMemory, TRUNCATED } from '../src/index.js';
import type { PhysicalSegment } from '../src/index.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { PatternSource, PlainSource, pattern } from './sources.js';

const PAGE = 4096;
const ZERO = -3;

function memoryOf(size: number, segments: readonly PhysicalSegment[], zeroFill = false): SegmentMemory {
  return new SegmentMemory(new BlockCache(new PlainSource(pattern(size))), segments, { zeroFill });
}

describe('SegmentMemory', () => {
  it('locates bytes exactly, wherever segments start and end', () => {
    const memory = memoryOf(10_000, [{ pa: 0x1234, offset: 100, length: 50 }]);
    expect([0x1233, 0x1234, 0x1265, 0x1266].map((pa) => memory.locate(pa))).toEqual([
      ABSENT,
      100,
      149,
      ABSENT,
    ]);
    expect(memory.run(0x1240, 1000)).toBe(0x1266 - 0x1240);
    expect(memory.hole(0, 10 ** 6)).toBe(0x1234);
    expect(memory.hole(0x1266, 10 ** 6)).toBe(10 ** 6);
    expect(memory.pages).toEqual({ dumped: 1, missing: 0, partial: 0 });
    expect([memory.nextDumped(0), memory.dumpedEnd(0x1000), memory.pageIndex(0x1fff)]).toEqual([
      0x1000, 0x2000, 0,
    ]);
    expect([memory.nextDumped(0x2000), memory.pageIndex(0x2000), memory.pageIndex(0xfff)]).toEqual([
      -1, -1, -1,
    ]);
    for (const odd of [-1, NaN, 2 ** 60, Infinity]) expect(memory.locate(odd)).toBe(ABSENT);
  });

  it('runs over segments that follow each other in memory and in the file', () => {
    const memory = memoryOf(100_000, [
      { pa: 0x3000, offset: 0x2000, length: 0x1000 },
      { pa: 0x1000, offset: 0, length: 0x2000 },
      { pa: 0x4000, offset: 0x5000, length: 0x1000 },
    ]);
    expect(memory.run(0x1000, 10 ** 6)).toBe(0x3000);
    expect(memory.run(0x1000, 17)).toBe(17);
    expect(memory.dumpedEnd(0x1000)).toBe(0x5000);
  });

  it('lets the first of overlapping segments win', () => {
    const memory = memoryOf(100_000, [
      { pa: 0x2000, offset: 0x1000, length: 0x1000 },
      { pa: 0x1000, offset: 0x8000, length: 0x4000 },
    ]);
    expect([0x1fff, 0x2000, 0x2fff, 0x3000].map((pa) => memory.locate(pa))).toEqual([
      0x8fff, 0x1000, 0x1fff, 0xa000,
    ]);
    expect(memory.run(0x1000, 10 ** 6)).toBe(0x1000);
    expect(memory.ranges.ranges).toEqual([{ start: 0x1000, end: 0x5000 }]);
  });

  it('says what a cut file lacks, also where the first of two segments is cut', () => {
    const memory = memoryOf(0x1800, [
      { pa: 0x10000, offset: 0, length: 0x4000 },
      { pa: 0x10000, offset: 0, length: 0x1000 },
      { pa: 0x14000, offset: 0x4000, length: 0x1000 },
      { pa: 0x16000, offset: 0x100000, length: 0x1000 },
    ]);
    expect(memory.pages).toEqual({ dumped: 6, missing: 4, partial: 1 });
    expect([memory.locate(0x117ff), memory.locate(0x11800)]).toEqual([0x17ff, TRUNCATED]);
    expect(memory.run(0x10000, 10 ** 6)).toBe(0x1800);
    expect(memory.hole(0x11800, 10 ** 6)).toBe(0x15000 - 0x11800);
    expect(memory.hole(0x15000, 10 ** 6)).toBe(0x1000);
    expect(memory.hole(0x16001, 10 ** 6)).toBe(0xfff);
  });

  it('never gives zeros for bytes that the file lacks', () => {
    const memory = memoryOf(0x1000, [{ pa: 0, offset: 0, length: 0x1800, memLength: 0x3000 }], true);
    expect([memory.locate(0xfff), memory.locate(0x1000), memory.locate(0x17ff)]).toEqual([
      0xfff,
      TRUNCATED,
      TRUNCATED,
    ]);
    expect(memory.locate(0x1800)).toBeGreaterThanOrEqual(0x1000);
    expect(memory.run(0x1800, 10 ** 6)).toBe(0x1800);
    expect(memory.pages).toEqual({ dumped: 3, missing: 0, partial: 1 });
  });

  it('holds memory above 4 GB and files above 4 GB', () => {
    const source = new PatternSource(2 ** 41);
    const [pa, offset, length] = [2 ** 46 + 5, 2 ** 40 + 3, 2 ** 38];
    const memory = new SegmentMemory(new BlockCache(source, 1 << 18), [{ pa, offset, length }]);
    expect(memory.locate(pa + length - 1)).toBe(offset + length - 1);
    expect(memory.run(pa, 2 ** 50)).toBe(length);
    expect(memory.pages.dumped).toBe(length / PAGE + 1);
  });

  it('refuses impossible numbers', () => {
    const good = { pa: 0, offset: 0, length: 1 };
    for (const bad of [-1, 0.5, 2 ** 53]) {
      for (const field of ['pa', 'offset', 'length', 'memLength']) {
        expectCode('CORRUPT', () => memoryOf(10, [{ ...good, [field]: bad }]));
      }
    }
    expectCode('CORRUPT', () => memoryOf(10, [{ ...good, pa: 2 ** 53 - 1, length: 2 }]));
  });

  it('takes an empty list, and many segments', () => {
    expect(memoryOf(10, []).nextDumped(0)).toBe(-1);
    expect(memoryOf(10, [{ pa: 5, offset: 5, length: 0 }]).pages.dumped).toBe(0);
    // Each overlaps all that follow: quadratic work would take minutes.
    const nested = Array.from({ length: 100_000 }, (_, i) => ({
      pa: i,
      offset: i * 3,
      length: 2 ** 30 - i * 2,
    }));
    const memory = new SegmentMemory(new BlockCache(new MemorySource(pattern(100))), nested);
    expect([memory.locate(0), memory.locate(33), memory.locate(100)]).toEqual([0, 33, TRUNCATED]);
    const reversed = new SegmentMemory(new BlockCache(new MemorySource(pattern(100))), nested.reverse());
    expect([memory.locate(0), reversed.locate(33)]).toEqual([0, 99]);
  });
});

describe('against a map of bytes', () => {
  const at = fc.oneof(
    fc.nat(300),
    fc.nat(60).map((n) => n * 64),
    fc.nat(4).map((n) => n * PAGE),
  );
  const length = fc.oneof(fc.nat(40), fc.nat(2000), fc.constant(PAGE));
  const segment = fc
    .record({ pa: at, offset: at, length, more: fc.option(length, { nil: undefined }) })
    .map(({ more, ...rest }) => ({ ...rest, ...(more !== undefined && { memLength: more }) }));
  const cases = fc.record({
    segments: fc.array(segment, { maxLength: 8 }),
    size: fc.integer({ min: 0, max: 9000 }),
    zeroFill: fc.boolean(),
  });
  const END = 6 * PAGE;
  const wanted = pattern(9000);

  /** What each byte of physical memory is: an offset, ABSENT, TRUNCATED or ZERO. */
  function model({
    segments,
    size,
    zeroFill,
  }: {
    segments: PhysicalSegment[];
    size: number;
    zeroFill: boolean;
  }): Int16Array {
    const bytes = new Int16Array(END).fill(ABSENT);
    for (const { pa, offset, length } of segments) {
      for (let i = 0; i < length; i++) {
        if (bytes[pa + i] === ABSENT) bytes[pa + i] = offset + i < size ? offset + i : TRUNCATED;
      }
    }
    if (!zeroFill) return bytes;
    for (const { pa, length, memLength = 0 } of segments) {
      for (let i = length; i < memLength; i++) if (bytes[pa + i] === ABSENT) bytes[pa + i] = ZERO;
    }
    return bytes;
  }

  function sameAs(memory: SegmentMemory, bytes: Int16Array, pa: number): void {
    const expected = bytes[pa];
    const located = memory.locate(pa);
    if (expected === ABSENT || expected === TRUNCATED) {
      expect(located).toBe(expected);
      const hole = memory.hole(pa, END - pa);
      expect(hole).toBeGreaterThan(0);
      for (let i = 0; i < hole; i++) if (bytes[pa + i] !== expected) expect.fail(`hole of ${hole} at ${pa}`);
      if (expected === ABSENT && pa + hole < END) expect(bytes[pa + hole]).not.toBe(ABSENT);
      return;
    }
    const run = memory.run(pa, END);
    const content = new Uint8Array(run);
    expect(memory.cache.readSync(located, content, 0, run)).toBe(run);
    for (let i = 0; i < run; i++) {
      const from = bytes[pa + i];
      if (from === ABSENT || from === TRUNCATED) expect.fail(`run of ${run} at ${pa}`);
      if (from !== ZERO && memory.fileOffsets && from !== located + i) expect.fail(`offset at ${pa + i}`);
      if (content[i] !== (from === ZERO ? 0 : wanted[from])) expect.fail(`byte at ${pa + i}`);
    }
  }

  function countedPages(bytes: Int16Array): SegmentMemory['pages'] {
    const counts = { dumped: 0, missing: 0, partial: 0 };
    for (let pa = 0; pa < END; pa += PAGE) {
      const page = bytes.slice(pa, pa + PAGE).filter((byte) => byte !== ABSENT);
      const lost = page.filter((byte) => byte === TRUNCATED).length;
      if (page.length > 0) counts.dumped++;
      if (page.length > 0 && lost === page.length) counts.missing++;
      if (lost > 0 && lost < page.length) counts.partial++;
    }
    return counts;
  }

  it('has the same bytes, holes, runs, pages and ranges', () => {
    const property = fc.property(cases, (one) => {
      const memory = memoryOf(one.size, one.segments, one.zeroFill);
      const bytes = model(one);
      expect(memory.pages).toEqual(countedPages(bytes));
      const edges = one.segments.flatMap(({ pa, length, memLength = 0 }) => [
        pa,
        pa + length,
        pa + memLength,
      ]);
      for (const edge of [0, ...edges]) {
        for (const pa of [edge - 1, edge, edge + 1]) if (pa >= 0 && pa < END) sameAs(memory, bytes, pa);
      }
      let index = 0;
      for (let pa = 0; pa < END; pa += PAGE) {
        const held = bytes.slice(pa, pa + PAGE).some((byte) => byte !== ABSENT);
        expect(memory.pageIndex(pa + 7)).toBe(held ? index++ : -1);
        if (held) expect(memory.nextDumped(pa)).toBe(pa);
        const covered = one.segments.some(
          ({ pa: start, length, memLength = 0 }) =>
            Math.max(length, memLength) > 0 && start < pa + PAGE && start + Math.max(length, memLength) > pa,
        );
        expect(memory.ranges.has(pa)).toBe(covered);
      }
    });
    fc.assert(property, runs(500));
  });
});

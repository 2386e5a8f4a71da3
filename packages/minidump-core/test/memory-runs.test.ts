import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DumpMemory } from '../src/dump-source.js';
import { copyRuns, MemoryRuns } from '../src/memory-runs.js';
import { PageRanges } from '../src/page-ranges.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';

const PAGE = 4096;

/** Memory of which some bytes are there, told in pieces that end anywhere. */
function memoryOf(there: (pa: number) => boolean, ends: number[], knowsHoles: boolean): DumpMemory {
  const span = (pa: number, limit: number, held: boolean): number => {
    let at = pa;
    while (at < pa + limit && there(at) === held && (at === pa || !held || !ends.includes(at))) at += 1024;
    return Math.min(limit, at - pa);
  };
  return {
    ranges: new PageRanges(
      [
        { start: 0x1000, end: 0x9000 },
        { start: 0xa000, end: 0x12000 },
      ],
      PAGE,
    ),
    available: (pa, limit) => (there(pa) ? span(pa, limit, true) : 0),
    ...(knowsHoles && { hole: (pa: number, limit: number) => span(pa, limit, false) }),
    readSync(pa, target, at, length) {
      for (let i = 0; i < length; i++) target[at + i] = (pa + i) >>> 12;
    },
  };
}

describe('the runs of a memory', () => {
  it('are its whole pages, without those left out', () => {
    const quarters = fc.array(fc.integer({ min: 0, max: 0x12000 / 1024 - 1 }), { maxLength: 20 });
    const pages = fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 6 });
    const property = fc.property(quarters, quarters, pages, fc.boolean(), (missing, ends, drops, knows) => {
      const there = (pa: number): boolean => !missing.includes(Math.floor(pa / 1024));
      const memory = memoryOf(
        there,
        ends.map((quarter) => quarter * 1024),
        knows,
      );
      const found = new MemoryRuns(memory, { dropPages: drops.map((pfn) => pfn * PAGE + 7) });
      const ram = Array.from({ length: 0x12 }, (_, pfn) => pfn).filter((pfn) =>
        memory.ranges.has(pfn * PAGE),
      );
      const held = ram.filter((pfn) => [0, 1, 2, 3].every((i) => there(pfn * PAGE + i * 1024)));
      const wanted = held.filter((pfn) => !drops.includes(pfn));
      const got = [...found].flatMap(({ pa, length }) =>
        Array.from({ length: length / PAGE }, (_, i) => pa / PAGE + i),
      );
      expect(got).toEqual(wanted);
      expect([found.pages, found.absent, found.dropped]).toEqual([
        ...[wanted.length, ram.length - held.length, held.length - wanted.length],
      ]);
      // As long as they can be.
      const starts = [...found].map(({ pa }) => pa);
      for (const { pa, length } of found) expect(starts).not.toContain(pa + length);
      const bytes = [...copyRuns(memory, found)].flatMap((piece) => [...piece]);
      expect(bytes.filter((_, i) => i % PAGE === 0)).toEqual(wanted);
      expect(bytes.length).toBe(wanted.length * PAGE);
    });
    fc.assert(property, runs(150));
  });

  it('are refused where there are too many', () => {
    const memory = memoryOf((pa) => pa % 0x2000 < 0x1000, [], true);
    expect(new MemoryRuns(memory).length).toBe(8);
    expectCode('UNSUPPORTED', () => new MemoryRuns(memory, { limit: 7 }));
    expectCode('INVALID_ARGUMENT', () => new MemoryRuns(memory, { dropPages: [1.5] }));
  });

  it('are not what they were when the memory changed', () => {
    let gone = false;
    const memory = memoryOf(() => !gone, [], true);
    const found = new MemoryRuns(memory);
    gone = true;
    expectCode('IO', () => [...copyRuns(memory, found)]);
  });
});

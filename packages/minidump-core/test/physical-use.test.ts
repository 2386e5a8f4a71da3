import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalUse } from '../src/physical-use.js';
import { runs } from './runs.js';

const PAGE = 4096;
const range = (pages: number): fc.Arbitrary<[number, number]> =>
  fc.tuple(fc.nat(pages), fc.integer({ min: 1, max: 40 }));

describe('a place that nobody uses', () => {
  it('is the lowest above all RAM that has room, or the lowest of all', () => {
    const property = fc.property(
      ...[fc.array(range(300), { maxLength: 8 }), fc.array(range(300), { maxLength: 12 })],
      ...[fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 4 }), fc.integer({ min: 60, max: 360 })],
      (ram, devices, pages, alignLog, endPage) => {
        // A million pages are told apart one by one; only the last ones are free to be used.
        const use = new PhysicalUse(2 ** 32);
        const base = 2 ** 20 - endPage;
        const used = new Set<number>();
        const mark = (from: number, count: number): void => {
          for (let i = from; i < from + count; i++) used.add(i);
        };
        use.addRam(0, base * PAGE);
        let ramEnd = base;
        for (const [from, count] of ram) {
          use.addRam((base + from) * PAGE, count * PAGE);
          mark(base + from, count);
          ramEnd = Math.max(ramEnd, base + from + count);
        }
        for (const [from, count] of devices) {
          use.add((base + from) * PAGE + 0x400, count * PAGE - 0x800);
          mark(base + from, count);
        }
        const align = 2 ** alignLog;
        const free = (at: number): boolean => {
          for (let i = at; i < at + pages; i++) if (i < base || used.has(i) || i >= 2 ** 20) return false;
          return true;
        };
        const places = Array.from({ length: 2 ** 20 - base }, (_, i) => base + i).filter(
          (at) => at % align === 0 && free(at),
        );
        const wanted = places.find((at) => at >= ramEnd) ?? places.at(0);
        const found = use.find(pages * PAGE, align * PAGE);
        expect(found === undefined ? undefined : found / PAGE).toBe(wanted);
      },
    );
    fc.assert(property, runs(60));
  });

  it('is never one that is used, however coarse the map', () => {
    const use = new PhysicalUse(2 ** 52);
    use.addRam(0x1000, 2 ** 36 + 0x123000);
    use.add(2 ** 37, 0x1000);
    const found = use.find(2 ** 36, 0x4000)!;
    expect(found).toBeGreaterThan(2 ** 36);
    expect(found % 0x4000).toBe(0);
    expect(found > 2 ** 37 || found + 2 ** 36 <= 2 ** 37).toBe(true);
    expect(use.find(2 ** 52, 0x1000)).toBeUndefined();
  });

  it('takes addresses beyond the limit as they come', () => {
    const use = new PhysicalUse(2 ** 32);
    use.add(2 ** 40, 2 ** 30);
    use.add(2 ** 32 - 0x1000, 2 ** 40);
    use.addRam(2 ** 34, 0x1000);
    expect(use.find(0x1000, 0x1000)).toBe(0);
    expect(use.find(2 ** 32, 0x1000)).toBeUndefined();
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PageRanges, type ByteRange } from '../src/page-ranges.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { same } from './same.js';

/** freebsd-dumps.md 1.3, word for word: (pfn, bit) of every bit, range by range. */
function naiveBits(
  ranges: readonly ByteRange[],
  pageSize: number,
): { pfn: number; bit: number; range: number }[] {
  const bits: { pfn: number; bit: number; range: number }[] = [];
  ranges.forEach(({ start, end }, range) => {
    for (let pfn = Math.floor(start / pageSize); pfn < Math.ceil(end / pageSize); pfn++) {
      bits.push({ pfn, bit: bits.length, range });
    }
  });
  return bits;
}

/** Compares everything for every page from 0 to a few behind the last one. */
function check(list: ByteRange[], pageSize: number): void {
  const ranges = new PageRanges(list, pageSize);
  const bits = naiveBits(list, pageSize);
  expect(ranges.pages).toBe(bits.length);
  for (const { bit, pfn } of bits) same(ranges.pfnOf(bit), pfn, 'pfnOf', bit);
  const last = bits.at(-1)?.pfn ?? 0;
  for (let pfn = 0; pfn <= last + 3; pfn++) {
    const owner = bits.find((entry) => entry.pfn === pfn); // the first range owns a shared page
    const behind = bits.filter(({ range }) => range === owner?.range).at(-1)?.bit ?? -1;
    same(ranges.bitOf(pfn), owner?.bit ?? -1, 'bitOf', pfn);
    same(ranges.endBitOf(pfn), behind + 1, 'endBitOf', pfn);
    same(ranges.nextPage(pfn), bits.find((entry) => entry.pfn >= pfn)?.pfn ?? -1, 'nextPage', pfn);
    same(ranges.has(pfn * pageSize), owner !== undefined, 'has', pfn);
    same(ranges.has(pfn * pageSize + pageSize - 1), owner !== undefined, 'has the end of', pfn);
  }
}

/** Ascending ranges with gaps and lengths of any size, so that pages are often shared and often whole. */
const rangeLists = (pageSize: number): fc.Arbitrary<ByteRange[]> => {
  const step = fc.oneof(
    fc.nat(3 * pageSize),
    fc.nat(5).map((pages) => pages * pageSize),
    fc.constant(0),
    fc.nat(3),
  );
  return fc.array(fc.tuple(step, step), { maxLength: 12 }).map((steps) => {
    let at = 0;
    return steps.map(([gap, length]) => {
      const start = at + gap;
      at = start + Math.max(1, length);
      return { start, end: at };
    });
  });
};

describe('PageRanges', () => {
  it('numbers pages as the naive model does', () => {
    const lists = fc
      .constantFrom(4096, 16)
      .chain((pageSize) => fc.tuple(rangeLists(pageSize), fc.constant(pageSize)));
    fc.assert(
      fc.property(lists, ([list, pageSize]) => check(list, pageSize)),
      runs(200),
    );
  });

  it('never gives a hole the bit of a neighbour', () => {
    fc.assert(
      fc.property(rangeLists(4096), (list) => {
        const ranges = new PageRanges(list, 4096);
        const seen = new Map<number, number>();
        for (let pfn = 0; pfn < (list.at(-1)?.end ?? 0) / 4096 + 5; pfn++) {
          const bit = ranges.bitOf(pfn);
          const touched = list.some(({ start, end }) => start < (pfn + 1) * 4096 && end > pfn * 4096);
          same(bit >= 0, touched, 'page', pfn);
          if (bit < 0) continue;
          same(seen.get(bit), undefined, 'bit', bit, 'is that of two pages');
          seen.set(bit, pfn);
          same(bit < ranges.pages, true, 'bit', bit);
        }
      }),
      runs(200),
    );
  });

  it('answers the same in any order of questions', () => {
    fc.assert(
      fc.property(rangeLists(4096), fc.array(fc.nat(60), { maxLength: 40 }), (list, pfns) => {
        const ranges = new PageRanges(list, 4096);
        for (const pfn of pfns) {
          const fresh = new PageRanges(list, 4096);
          same(ranges.bitOf(pfn), fresh.bitOf(pfn), 'bitOf', pfn);
          same(ranges.nextPage(pfn), fresh.nextPage(pfn), 'nextPage', pfn);
          same(ranges.endBitOf(pfn), fresh.endBitOf(pfn), 'endBitOf', pfn);
        }
      }),
      runs(100),
    );
  });

  it('has the bits of freebsd-dumps.md 7.1', () => {
    const list = [
      { start: 0x1000, end: 0xa0000 },
      { start: 0x100000, end: 0x40000000 },
    ];
    const ranges = new PageRanges(list, 4096);
    expect(ranges.pages).toBe(262047);
    const bits = [0x1000, 0x9f000, 0x100000, 0x3ffff000, 0x2345000, 0x3456000, 0x1e34567];
    expect(bits.map((pa) => ranges.bitOf(Math.floor(pa / 4096)))).toEqual([
      ...[0, 158, 159, 262046, 8932, 13301, 7635],
    ]);
    // In the hole, below the first page, behind the last one.
    expect([0xb0, 0xa0, 0xff, 0, 0x40000, -1, 2 ** 40].map((pfn) => ranges.bitOf(pfn))).toEqual(
      new Array(7).fill(-1),
    );
    expect(ranges.ranges).toEqual(list);
  });

  it('lets ranges share a page, even three of them', () => {
    check(
      [
        { start: 0x1000, end: 0x1001 },
        { start: 0x1001, end: 0x1fff },
        { start: 0x1fff, end: 0x4000 },
        { start: 0x4000, end: 0x4001 },
      ],
      4096,
    );
  });

  it('may be empty', () => {
    const ranges = new PageRanges([], 4096);
    expect(ranges.pages).toBe(0);
    expect([ranges.bitOf(0), ranges.endBitOf(0), ranges.nextPage(0)]).toEqual([-1, 0, -1]);
    expect(ranges.has(0)).toBe(false);
  });

  it('is exact up to 2^53', () => {
    const top = 2 ** 53 - 1;
    const ranges = new PageRanges(
      [
        { start: 0, end: 1 },
        { start: 2 ** 32 - 1, end: 2 ** 52 + 1 },
        { start: top - 1, end: top },
      ],
      4096,
    );
    const second = 2 ** 40 + 1 - (2 ** 20 - 1);
    expect(ranges.pages).toBe(second + 2);
    expect(ranges.bitOf(2 ** 40)).toBe(second);
    expect(ranges.bitOf(2 ** 40 + 1)).toBe(-1);
    expect(ranges.bitOf(2 ** 41 - 1)).toBe(second + 1);
    expect(ranges.pfnOf(second + 1)).toBe(2 ** 41 - 1);
    expect(ranges.pfnOf(second)).toBe(2 ** 40);
    expect(ranges.has(top)).toBe(true);
  });

  it('refuses ranges that are empty, reversed, out of order, or no addresses, and names them', () => {
    const good = { start: 0x1000, end: 0x3000 };
    const bad: [ByteRange[], number][] = [
      [[{ start: 0, end: 0 }], 0],
      [[{ start: 0x2000, end: 0x1000 }], 0],
      [[good, { start: 0x3000, end: 0x3000 }], 1],
      [[good, { start: 0x2fff, end: 0x5000 }], 1],
      [[good, { start: 0, end: 0x1000 }], 1],
      [[good, good], 1],
      [[good, { start: 0x4000, end: 0x5000 }, { start: 0x3000, end: 0x4000 }], 2],
      ...[-1, 0.5, NaN, -Infinity].map((start): [ByteRange[], number] => [[{ start, end: 0x1000 }], 0]),
      ...[2 ** 53, NaN, Infinity, 1.5].map((end): [ByteRange[], number] => [[{ start: 0, end }], 0]),
    ];
    for (const [list, index] of bad) {
      const error = expectCode('CORRUPT', () => new PageRanges(list, 4096));
      expect(error.field).toBe(`ranges[${index}]`);
    }
  });
});

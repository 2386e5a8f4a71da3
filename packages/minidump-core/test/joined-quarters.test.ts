import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Mapping } from '../src/address-space.js';
import { joinedQuarters, QuarteredMapping } from '../src/joined-quarters.js';
import { runs } from './runs.js';

const KB = 1024;

/** A mapping of `length` bytes at a KVA that is its PA and a megabyte, with pages of 4 KB. */
function part(pa: number, length: number, flags: number, pageSize = 4 * KB): Mapping {
  const mapping = new Mapping();
  const kva = pa + 0x10_0000;
  return Object.assign(mapping, { page: kva >>> 12, offset: kva & 4095, pa, length, flags, pageSize });
}

/** What each KB is: PA and flags. */
function kilobytes(mappings: readonly (Mapping | QuarteredMapping)[]): Map<number, string> {
  const found = new Map<number, string>();
  for (const mapping of mappings) {
    const { page, offset, pa, length, flags, pageSize } = mapping;
    const quarters = 'quarters' in mapping ? mapping.quarters : undefined;
    for (let at = 0; at < length; at += KB) {
      const own = quarters?.[Math.floor(at / (pageSize / 4))] ?? flags;
      found.set(page * 4096 + offset + at, `${pa + at} ${own}`);
    }
  }
  return found;
}

/** What comes out; the object is reused. */
function copies(mappings: Iterable<Mapping>, sizes: readonly number[]): QuarteredMapping[] {
  return Array.from(joinedQuarters(mappings, sizes), (mapping) =>
    Object.assign(new QuarteredMapping(), mapping),
  );
}

describe('quarters of pages', () => {
  it('are joined where they make up a page, and stay what they are', () => {
    const piece = fc.record({
      kb: fc.integer({ min: 1, max: 8 }),
      skip: fc.integer({ min: 0, max: 3 }),
      flags: fc.integer({ min: 1, max: 3 }),
    });
    const property = fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      let at = 0;
      const mappings = pieces.map(({ kb, skip, flags }) => {
        at += skip * KB;
        const mapping = part(at, kb * KB, flags);
        at += kb * KB;
        return mapping;
      });
      const joined = copies(mappings, [4 * KB]);
      expect(kilobytes(joined)).toEqual(kilobytes(mappings));
      // A page that is there whole, in parts of it alone, is one.
      for (const { pa, quarters, length } of joined) {
        if (quarters) expect([pa % (4 * KB), length, new Set(quarters).size > 1]).toEqual([0, 4 * KB, true]);
      }
    });
    fc.assert(property, runs(200));
  });

  it('of a page that has four of its own are one mapping', () => {
    const parts = [part(0, KB, 1), part(KB, KB, 3), part(2 * KB, 2 * KB, 1), part(4 * KB, 4 * KB, 3)];
    const joined = copies(parts, [4 * KB]).map(({ pa, length, quarters }) => [pa, length, quarters]);
    expect(joined).toEqual([
      [0, 4 * KB, [1, 3, 1, 1]],
      [4 * KB, 4 * KB, undefined],
    ]);
    const none = copies(parts, [64 * KB]).map(({ pa, length, quarters }) => [pa, length, quarters]);
    expect(none).toEqual(parts.map(({ pa, length }) => [pa, length, undefined]));
  });

  it('of a large page are 16 KB each', () => {
    const parts = [0, 1, 2, 3].map((i) => part(i * 16 * KB, 16 * KB, 1 + (i & 1) * 2, 64 * KB));
    const [only, ...more] = copies(parts, [64 * KB]);
    expect([only.pa, only.length, only.quarters, more]).toEqual([0, 64 * KB, [1, 3, 1, 3], []]);
  });
});

import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { Mapping } from '../src/index.js';
import { sparePlace } from '../src/spare-place.js';
import { runs } from './runs.js';

/** Where pages can be made up: next to RAM, and never where a mapping leads. */

const PAGE = 4096;
const TOP = 2 ** 52;

function mappingsTo(parts: readonly (readonly [pa: number, length: number])[]): () => Mapping[] {
  return () => parts.map(([pa, length]) => Object.assign(new Mapping(), { pa, length }));
}

describe('the place of made-up pages', () => {
  it('is right behind RAM where nothing is', () => {
    expect(sparePlace(0, PAGE, mappingsTo([]))).toBe(0);
    expect(sparePlace(0x800_0000, 3 * PAGE, mappingsTo([[0x1000, 0x5000]]))).toBe(0x800_0000);
  });

  it('is behind what is mapped there, however high', () => {
    const from = 0x800_0000;
    expect(sparePlace(from, 2 * PAGE, mappingsTo([[from, PAGE]]))).toBe(from + PAGE);
    expect(sparePlace(from, 2 * PAGE, mappingsTo([[from + PAGE, PAGE]]))).toBe(from + 2 * PAGE);
    const all = sparePlace(from, PAGE, mappingsTo([[0, 2 ** 40]]));
    expect(all).toBeGreaterThanOrEqual(2 ** 40);
    expect(all).toBeLessThan(2 ** 45);
  });

  it('is none where there is no room', () => {
    expect(sparePlace(TOP - 2 ** 34, PAGE, mappingsTo([]))).toBe(TOP - 2 ** 34);
    expect(sparePlace(TOP - PAGE, 2 * PAGE, mappingsTo([]))).toBeUndefined();
    expect(sparePlace(TOP, PAGE, mappingsTo([]))).toBeUndefined();
    expect(sparePlace(0, PAGE, mappingsTo([[0, TOP]]))).toBeUndefined();
  });

  const part = fc.record({ near: fc.boolean(), at: fc.nat(400), length: fc.integer({ min: 1, max: 60 }) });
  test.prop(
    [fc.nat(2 ** 30), fc.integer({ min: 1, max: 50 }), fc.array(part), fc.integer({ min: 12, max: 44 })],
    runs(100),
  )('shares nothing with RAM or a mapping', (ramPages, pages, parts, shift) => {
    const from = ramPages * PAGE;
    const used = parts.map(({ near, at, length }): [number, number] => [
      near ? from + at * PAGE : Math.min(at * 2 ** shift, TOP / 2),
      length * PAGE,
    ]);
    const place = sparePlace(from, pages * PAGE, mappingsTo(used))!;
    expect(place % PAGE).toBe(0);
    expect(place).toBeGreaterThanOrEqual(from);
    for (const [pa, length] of used) expect(pa + length <= place || place + pages * PAGE <= pa).toBe(true);
    expect(place + pages * PAGE).toBeLessThanOrEqual(TOP);
  });
});

import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { Translation } from '../src/index.js';
import {
  describeLeaf,
  LEAF_BITS,
  leafFlags,
  leafHigh,
  leafLevel,
  leafLow,
  leafPa,
  leafShift,
  leafSound,
  leafValid,
} from '../src/leaf.js';
import { leafOf } from './portable-model.js';
import { runs } from './runs.js';

const split = (leaf: bigint): [number, number] => [Number(leaf & 0xffffffffn), Number(leaf >> 32n)];

/** The bits of a row of LEAF_BITS: `9:7` is 7, 8 and 9. */
function bitsOf(name: string): number[] {
  const [high, low = high] = name.split(':').map(Number);
  return Array.from({ length: high - low + 1 }, (_, i) => low + i);
}

const anyLeaf = fc.record({
  pa: fc.bigInt(0n, (1n << 42n) - 1n).map((granule) => granule << 10n),
  flags: fc.nat(0x3f),
  shift: fc.integer({ min: 10, max: 52 }),
  level: fc.nat(7),
  type: fc.nat(0x1f),
});

describe('leaf entries', () => {
  it('have a meaning for each of 64 bits, once', () => {
    const bits = LEAF_BITS.flatMap(([name]) => bitsOf(name));
    expect(bits.sort((a, b) => a - b)).toEqual(Array.from({ length: 64 }, (_, i) => i));
  });

  test.prop([anyLeaf], runs(500))(
    'are made and taken apart as the table says',
    ({ pa, flags, shift, level, type }) => {
      const [low, high] = split(leafOf(pa, flags, 2 ** shift, level, type));
      const all = flags | (type << 8);
      expect([
        (leafLow(all, level) | Number(pa & 0xffffffffn)) >>> 0,
        (leafHigh(all, 2 ** shift) | Number(pa >> 32n)) >>> 0,
      ]).toEqual([low, high]);
      expect([leafValid(low), leafSound(low, high)]).toEqual([true, true]);
      expect([leafPa(low, high), leafFlags(low, high)]).toEqual([Number(pa), all]);
      expect([leafShift(high), leafLevel(low)]).toEqual([shift, level]);
      const out = new Translation();
      describeLeaf(low, high, out);
      expect([out.flags, out.pageSize, out.level]).toEqual([all, 2 ** shift, level]);
    },
  );

  it('show the PA to whoever reads a hexdump', () => {
    // A page of the kernel's text: PA 0x1c72000, r-x, global, level 1, 4 KB.
    expect(leafOf(0x1c72000, 1 | 4 | 16, 4096).toString(16)).toBe('1800000001c720ab');
    // The same in a superpage: level 2, 2 MB.
    expect(leafOf(0x1c72000, 1 | 4 | 16, 0x200000, 2).toString(16)).toBe('2a00000001c7212b');
  });

  it('tells unsound leaves', () => {
    expect(leafSound(0, 0)).toBe(true);
    for (const [low, high] of [
      [2, 0], // not valid, but not zero
      [0, 0x18000000],
      [1, 0x80000000], // bit 63
      [1, 53 << 25], // a mapping of 2^53 bytes
    ]) {
      expect([low, high, leafSound(low, high)]).toEqual([low, high, false]);
    }
  });
});

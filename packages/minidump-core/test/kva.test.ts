import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkedNumber, KvaParts, kvaOf } from '../src/kva.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';

const TOP = 2n ** 64n - 1n;
const split = (kva: number | bigint, bits: 32 | 64 = 64): [number, number] => {
  const parts = new KvaParts(bits);
  parts.set(kva);
  return [parts.page, parts.offset];
};

/** All magnitudes alike, and the edges of words, pages and halves. */
const kvas = fc.oneof(
  fc.bigInt({ min: 0n, max: TOP }),
  fc.tuple(fc.integer({ min: 0, max: 64 }), fc.integer({ min: -2, max: 2 })).map(([power, delta]) => {
    const value = 2n ** BigInt(power) + BigInt(delta);
    return value < 0n ? 0n : value > TOP ? TOP : value;
  }),
);

describe('KvaParts', () => {
  it('splits any 64-bit address into page and offset, and kvaOf joins them', () => {
    fc.assert(
      fc.property(kvas, (kva) => {
        const [page, offset] = split(kva);
        expect(BigInt(page)).toBe(kva / 4096n);
        expect(BigInt(offset)).toBe(kva % 4096n);
        expect(kvaOf(page, offset)).toBe(kva);
      }),
      runs(1000),
    );
  });

  it('takes a number for the same address', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (kva) => {
        expect(split(kva)).toEqual([Math.floor(kva / 4096), kva % 4096]);
        expect(split(BigInt(kva))).toEqual(split(kva));
      }),
      runs(300),
    );
    expect(split(-0)).toEqual([0, 0]);
  });

  it('keeps parts apart from each other and from kvaOf', () => {
    const [a, b] = [new KvaParts(64), new KvaParts(32)];
    a.set(0xffffffff80234567n);
    b.set(0xc0001234);
    kvaOf(7, 7);
    expect([a.page, a.offset, b.page, b.offset]).toEqual([0xffffffff80234, 0x567, 0xc0001, 0x234]);
  });

  it('knows the examples of freebsd-dumps.md 7', () => {
    expect(split(0xfffffe0012345678n)).toEqual([0xfffffe0012345, 0x678]);
    expect(kvaOf(0xfffff80000002, 0x10)).toBe(0xfffff80000002010n);
  });

  it('refuses what is no address of up to 64 bits', () => {
    const bad = [-1n, 2n ** 64n, -(2n ** 64n), 2n ** 70n, -1, 0.5, NaN, Infinity, 2 ** 53, 2 ** 64];
    for (const kva of [...bad, '0x1000', null, undefined, {}, true] as number[]) {
      for (const bits of [32, 64] as const) {
        const error = expectCode('INVALID_ARGUMENT', () => split(kva, bits));
        expect(error.field).toBe('kva');
        expect(error.hint).toBeDefined();
      }
    }
    // A number that is too large was an address, but is no longer the one that was meant.
    expect(expectCode('INVALID_ARGUMENT', () => split(0xffffffff80200000)).hint).toContain('bigint');
  });

  it('is what it was when an address is refused', () => {
    const parts = new KvaParts(32);
    parts.set(0x12345678);
    expectCode('INVALID_ARGUMENT', () => parts.set(-1));
    expectCode('NOT_CANONICAL', () => parts.set(2 ** 32));
    expect([parts.page, parts.offset]).toEqual([0x12345, 0x678]);
  });
});

describe('KvaParts of 32 bits', () => {
  it('has each address once, and the upper half sign-extended too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (kva) => {
        const expected = [Math.floor(kva / 4096), kva % 4096];
        expect(split(kva, 32)).toEqual(expected);
        expect(split(BigInt(kva), 32)).toEqual(expected);
        const extended = BigInt.asUintN(64, BigInt(kva | 0));
        expect(split(extended, 32)).toEqual(expected);
        expect(kvaOf(expected[0], expected[1])).toBe(BigInt(kva));
      }),
      runs(300),
    );
  });

  it('knows its edges', () => {
    expect(split(0xffffffff80000000n, 32)).toEqual([0x80000, 0]);
    expect(split(TOP, 32)).toEqual([0xfffff, 0xfff]);
    expect(split(0xffffffff, 32)).toEqual([0xfffff, 0xfff]);
    const none = [0x1_0000_0000n, 0xffffffff7fffffffn, 0xfffffffe80000000n, 0xffffffff00000000n, 1n << 63n];
    for (const kva of [...none, 0x1_8000_0000, 2 ** 53 - 1]) {
      const error = expectCode('NOT_CANONICAL', () => split(kva, 32));
      expect(error).toMatchObject({ address: BigInt(kva), addressSpace: 'virtual' });
      expect(error.message).toContain(kva.toString(16));
    }
  });

  it('has no say on 64 bits', () => {
    expect(split(0x1_0000_0000n)).toEqual([0x100000, 0]);
    expect(split(0xffffffff7fffffffn)).toEqual([0xffffffff7ffff, 0xfff]);
  });
});

describe('checkedNumber', () => {
  it('takes integers of both kinds from 0 to 2^53 - 1', () => {
    for (const value of [0, 1, 4096, 2 ** 32, 2 ** 53 - 1]) {
      expect(checkedNumber(value, 'x')).toBe(value);
      expect(checkedNumber(BigInt(value), 'x')).toBe(value);
    }
  });

  it('refuses everything else', () => {
    const bad = [
      -1,
      -1n,
      0.5,
      NaN,
      Infinity,
      2 ** 53,
      2n ** 53n,
      2n ** 53n + 1n,
      2n ** 64n,
      TOP,
      2n ** 2000n,
    ];
    for (const value of [...bad, '5', null, undefined, {}] as number[]) {
      const error = expectCode('INVALID_ARGUMENT', () => checkedNumber(value, 'the length'));
      expect(error.field).toBe('the length');
      expect(error.message).toContain('the length');
    }
  });
});

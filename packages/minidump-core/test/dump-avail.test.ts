import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemorySource, SubSource, type ByteSource } from '../src/byte-source.js';
import { readDumpAvail } from '../src/dump-avail.js';
import type { ByteOrder } from '../src/struct.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { PlainSource } from './sources.js';

const LIMIT = 2 ** 52;
const ORDERS: ByteOrder[] = ['little', 'big'];

/** u64 values as bytes, by way of their digits. */
function section(values: (number | bigint)[], order: ByteOrder, extraBytes = 0): MemorySource {
  const bytes = values.flatMap((value) => {
    const digits = BigInt(value).toString(16).padStart(16, '0');
    const big = Array.from({ length: 8 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
    return order === 'little' ? big.reverse() : big;
  });
  return new MemorySource(Uint8Array.from([...bytes, ...new Array<number>(extraBytes).fill(0xff)]));
}

const pairs = (values: number[]): { start: number; end: number }[] =>
  values.flatMap((value, i) => (i % 2 === 0 ? [{ start: value, end: values[i + 1] }] : []));

describe.each(ORDERS)('readDumpAvail, %s-endian', (order) => {
  it('reads pairs up to the terminator, whatever follows it', () => {
    const list = [0x1000, 0xa0000, 0x100000, 0x4000_0000];
    const source = section([...list, 0, 0, 7, 5, 2n ** 64n - 1n, 1], order);
    expect(readDumpAvail(source, order, LIMIT)).toEqual(pairs(list));
  });

  it('reads a page of zeros behind the ranges', () => {
    const list = [0, 0xa0000];
    expect(readDumpAvail(section([...list, ...new Array<number>(510).fill(0)], order), order, LIMIT)).toEqual(
      pairs(list),
    );
  });

  it('ends with the section where there is no terminator, and never reads half a pair', () => {
    const list = [0x1000, 0x2000, 0x3000, 0x4000];
    for (const extra of [0, 1, 8, 15]) {
      expect(readDumpAvail(section(list, order, extra), order, LIMIT)).toEqual(pairs(list));
    }
    for (const size of [0, 1, 15]) {
      expect(readDumpAvail(new SubSource(section(list, order), 0, size), order, LIMIT)).toEqual([]);
    }
  });

  it('lets a range start at 0: only the end tells the terminator', () => {
    expect(readDumpAvail(section([0, 0x1000, 0x2000, 0], order), order, LIMIT)).toEqual(pairs([0, 0x1000]));
  });

  it('is exact up to the limit and refuses what lies above it', () => {
    const top = 2 ** 52;
    expect(readDumpAvail(section([2 ** 40 + 1, top - 1, top - 1, top], order), order, top)).toEqual(
      pairs([2 ** 40 + 1, top - 1, top - 1, top]),
    );
    const above = [top + 1, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
    for (const value of above) {
      const error = expectCode('CORRUPT', () =>
        readDumpAvail(section([0, 0x1000, 0x2000, 0x3000, 0x4000, value, 0, 0], order), order, top),
      );
      expect(error).toMatchObject({ field: 'dump_avail[4]', offset: 32 });
      const inFile = expectCode('CORRUPT', () =>
        readDumpAvail(section([0, 0x1000, value, 0x1000], order), order, top, 0x3000),
      );
      expect(inFile).toMatchObject({ field: 'dump_avail[2]', offset: 0x3010 });
      expectCode('CORRUPT', () => readDumpAvail(section([value, 0x1000, 0, 0], order), order, top));
    }
    expectCode('CORRUPT', () => readDumpAvail(section([0, 2 ** 32 + 1], order), order, 2 ** 32));
    expect(readDumpAvail(section([0, 2 ** 32], order), order, 2 ** 32)).toEqual(pairs([0, 2 ** 32]));
  });

  it('leaves it to PageRanges to judge their order', () => {
    const list = [0x5000, 0x4000, 0x1000, 0x1000];
    expect(readDumpAvail(section(list, order), order, LIMIT)).toEqual(pairs(list));
  });

  it('agrees with a DataView over any values', () => {
    const values = fc.array(fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constant(0)), { maxLength: 40 });
    fc.assert(
      fc.property(values, (values) => {
        const list = pairs(values.slice(0, values.length - (values.length % 2)));
        const end = list.findIndex((pair) => pair.end === 0);
        const expected = end < 0 ? list : list.slice(0, end);
        expect(readDumpAvail(section(values, order), order, 2 ** 53)).toEqual(expected);
      }),
      runs(200),
    );
  });
});

describe('readDumpAvail of a section of gigabytes', () => {
  /** One range, a terminator, and then zeros to the end of 4 GB. */
  class Giant implements ByteSource {
    readonly size = 2 ** 32 - 1;
    bytesRead = 0;

    constructor(private readonly head: Uint8Array) {}

    readSync(offset: number, target: Uint8Array, at: number, length: number): number {
      this.bytesRead += length;
      target.fill(0, at, at + length);
      target.set(this.head.subarray(Math.min(offset, this.head.length), offset + length), at);
      return length;
    }
  }

  it('reads little behind the terminator', () => {
    const source = new Giant(section([0x1000, 0x2000], 'little').bytes);
    expect(readDumpAvail(source, 'little', LIMIT)).toEqual(pairs([0x1000, 0x2000]));
    expect(source.bytesRead).toBeLessThanOrEqual(2 ** 20);
  });

  it('gives up on a section without end instead of filling the memory', () => {
    const endless: ByteSource = {
      size: 2 ** 32 - 1,
      readSync(offset, target, at, length) {
        const view = new DataView(target.buffer, target.byteOffset + at, length);
        for (let i = 0; i + 8 <= length; i += 8) view.setBigUint64(i, BigInt((offset + i) / 8 + 1), true);
        return length;
      },
    };
    expectCode('CORRUPT', () => readDumpAvail(endless, 'little', LIMIT));
  });

  it('reads many ranges where there are many', () => {
    const values = Array.from({ length: 20_000 }, (_, i) => i * 4096);
    const source = new PlainSource(section([...values, 0, 0], 'big').bytes);
    expect(readDumpAvail(source, 'big', LIMIT)).toEqual(pairs(values));
  });
});

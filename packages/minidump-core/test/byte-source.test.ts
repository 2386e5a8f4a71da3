import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  clampLength,
  ConcatSource,
  MemorySource,
  readBytes,
  SubSource,
  toByteSource,
  toBytes,
  type ByteSource,
} from '../src/byte-source.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { pattern, PatternSource, patternByte, PlainSource } from './sources.js';

const FREE = 0xa5;

/** One read into the middle of a target that must stay as it is elsewhere. */
function checkRead(source: ByteSource, content: Uint8Array, offset: number, length: number): void {
  const expected = offset < 0 ? new Uint8Array() : content.slice(offset, offset + Math.max(0, length));
  const target = new Uint8Array(Math.max(0, length) + 6).fill(FREE);
  const whole = new Uint8Array(target.length).fill(FREE);
  whole.set(expected, 3);
  expect(source.readSync(offset, target, 3, length)).toBe(expected.length);
  expect(target).toEqual(whole);
}

const offsets = fc.oneof(fc.integer({ min: -3, max: 70 }), fc.constantFrom(0, 2 ** 32, 2 ** 52));
const lengths = fc.integer({ min: 0, max: 80 });
const content = fc.uint8Array({ maxLength: 30 });

/** A source and its content: memory, a plain source, a window of either, or several of them one behind the other. */
const sources = fc.letrec<{ any: [ByteSource, Uint8Array] }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'source' },
    content.map((bytes) => [new MemorySource(bytes), bytes] as [ByteSource, Uint8Array]),
    content.map((bytes) => [new PlainSource(bytes), bytes] as [ByteSource, Uint8Array]),
    fc
      .tuple(tie('any'), fc.nat(40), fc.nat(40))
      .map(
        ([[parent, bytes], start, size]) =>
          [new SubSource(parent, start, size), bytes.slice(start, start + size)] as [ByteSource, Uint8Array],
      ),
    fc
      .array(tie('any'), { maxLength: 5, depthIdentifier: 'source' })
      .map(
        (parts) =>
          [
            new ConcatSource(parts.map(([part]) => part)),
            Uint8Array.from(parts.flatMap(([, bytes]) => [...bytes])),
          ] as [ByteSource, Uint8Array],
      ),
  ),
})).any;

describe('sources made of sources', () => {
  it('read what a naive concatenation of slices has, and write nothing else', () => {
    fc.assert(
      fc.property(sources, fc.array(fc.tuple(offsets, lengths)), ([source, bytes], reads) => {
        expect(source.size).toBe(bytes.length);
        checkRead(source, bytes, 0, bytes.length);
        checkRead(source, bytes, bytes.length, 1);
        checkRead(source, bytes, Math.max(0, bytes.length - 1), 5);
        for (const [offset, length] of reads) checkRead(source, bytes, offset, length);
      }),
      runs(300),
    );
  });

  it('read across parts that lie beyond 2^32', () => {
    const sizes = [2 ** 33 + 5, 0, 7, 2 ** 40, 1];
    const source = new ConcatSource(sizes.map((size) => new PatternSource(size)));
    expect(source.size).toBe(2 ** 40 + 2 ** 33 + 13);
    const target = new Uint8Array(14);
    expect(source.readSync(2 ** 33 + 2, target, 0, 14)).toBe(14);
    expect([...target]).toEqual([
      ...pattern(3, 2 ** 33 + 2),
      ...pattern(7),
      ...pattern(4), // of the part of 2^40 bytes
    ]);
    expect(source.readSync(source.size - 2, target, 0, 14)).toBe(2);
    expect([...target.subarray(0, 2)]).toEqual([patternByte(2 ** 40 - 1), patternByte(0)]);
  });
});

describe('MemorySource', () => {
  it('sees only its own part of a larger buffer', () => {
    const large = pattern(64);
    const source = new MemorySource(large.subarray(10, 20));
    checkRead(source, large.slice(10, 20), 0, 64);
    checkRead(source, large.slice(10, 20), 9, 5);
  });
});

describe('SubSource', () => {
  const parent = new MemorySource(pattern(20));

  it('ends where its parent ends', () => {
    expect(new SubSource(parent, 15, 10).size).toBe(5);
    expect(new SubSource(parent, 20, 10).size).toBe(0);
    expect(new SubSource(parent, 25, 10).size).toBe(0);
    expect(new SubSource(parent, 2 ** 52, 2 ** 52).size).toBe(0);
    expect(new SubSource(parent, 3, 0).size).toBe(0);
  });

  it('never reads before its start', () => {
    expect(new SubSource(parent, -5, 10).size).toBe(0);
    checkRead(new SubSource(parent, 5, 10), pattern(10, 5), -2, 6);
  });

  it('does not ask its parent for nothing', () => {
    const plain = new PlainSource(pattern(20));
    const sub = new SubSource(plain, 5, 10);
    sub.readSync(10, new Uint8Array(4), 0, 4);
    sub.readSync(3, new Uint8Array(4), 0, 0);
    expect(plain.reads).toEqual([]);
  });
});

describe('ConcatSource', () => {
  it('stops behind a part that gives less than it has, instead of closing the gap', () => {
    const short: ByteSource = {
      size: 10,
      readSync: (_offset, target, at) => {
        target[at] = 1;
        return 1;
      },
    };
    const source = new ConcatSource([new MemorySource(pattern(4)), short, new MemorySource(pattern(4))]);
    const target = new Uint8Array(18).fill(FREE);
    expect(source.readSync(0, target, 0, 18)).toBe(5);
    expect([...target]).toEqual([...pattern(4), 1, ...new Array<number>(13).fill(FREE)]);
  });

  it('may have no parts', () => {
    checkRead(new ConcatSource([]), new Uint8Array(), 0, 5);
    checkRead(new ConcatSource([new MemorySource(new Uint8Array())]), new Uint8Array(), 0, 5);
  });
});

describe('toByteSource', () => {
  it('takes bytes, buffers and sources', () => {
    const bytes = pattern(8);
    const plain = new PlainSource(bytes);
    expect(toByteSource(plain)).toBe(plain);
    const empty = new PlainSource(new Uint8Array());
    expect(toByteSource(empty)).toBe(empty);
    checkRead(toByteSource(bytes), bytes, 0, 8);
    checkRead(toByteSource(bytes.slice().buffer), bytes, 2, 8);
    checkRead(toByteSource(Buffer.from(bytes)), bytes, 2, 8);
    checkRead(toByteSource(bytes.subarray(2, 5)), bytes.slice(2, 5), 1, 8);
  });

  it('takes views and buffers of every kind, of shared memory and of other realms', () => {
    const bytes = pattern(16);
    const shared = new Uint8Array(new SharedArrayBuffer(16));
    shared.set(bytes);
    const foreign = runInNewContext('new Uint8Array(16)') as Uint8Array;
    foreign.set(bytes);
    expect(foreign instanceof Uint8Array).toBe(false);
    const inputs = [
      new DataView(bytes.buffer),
      new Uint32Array(bytes.buffer),
      shared,
      shared.buffer,
      foreign,
    ];
    for (const input of [...inputs, foreign.buffer]) checkRead(toByteSource(input), bytes, 3, 20);
    const part = new DataView(bytes.buffer, bytes.byteOffset + 2, 3);
    checkRead(toByteSource(part), bytes.slice(2, 5), 1, 8);
    // Over the same memory: nothing is copied.
    expect(toBytes(shared.buffer)?.buffer).toBe(shared.buffer);
    expect([toBytes([1, 2]), toBytes('ab'), toBytes(undefined), toBytes({ byteLength: 5 })]).toEqual([
      ...[undefined, undefined, undefined, undefined],
    ]);
  });

  it('refuses everything else with a hint', () => {
    const readSync = (): number => 0;
    const bad = [
      ...[undefined, null, 5, 'core', {}, [1, 2], { size: 5 }, { readSync }],
      ...[-1, 1.5, NaN, Infinity, 2 ** 53, '5', 5n].map((size) => ({ size, readSync })),
    ];
    for (const input of bad) {
      const error = expectCode('INVALID_ARGUMENT', () => toByteSource(input as unknown as ByteSource));
      expect(error.hint).toBeDefined();
    }
  });
});

describe('readBytes', () => {
  it('gives exactly the bytes asked for, in memory of its own', () => {
    const bytes = pattern(50);
    for (const source of [new MemorySource(bytes), new PlainSource(bytes)]) {
      expect(readBytes(source, 7, 20, 'x')).toEqual(bytes.slice(7, 27));
      expect(readBytes(source, 0, 50, 'x')).toEqual(bytes);
      expect(readBytes(source, 50, 0, 'x').length).toBe(0);
      readBytes(source, 7, 1, 'x')[0] ^= 0xff;
    }
    expect(bytes).toEqual(pattern(50));
  });

  it('says TRUNCATED before it takes memory or reads', () => {
    const source = new PatternSource(100);
    const cases: [number, number][] = [
      [0, 101],
      [99, 2],
      [100, 1],
      [500, 1],
      [-1, 1],
      [0, 2 ** 52], // more than any array: would be a RangeError
      [2 ** 52, 2 ** 52],
    ];
    for (const [offset, length] of cases) {
      const error = expectCode('TRUNCATED', () => readBytes(source, offset, length, 'the table'));
      expect(error).toMatchObject({ offset, length });
      expect(error.message).toContain('the table');
      expect(error.message).toContain('100');
    }
    expect(source.reads).toBe(0);
  });

  it('says IO, not TRUNCATED, where a source gives less than it has', () => {
    for (const got of [0, 9]) {
      const source: ByteSource = { size: 10, readSync: () => got };
      const error = expectCode('IO', () => readBytes(source, 0, 10, 'the table'));
      expect(error.message).toContain('the table');
      expect(error).toMatchObject({ offset: 0, length: 10 });
    }
  });
});

it('clampLength counts the bytes of a range that lie within a size', () => {
  fc.assert(
    fc.property(fc.nat(20), fc.integer({ min: -5, max: 25 }), fc.nat(30), (size, offset, length) => {
      let inside = 0;
      if (offset >= 0) for (let i = offset; i < offset + length; i++) if (i < size) inside++;
      expect(clampLength(size, offset, length)).toBe(inside);
    }),
    runs(200),
  );
});

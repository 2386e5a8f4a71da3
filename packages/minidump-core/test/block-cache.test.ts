import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockCache, copyBytes, DEFAULT_CACHE_BYTES } from '../src/block-cache.js';
import { MemorySource, SubSource, type ByteSource } from '../src/byte-source.js';
import { isKvmError } from '../src/errors.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { same } from './same.js';
import {
  FlakySource,
  mix,
  pattern,
  patternByte,
  PatternSource,
  PlainSource,
  type Misdeed,
} from './sources.js';

const BLOCK = 4096;
const SMALLEST = 256 * 1024;
/** 300 blocks and a bit: more than the smallest cache holds (64), the last block partial. */
const SIZE = 300 * BLOCK + 1234;
const DATA = pattern(SIZE);
/** The same in the middle of a larger buffer. */
const PART = pattern(SIZE + 12, -7).subarray(7, 7 + SIZE);
/** More than a cache of 8 MB holds, cheaper to make. */
const BIG_BLOCKS = 2500;
const BIG = new Uint8Array(Uint32Array.from({ length: BIG_BLOCKS * 1024 - 5 }, (_, i) => mix(i)).buffer);
const DATA_VIEW = new DataView(DATA.buffer);

interface Access {
  kind: 'position' | 'read' | 'through' | 'load32' | 'load64';
  offset: number;
  length: number;
  little: boolean;
}

/** Does one access and compares it with the data; what the source throws goes on to the caller. */
function check(cache: BlockCache, { kind, offset, length, little }: Access): void {
  if (kind === 'position') {
    const at = cache.position(offset);
    const available = cache.available(offset);
    expect(available).toBeGreaterThan(0);
    expect(available).toBeLessThanOrEqual(SIZE - offset);
    // Up to the next multiple of 4096, or to the end of the file.
    expect(available).toBeGreaterThanOrEqual(Math.min(SIZE - offset, BLOCK - (offset % BLOCK)));
    const shown = cache.bytes.subarray(at, at + Math.min(available, BLOCK));
    expectSame(shown, DATA.subarray(offset, offset + shown.length), offset);
  } else if (kind === 'read') {
    const target = new Uint8Array(length + 2).fill(0xa5);
    const count = Math.min(length, SIZE - offset);
    expect(cache.readSync(offset, target, 1, length)).toBe(count);
    expectSame(target.subarray(1, count + 1), DATA.subarray(offset, offset + count), offset);
    expect([target[0], target[count + 1]]).toEqual([0xa5, 0xa5]);
  } else if (kind === 'through') {
    const count = Math.min(length, SIZE - offset);
    const target = new Uint8Array(count);
    cache.readThrough(offset, target, 0, count);
    expectSame(target, DATA.subarray(offset, offset + count), offset);
  } else if (kind === 'load32') {
    expect(cache.load32(offset, little)).toBe(offset + 4 > SIZE ? -1 : DATA_VIEW.getUint32(offset, little));
  } else {
    const there = cache.load64(offset, little);
    expect(there).toBe(offset + 8 <= SIZE);
    if (!there) return;
    const word = (BigInt(cache.high) << 32n) | BigInt(cache.low);
    expect(word).toBe(DATA_VIEW.getBigUint64(offset, little));
  }
}

/** Faster than toEqual on large arrays, and says where. */
function expectSame(actual: Uint8Array, expected: Uint8Array, offset: number): void {
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  if (at >= 0 || actual.length !== expected.length) {
    expect.fail(`byte ${offset + at} is ${actual[at]}, not ${expected[at]} (${actual.length} bytes)`);
  }
}

/** Blocks that compete for the same places, runs of blocks, ends of blocks, the end of the file. */
const blocks = fc.oneof(
  fc.nat(300),
  fc.tuple(fc.nat(8), fc.nat(3)).map(([group, block]) => 16 * group + block),
  fc.constantFrom(299, 300),
);
const inBlock = fc.oneof(
  fc.nat(BLOCK - 1),
  fc.nat(9).map((i) => BLOCK - 1 - i),
  fc.constant(0),
);
const access: fc.Arbitrary<Access> = fc.record({
  kind: fc.constantFrom('position', 'read', 'through', 'load32', 'load64'),
  offset: fc.tuple(blocks, inBlock).map(([block, at]) => Math.min(block * BLOCK + at, SIZE - 1)),
  length: fc.oneof(fc.nat(40), fc.nat(3 * BLOCK), fc.constantFrom(0, 1, 32, 33, BLOCK, 20 * BLOCK)),
  little: fc.boolean(),
});
/** An access, or a run of them from block to block: misses that read ahead. */
const accesses = fc
  .array(fc.tuple(access, fc.oneof(fc.constant(1), fc.nat(24))), { maxLength: 40 })
  .map((list) =>
    list.flatMap(([first, count]) =>
      Array.from({ length: Math.max(1, count) }, (_, i) => ({
        ...first,
        offset: Math.min(first.offset + i * BLOCK, SIZE - 1),
      })),
    ),
  );

describe('BlockCache', () => {
  it.each([
    ['a source', () => new BlockCache(new PlainSource(DATA), SMALLEST)],
    ['a source that all fits', () => new BlockCache(new PlainSource(DATA))],
    ['memory, in place', () => new BlockCache(new MemorySource(DATA), SMALLEST)],
    ['a part of a buffer', () => new BlockCache(new MemorySource(PART))],
    ['a window of memory', () => new BlockCache(new SubSource(new MemorySource(DATA), 0, SIZE), 0)],
    ['another cache', () => new BlockCache(new BlockCache(new PlainSource(DATA), 0), SMALLEST)],
  ])('gives the bytes of %s, however it is used', (_, make) => {
    fc.assert(
      fc.property(accesses, (list) => {
        const cache = make();
        expect(cache.size).toBe(SIZE);
        for (const one of list) check(cache, one);
      }),
      runs(25),
    );
  });

  it('gives right bytes after any failure of the source', () => {
    const deeds: Misdeed[] = ['throw', 'garbage then throw', 'garbage and short', 'nothing'];
    const deed = fc.oneof({ weight: 3, arbitrary: fc.constant<Misdeed>('none') }, fc.constantFrom(...deeds));
    const steps = fc.tuple(accesses, fc.array(deed, { minLength: 1, maxLength: 100 }));
    fc.assert(
      fc.property(steps, ([list, deeds]) => {
        const source = new FlakySource(new PlainSource(DATA));
        source.deeds = [...deeds];
        const cache = new BlockCache(source, SMALLEST);
        for (const [done, one] of list.entries()) {
          const before = source.deeds.length;
          const bad = deeds.slice(deeds.length - before);
          try {
            check(cache, one);
          } catch (error) {
            // Only because the source failed, and as it failed.
            const used = bad.slice(0, bad.length - source.deeds.length);
            const flaky = (error as Error).message === 'flaky' && used.at(-1)?.endsWith('throw');
            const short =
              isKvmError(error, 'IO') && ['garbage and short', 'nothing'].includes(used.at(-1) ?? '');
            if (!flaky && !short) throw error;
            // What was there before is there still, or is read again.
            const left = source.deeds;
            source.deeds = [];
            for (const earlier of list.slice(Math.max(0, done - 6), done).reverse()) check(cache, earlier);
            source.deeds = left;
          }
        }
        source.deeds = [];
        for (const one of list) check(cache, one);
      }),
      runs(150),
    );
  });

  it.each([
    // Four blocks of one set, and a fifth that takes the place of one of them.
    { name: 'one block', before: [0, 16, 32, 48], fails: [80] },
    // All 64 places taken, and a miss behind a miss: 15 blocks at once.
    { name: 'blocks read ahead', before: Array.from({ length: 64 }, (_, i) => i), fails: [81, 97, 113, 129] },
  ])('forgets what a read that failed has overwritten: $name', ({ before, fails }) => {
    for (const deed of ['throw', 'garbage then throw', 'garbage and short'] as const) {
      for (const fail of fails) {
        for (const block of before) {
          const source = new FlakySource(new PlainSource(DATA));
          const cache = new BlockCache(source, SMALLEST);
          for (const held of before) cache.position(held * BLOCK);
          if (fail % 16 === 1) cache.position((fail - 1) * BLOCK);
          cache.position(block * BLOCK);
          source.deeds = [deed];
          expect(() => cache.position(fail * BLOCK)).toThrow();
          expect(source.deeds).toEqual([]);
          same(cache.bytes[cache.position(block * BLOCK)], DATA[block * BLOCK], deed, fail, block);
          same(cache.bytes[cache.position(fail * BLOCK)], DATA[fail * BLOCK], deed, fail, block);
        }
      }
    }
  });

  it('gives right bytes when it has grown, is full, and gives way', () => {
    const fail: Misdeed[] = ['throw', 'garbage then throw', 'garbage and short', 'nothing'];
    const deed = fc.oneof({ weight: 6, arbitrary: fc.constant<Misdeed>('none') }, fc.constantFrom(...fail));
    const plan = fc.record({
      bytes: fc.constantFrom(1, 4, 5, 6.3, 8, 32).map((mb) => mb * 2 ** 20),
      // How much of the file is read before, in which steps.
      warm: fc.array(fc.tuple(fc.nat(BIG_BLOCKS), fc.nat(600), fc.constantFrom(1, 1, 2, 16, 17)), {
        maxLength: 5,
      }),
      list: fc.array(fc.tuple(fc.nat(BIG_BLOCKS - 1), fc.nat(30)), { maxLength: 30 }),
      deeds: fc.array(deed, { maxLength: 60 }),
    });
    fc.assert(
      fc.property(plan, ({ bytes, warm, list, deeds }) => {
        const source = new FlakySource(new PlainSource(BIG));
        const cache = new BlockCache(source, bytes);
        const look = (block: number): void => {
          const offset = (block % BIG_BLOCKS) * BLOCK + ((block * 97) % BLOCK);
          const at = cache.position(offset);
          const last = at + cache.available(offset) - 1;
          same(cache.bytes[at], BIG[offset], 'byte', offset);
          same(cache.bytes[last], BIG[offset + (last - at)], 'last byte from', offset);
        };
        for (const [from, count, step] of warm) for (let i = 0; i < count; i++) look(from + i * step);
        source.deeds = [...deeds];
        for (const [from, count] of list) {
          for (let block = from; block <= from + count; block++) {
            try {
              look(block);
            } catch (error) {
              if ((error as Error).message !== 'flaky' && !isKvmError(error, 'IO')) throw error;
              const left = source.deeds;
              source.deeds = [];
              for (let back = 1; back < 40; back++) look(block + BIG_BLOCKS - back);
              source.deeds = left;
            }
          }
        }
        source.deeds = [];
        for (const [from, count] of [...list, ...warm]) for (let i = 0; i <= count; i += 5) look(from + i);
        expect(cache.bytes.length).toBeLessThanOrEqual(bytes);
      }),
      runs(40),
    );
  });

  it('answers IO, with the place, when a source gives less than it has', () => {
    const source: ByteSource = { size: 10 * BLOCK, readSync: (_o, _t, _a, length) => length - 1 };
    const cache = new BlockCache(source);
    const target = new Uint8Array(BLOCK);
    for (const call of [
      () => cache.position(BLOCK + 5),
      () => cache.readSync(BLOCK + 5, target, 0, 3),
      () => cache.load32(BLOCK, true),
      () => cache.load64(2 * BLOCK - 4, true),
      () => cache.readThrough(BLOCK, target, 0, BLOCK),
    ]) {
      const error = expectCode('IO', call);
      expect(error).toMatchObject({ offset: BLOCK, length: BLOCK });
      expect(error.message).toContain('4095 of 4096');
    }
    const mute = { size: 10, readSync: () => undefined } as unknown as ByteSource;
    expectCode('IO', () => new BlockCache(mute).position(0));
  });

  it('gives back nothing outside of the source, and asks it for nothing', () => {
    const source = new PlainSource(DATA);
    const cache = new BlockCache(source, SMALLEST);
    const target = new Uint8Array(8).fill(0xa5);
    for (const offset of [SIZE, SIZE + 5, 2 ** 52, -1, -BLOCK]) {
      expect(cache.readSync(offset, target, 0, 8)).toBe(0);
      expect(cache.load32(offset, true)).toBe(-1);
      expect(cache.load64(offset, true)).toBe(false);
    }
    expect(cache.readSync(5, target, 0, 0)).toBe(0);
    expect([...target]).toEqual(new Array(8).fill(0xa5));
    expect(source.reads).toEqual([]);
    expect(cache.load32(0, true)).toBe(DATA_VIEW.getUint32(0, true));
    expect([cache.load64(0, true), cache.low]).toEqual([true, DATA_VIEW.getUint32(0, true)]);
    for (let less = 1; less <= 8; less++) {
      expect(cache.load32(SIZE - less, false) >= 0).toBe(less >= 4);
      expect(cache.load64(SIZE - less, false)).toBe(less >= 8);
    }
    const empty = new BlockCache(new PlainSource(new Uint8Array()));
    expect([empty.size, empty.readSync(0, target, 0, 8), empty.load32(0, true)]).toEqual([0, 0, -1]);
  });

  it('never asks for bytes behind the end of the source', () => {
    const source = new PlainSource(DATA);
    const cache = new BlockCache(source, SMALLEST);
    for (let offset = 0; offset < SIZE; offset += BLOCK) cache.position(offset);
    for (const { offset, length } of source.reads) {
      expect(offset).toBeGreaterThanOrEqual(0);
      expect(offset + length).toBeLessThanOrEqual(SIZE);
    }
  });

  it('asks once for what it holds, and reads ahead when misses follow each other', () => {
    const source = new PlainSource(DATA);
    const cache = new BlockCache(source);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 100; i++) cache.load32(40 * BLOCK + i * 4, true);
    }
    expect(source.reads).toEqual([{ offset: 40 * BLOCK, length: BLOCK }]);
    for (let round = 0; round < 2; round++) {
      for (let offset = 0; offset < SIZE; offset += 512) cache.position(offset);
    }
    expect(source.reads.length).toBeLessThan(301 / 8);
    for (const { length } of source.reads) expect(length).toBeLessThanOrEqual(16 * BLOCK);
  });

  it('holds no more than it was told, however large the source is, and takes it when it is needed', () => {
    const size = 2 ** 53 - 1;
    const huge: ByteSource = { size, readSync: (_offset, _target, _at, length) => length };
    for (const [bytes, bound] of [
      [0, SMALLEST],
      [1, SMALLEST],
      [SMALLEST, SMALLEST],
      [1_000_000, 1_000_000],
      [8 * 2 ** 20, 8 * 2 ** 20],
      [undefined, DEFAULT_CACHE_BYTES],
    ]) {
      const cache = new BlockCache(huge, bytes);
      expect(cache.bytes.buffer.byteLength).toBeLessThanOrEqual(2 ** 20);
      for (let offset = 0; offset < 2 * bound!; offset += BLOCK) cache.position(offset);
      expect(cache.bytes.buffer.byteLength).toBeLessThanOrEqual(bound!);
      expect(cache.bytes.buffer.byteLength).toBeGreaterThan(bound! / 2);
      expect(cache.view.byteLength).toBe(cache.bytes.length);
    }
    expect(new BlockCache(new PlainSource(new Uint8Array(10))).bytes.length).toBeLessThanOrEqual(SMALLEST);
    expect(new BlockCache(new PlainSource(DATA)).bytes.length).toBeLessThan(2 * SIZE);
    expect(new BlockCache(new MemorySource(DATA)).bytes.buffer).toBe(DATA.buffer);
  });

  it('that has been full keeps what is used again and again, whatever passes through', () => {
    const source = new PlainSource(DATA);
    const size = 2 ** 40;
    const huge: ByteSource = {
      size,
      readSync: (offset, ...rest) => source.readSync(offset % BLOCK, ...rest),
    };
    let reads = 0;
    const counted: ByteSource = { size, readSync: (...args) => (reads++, huge.readSync(...args)) };
    const cache = new BlockCache(counted, 8 * 2 ** 20);
    for (let i = 0; i < 5000; i++) cache.position(i * 7 * BLOCK);
    // 1000 blocks, half of what fits, by turns with others that are never asked for again.
    for (let round = 0; round < 40; round++) {
      for (let i = 0; i < 1000; i++) cache.position((2 ** 27 - i * 3) * BLOCK);
    }
    reads = 0;
    for (let i = 0; i < 1000; i++) {
      cache.position((2 ** 27 - i * 3) * BLOCK);
      cache.position((2 ** 26 + i * 3) * BLOCK);
    }
    expect(reads).toBeLessThan(1100);
  });

  it('is exact beyond 2^32, up to 2^53', () => {
    const size = 2 ** 53 - 1;
    const source = new PatternSource(size);
    const cache = new BlockCache(source, SMALLEST);
    const bytesAt = (offset: number, count: number): number[] =>
      Array.from({ length: count }, (_, i) => patternByte(offset + i));
    for (let i = 0; i < 500; i++) {
      const far = mix(i) * 2 ** (i % 22);
      const offset = i % 5 === 0 ? 2 ** 32 * (i + 1) - 3 : Math.min(far, size - 8);
      const target = new Uint8Array(8);
      expect(cache.readSync(offset, target, 0, 8)).toBe(8);
      expect([...target]).toEqual(bytesAt(offset, 8));
      const view = new DataView(target.buffer);
      expect(cache.load32(offset, false)).toBe(view.getUint32(0));
      expect(cache.load64(offset, true)).toBe(true);
      expect([cache.low, cache.high]).toEqual([view.getUint32(0, true), view.getUint32(4, true)]);
    }
    expect(cache.readSync(size - 3, new Uint8Array(8), 0, 8)).toBe(3);
    expect(cache.load64(size - 7, true)).toBe(false);
  });

  it('refuses a size that is none', () => {
    for (const bytes of [-1, NaN, Infinity, 2 ** 31 + 1, '5 MB' as unknown as number]) {
      const error = expectCode('INVALID_ARGUMENT', () => new BlockCache(new PlainSource(DATA), bytes));
      expect(error.field).toBe('cacheBytes');
    }
  });

  it('shows changes of memory that it uses in place', () => {
    const bytes = pattern(100);
    const cache = new BlockCache(new MemorySource(bytes));
    bytes[50] = 1;
    bytes[51] = 2;
    bytes[52] = bytes[53] = 0;
    expect(cache.load32(50, true)).toBe(0x201);
  });
});

it('copyBytes copies up to 32 bytes and more alike', () => {
  for (const length of [0, 1, 31, 32, 33, 100]) {
    const target = new Uint8Array(120).fill(0xa5);
    copyBytes(DATA, 5, target, 7, length);
    const expected = new Uint8Array(120).fill(0xa5);
    expected.set(DATA.subarray(5, 5 + length), 7);
    expect(target).toEqual(expected);
  }
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemorySource, type ByteSource } from '../src/byte-source.js';
import { popcount, StoredBitmap, type BitOrder } from '../src/stored-bitmap.js';
import { expectCode } from './expect-code.js';
import { LONG, runs } from './runs.js';
import { same } from './same.js';
import { FlakySource, mix, PlainSource, type Misdeed } from './sources.js';

const CHUNK = 4096 * 8;
const ORDERS: BitOrder[] = ['little', 'big32', 'big64'];
const wordBits = (order: BitOrder): number => (order === 'big32' ? 32 : order === 'big64' ? 64 : 8);

/** freebsd-dumps.md 1.3: bit N of a big-endian map counts from the low end of word N / W. */
function encode(bits: Iterable<number>, bytes: number, order: BitOrder): Uint8Array {
  const map = new Uint8Array(bytes);
  const wordBytes = wordBits(order) / 8;
  for (const bit of bits) {
    const word = Math.floor(bit / wordBits(order));
    const inWord = bit % wordBits(order);
    map[word * wordBytes + (wordBytes - 1 - (inWord >> 3))] |= 1 << (inWord & 7);
  }
  return map;
}

/** Whole words for so many bits. */
const bytesFor = (bits: number, order: BitOrder): number =>
  (Math.ceil(bits / wordBits(order)) * wordBits(order)) / 8;

/** Positions of runs: lengths of clear and set bits in turn, cut at `limit`. */
function runsOf(lengths: number[], limit: number): number[] {
  const set: number[] = [];
  let at = 0;
  lengths.forEach((length, i) => {
    if (i % 2 === 1) for (let bit = at; bit < at + length && bit < limit; bit++) set.push(bit);
    at += length;
  });
  return set;
}

/** All questions about one bit, against a plain array of booleans. */
class Model {
  readonly set: boolean[];
  readonly ranks: number[] = [0];
  readonly positions: number[];

  constructor(
    readonly bits: number,
    positions: number[],
  ) {
    this.set = new Array<boolean>(bits).fill(false);
    for (const bit of positions) this.set[bit] = true;
    this.set.forEach((set, bit) => this.ranks.push(this.ranks[bit] + (set ? 1 : 0)));
    this.positions = [...this.set.keys()].filter((bit) => this.set[bit]);
  }

  next(value: boolean, from: number, limit: number): number {
    for (let bit = Math.max(0, from); bit < limit; bit++) if ((this.set[bit] ?? false) === value) return bit;
    return limit;
  }

  checkBit(map: StoredBitmap, bit: number): void {
    const set = this.set[bit] ?? false;
    same(map.has(bit), set, 'has', bit);
    same(map.rankIfSet(bit), set ? this.ranks[bit] : -1, 'rankIfSet', bit);
    if (bit >= 0) same(map.rank(bit), this.ranks[Math.min(bit, this.bits)], 'rank', bit);
  }

  checkNext(map: StoredBitmap, from: number, limit: number): void {
    same(map.nextSet(from, limit), this.next(true, from, limit), 'nextSet', from, limit);
    same(map.nextClear(from, limit), this.next(false, from, limit), 'nextClear', from, limit);
  }
}

const orders = fc.constantFrom(...ORDERS);

describe('StoredBitmap', () => {
  it('answers every question about a small map as plain arrays do', () => {
    const maps = fc.tuple(
      orders,
      fc.array(fc.boolean(), { maxLength: 200 }),
      fc.nat(20), // bytes behind the last word
      fc.boolean(),
    );
    fc.assert(
      fc.property(maps, ([order, flags, extra, padding]) => {
        const bits = flags.length;
        const positions = [...flags.keys()].filter((bit) => flags[bit]);
        const size =
          bytesFor(bits, order) + Math.floor((extra * 8) / wordBits(order)) * (wordBits(order) / 8);
        const behind = padding ? Array.from({ length: size * 8 - bits }, (_, i) => bits + i) : [];
        const section = encode([...positions, ...behind], size, order);
        const map = new StoredBitmap(new MemorySource(section), bits, order);
        const model = new Model(bits, positions);
        expect([map.bits, map.count, map.paddingCount]).toEqual([bits, positions.length, behind.length]);
        for (let bit = -3; bit < bits + 40; bit++) model.checkBit(map, bit);
        positions.forEach((bit, rank) => same(map.select(rank), bit, 'select', rank));
        for (let from = -1; from < bits + 3; from += 7) {
          for (let limit = Math.max(0, from); limit < bits + 3; limit += 11)
            model.checkNext(map, from, limit);
        }
      }),
      runs(60),
    );
  });

  it('answers about maps of a few chunks with long runs', () => {
    const length = fc.oneof(
      fc.nat(70),
      fc.nat(CHUNK),
      fc.constantFrom(0, 31, 32, 33, 64, CHUNK - 1, CHUNK, CHUNK + 1),
    );
    const maps = fc.tuple(
      orders,
      fc.nat(4 * CHUNK),
      fc.array(length, { maxLength: 12 }),
      fc.array(fc.tuple(fc.nat(4 * CHUNK), fc.nat(4 * CHUNK)), { maxLength: 20 }),
    );
    fc.assert(
      fc.property(maps, ([order, bits, lengths, queries]) => {
        const positions = runsOf(lengths, bits);
        const section = encode(positions, bytesFor(bits, order), order);
        const map = new StoredBitmap(new PlainSource(section), bits, order);
        const model = new Model(bits, positions);
        expect(map.count).toBe(positions.length);
        let edge = 0;
        for (const length of [0, ...lengths, bits]) {
          edge += length;
          for (const bit of [edge - 1, edge, edge + 1]) model.checkBit(map, bit);
          model.checkNext(map, edge, bits + 1);
          model.checkNext(map, Math.max(0, edge - 40), edge);
        }
        for (const [from, limit] of queries) {
          model.checkBit(map, from);
          model.checkNext(map, from, Math.max(from, limit));
          if (positions.length > 0) {
            const rank = from % positions.length;
            expect(map.select(rank)).toBe(positions[rank]);
          }
        }
      }),
      runs(12),
    );
  });

  it('stores bits where the kernel does', () => {
    // Bit 8932 + 3 pages, by hand: freebsd-dumps.md 7.2 has bit 0x723 in byte 0xe4, mask 0x08.
    const little = new Uint8Array(4096);
    little[0xe4] = 0x08;
    expect(new StoredBitmap(new MemorySource(little), 4096 * 8, 'little').nextSet(0, 1e9)).toBe(0x723);
    const big = new Uint8Array(16);
    big[15] = 0x01;
    expect(new StoredBitmap(new MemorySource(big), 128, 'big64').select(0)).toBe(64);
    expect(new StoredBitmap(new MemorySource(big), 128, 'big32').select(0)).toBe(96);
    big[15] = 0;
    big[0] = 0x80;
    expect(new StoredBitmap(new MemorySource(big), 128, 'big64').select(0)).toBe(63);
    expect(new StoredBitmap(new MemorySource(big), 128, 'big32').select(0)).toBe(31);
  });

  it('may be empty, all clear or all set', () => {
    const empty = new StoredBitmap(new MemorySource(new Uint8Array()), 0, 'little');
    expect([empty.count, empty.paddingCount, empty.has(0), empty.rank(0)]).toEqual([0, 0, false, 0]);
    expect([empty.nextSet(0, 5), empty.nextClear(0, 5)]).toEqual([5, 0]);
    const bits = 3 * CHUNK - 5;
    const full = new StoredBitmap(new MemorySource(new Uint8Array(3 * 4096).fill(255)), bits, 'big64');
    expect([full.count, full.paddingCount]).toEqual([bits, 5]);
    expect([full.nextClear(0, bits), full.nextClear(7, 1e9), full.nextSet(bits - 1, 1e9)]).toEqual([
      ...[bits, bits, bits - 1],
    ]);
    expect([full.select(bits - 1), full.rankIfSet(bits - 1), full.rankIfSet(bits)]).toEqual([
      bits - 1,
      bits - 1,
      -1,
    ]);
    const clear = new StoredBitmap(new MemorySource(new Uint8Array(3 * 4096)), bits, 'little');
    expect([clear.count, clear.nextSet(0, bits), clear.nextClear(9, bits)]).toEqual([0, bits, 9]);
  });

  it('finds the one clear bit in chunks of ones, and the one set bit in chunks of zeros', () => {
    const bits = 4 * CHUNK;
    for (const order of ORDERS) {
      for (const bit of [0, 1, 31, CHUNK - 1, CHUNK, CHUNK + 777, 3 * CHUNK - 1, bits - 1]) {
        const single = encode([bit], bits / 8, order);
        const inverse = single.map((byte) => byte ^ 255);
        const set = new StoredBitmap(new MemorySource(single), bits, order);
        const clear = new StoredBitmap(new MemorySource(inverse), bits, order);
        for (const from of [0, bit]) {
          same(set.nextSet(from, bits), bit, order, 'set from', from);
          same(clear.nextClear(from, bits), bit, order, 'clear from', from);
        }
        same(set.nextSet(bit + 1, bits), bits, order, 'set behind', bit);
        same(clear.nextClear(bit + 1, bits), bits, order, 'clear behind', bit);
      }
    }
  });

  it('counts padding over whole chunks, and never hands it out', () => {
    const section = new Uint8Array(5 * 4096).fill(255);
    for (const bits of [0, 1, 31, 32, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK + 33]) {
      const map = new StoredBitmap(new PlainSource(section), bits, 'little');
      expect([map.count, map.paddingCount]).toEqual([bits, 5 * CHUNK - bits]);
      expect([map.has(bits), map.rank(bits), map.nextSet(bits, 1e9)]).toEqual([false, bits, 1e9]);
    }
  });

  it('counts padding near the pages alone: a damaged size may claim gigabytes of it', () => {
    const reads: number[] = [];
    const source: ByteSource = {
      size: 0xfffff000,
      readSync(offset, target, at, length) {
        reads.push(offset + length);
        target.fill(0, at, at + length);
        if (offset === 0) target[at] = 0b111;
        return length;
      },
    };
    const map = new StoredBitmap(source, 2, 'little');
    expect([map.count, map.paddingCount, map.paddingCounted]).toEqual([2, 1, false]);
    expect(Math.max(...reads)).toBeLessThanOrEqual(2 ** 20);
    const small = new StoredBitmap(new MemorySource(new Uint8Array(4096)), 2, 'little');
    expect([small.paddingCount, small.paddingCounted]).toEqual([0, true]);
  });

  it('refuses a section that is too short for its pages', () => {
    for (const [bytes, bits] of [
      [0, 1],
      [4, 33],
      [4096, CHUNK + 1],
      [4096, 2 ** 50],
    ]) {
      const source = new PlainSource(new Uint8Array(bytes));
      const error = expectCode('CORRUPT', () => new StoredBitmap(source, bits, 'little'));
      expect(error.field).toBe('bitmapsize');
      expect(source.reads).toEqual([]);
    }
    expect(new StoredBitmap(new MemorySource(new Uint8Array(4)), 32, 'big32').bits).toBe(32);
  });

  it('counts whole words only where they are big-endian: half of one lacks its low bits', () => {
    const open = (bytes: number, bits: number, order: BitOrder): StoredBitmap =>
      new StoredBitmap(new MemorySource(new Uint8Array(bytes).fill(255)), bits, order);
    expectCode('CORRUPT', () => open(7, 8, 'big64'));
    expectCode('CORRUPT', () => open(12, 65, 'big64'));
    expectCode('CORRUPT', () => open(6, 33, 'big32'));
    expect(open(12, 64, 'big64').count).toBe(64);
    expect(open(6, 32, 'big32').count).toBe(32);
    expect(open(7, 56, 'little').count).toBe(56);
  });
});

describe('StoredBitmap of more chunks than stay in memory', () => {
  const CHUNKS = 700;
  const bits = CHUNKS * CHUNK - 12345;
  /** A few runs and single bits in some chunks, none in others, chunk 300 full. */
  const positions = Array.from({ length: CHUNKS }, (_, chunk) => {
    const start = chunk * CHUNK;
    if (chunk === 300) return Array.from({ length: CHUNK }, (_, i) => start + i);
    if (chunk % 5 === 3) return [];
    const picks = Array.from({ length: 6 }, (_, i) => start + (mix(chunk * 8 + i) % CHUNK));
    const run = Array.from({ length: 50 }, (_, i) => start + ((mix(chunk) + i) % CHUNK));
    return [...new Set([...picks, ...run])].sort((a, b) => a - b);
  })
    .flat()
    .filter((bit) => bit < bits);

  const rankOf = (bit: number): number => {
    let [low, high] = [0, positions.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (positions[middle] < bit) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  it.each(ORDERS)('answers in any order of access, %s', (order) => {
    const section = new PlainSource(encode(positions, bytesFor(bits, order), order));
    const map = new StoredBitmap(section, bits, order);
    expect(map.count).toBe(positions.length);
    expect(map.paddingCount).toBe(0);
    // Chunks 256 apart push each other out; steps of a bit or two around known bits.
    for (let i = 0; i < (LONG ? 60_000 : 6000); i++) {
      const near = positions[mix(i) % positions.length] + (i % 3) - 1;
      const bit = i % 4 === 3 ? mix(i + 7) % bits : (near + (i % 5) * 256 * CHUNK) % bits;
      if (bit < 0) continue;
      const rank = rankOf(bit);
      const set = positions[rank] === bit;
      same(map.rankIfSet(bit), set ? rank : -1, 'rankIfSet', bit);
      same(map.rank(bit), rank, 'rank', bit);
      same(map.nextSet(bit, bits), positions[rank] ?? bits, 'nextSet', bit);
      let clear = bit;
      for (let r = rank; positions[r] === clear; r++) clear++;
      same(map.nextClear(bit, bits), clear, 'nextClear', bit);
      const select = mix(i + 1) % positions.length;
      same(map.select(select), positions[select], 'select', select);
    }
  });

  it('reads each chunk again at most when another took its place, and clear ones never', () => {
    const section = new PlainSource(encode(positions, bytesFor(bits, 'little'), 'little'));
    const map = new StoredBitmap(section, bits, 'little');
    section.reads = [];
    for (let i = 0; i < 50; i++) map.has(5 * CHUNK + i);
    expect(section.reads.length).toBe(1);
    map.has(261 * CHUNK);
    map.has(5 * CHUNK);
    expect(section.reads.map(({ offset }) => offset)).toEqual([5 * 4096, 261 * 4096, 5 * 4096]);
    section.reads = [];
    const next = map.nextSet(3 * CHUNK, bits); // chunk 3 has none
    expect(next).toBe(positions[rankOf(3 * CHUNK)]);
    expect(section.reads.map(({ offset }) => offset)).toEqual([4 * 4096]);
  });
});

describe('StoredBitmap over a source that fails', () => {
  const bits = 600 * CHUNK;
  const positions = Array.from({ length: 600 }, (_, chunk) => chunk * CHUNK + (mix(chunk) % CHUNK));
  const content = encode(positions, bits / 8, 'little');

  it('never answers wrongly afterwards', () => {
    const deeds = fc.constantFrom<Misdeed>(
      'none',
      'throw',
      'garbage then throw',
      'garbage and short',
      'nothing',
    );
    const steps = fc.array(fc.tuple(fc.constantFrom(0, 1, 256, 257, 512, 599), deeds), { minLength: 5 });
    fc.assert(
      fc.property(steps, (steps) => {
        const source = new FlakySource(new MemorySource(content));
        const map = new StoredBitmap(source, bits, 'little');
        for (const [chunk, deed] of steps) {
          source.deeds = [deed];
          try {
            expect(map.rankIfSet(positions[chunk])).toBe(chunk);
            expect(map.rank(chunk * CHUNK)).toBe(chunk);
          } catch (error) {
            const flaky = (error as Error).message === 'flaky' && deed.endsWith('throw');
            if (!flaky) {
              expectCode('IO', () => {
                throw error;
              });
            }
          }
        }
        source.deeds = [];
        for (const [chunk] of steps) expect(map.select(chunk)).toBe(positions[chunk]);
      }),
      runs(30),
    );
  });

  it('does not open over one that gives less than it has', () => {
    const shortened: ByteSource = { size: 4096, readSync: () => 4095 };
    expectCode('IO', () => new StoredBitmap(shortened, CHUNK, 'little'));
  });
});

it('popcount counts', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (word) => {
      const expected = word.toString(2).replaceAll('0', '').length;
      expect(popcount(word)).toBe(expected);
      expect(popcount(word | 0)).toBe(expected);
    }),
    runs(300),
  );
});

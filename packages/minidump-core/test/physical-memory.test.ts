import { describe, expect, it } from 'vitest';
import { ABSENT, BlockCache, PhysicalWords, SegmentMemory, TRUNCATED } from '../src/index.js';
import { pattern, PlainSource } from './sources.js';
import { ToyMemory, whole } from './toy-machine.js';

/** Page 0x10 behind page 0x11 in the file, which ends 6 bytes before the end of page 0x10. */
const bytes = pattern(8192 - 6);
const view = new DataView(bytes.buffer);
const memory = new ToyMemory(
  new BlockCache(new PlainSource(bytes), 0),
  new Map([
    [0x11, [whole(0)]],
    [0x10, [whole(1)]],
    [0x12, [whole(2)]],
  ]),
);

describe.each([true, false])('PhysicalWords, little-endian: %s', (little) => {
  const words = new PhysicalWords(memory, little);

  it('loads words from where their page is, and says where that was', () => {
    expect(words.load32(0x11008)).toBe(8);
    expect([words.low, words.high]).toEqual([view.getUint32(8, little), 0]);
    expect(words.load64(0x10ff0)).toBe(8192 - 16);
    const value = (BigInt(words.high) << 32n) | BigInt(words.low);
    expect(value).toBe(view.getBigUint64(8192 - 16, little));
    expect(words.load32(0x11ffc)).toBe(4092);
    expect([words.low, words.high]).toEqual([view.getUint32(4092, little), 0]);
  });

  it('says why there is no word', () => {
    for (const load of [words.load32.bind(words), words.load64.bind(words)]) {
      expect(load(0x13000)).toBe(ABSENT);
      expect(load(0)).toBe(ABSENT);
      expect(load(0x12000)).toBe(TRUNCATED);
      expect(load(0x10ffc)).toBe(TRUNCATED);
    }
    expect(words.load64(0x10ff8)).toBe(TRUNCATED); // its first 2 bytes are there
    expect(words.load64(0x10ff0)).toBe(8192 - 16);
    expect(words.load32(0x10ff8)).toBe(TRUNCATED);
  });
});

describe('words of a memory that is exact to the byte', () => {
  const file = pattern(200);
  const segments = [
    { pa: 0x1000, offset: 10, length: 0x15 },
    { pa: 0x1015, offset: 100, length: 0x20 }, // goes on in the middle of a word, elsewhere
    { pa: 0x2004, offset: 150, length: 4 },
    { pa: 0x3000, offset: 195, length: 8 }, // 5 bytes of it are there
  ];
  const exact = new SegmentMemory(new BlockCache(new PlainSource(file)), segments);

  it.each([true, false])('are put together from their pieces, little-endian: %s', (little) => {
    const words = new PhysicalWords(exact, little);
    const joined = Uint8Array.from([...file.subarray(10, 10 + 0x15), ...file.subarray(100, 132)]);
    const expected = new DataView(joined.buffer);
    for (const pa of [0, 8, 0x10, 0x18, 0x20, 0x28]) {
      expect(words.load64(0x1000 + pa)).toBe(exact.locate(0x1000 + pa));
      expect((BigInt(words.high) << 32n) | BigInt(words.low)).toBe(expected.getBigUint64(pa, little));
      expect(words.load32(0x1000 + pa + 4)).toBe(exact.locate(0x1000 + pa + 4));
      expect([words.low, words.high]).toEqual([expected.getUint32(pa + 4, little), 0]);
    }
  });

  it('are not there when a byte of them is not, whatever follows in the file', () => {
    const words = new PhysicalWords(exact, true);
    expect(words.load64(0x1030)).toBe(ABSENT);
    expect(words.load64(0x2004)).toBe(ABSENT);
    expect(words.load32(0x2004)).toBe(150);
    expect(words.load64(0x2000)).toBe(ABSENT);
    expect(words.load64(0x3000)).toBe(TRUNCATED);
    expect(words.load32(0x3004)).toBe(TRUNCATED);
    expect(words.load32(0x3000)).toBe(195);
  });
});

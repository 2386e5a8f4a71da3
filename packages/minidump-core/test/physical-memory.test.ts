import { describe, expect, it } from 'vitest';
import { ABSENT, BlockCache, PhysicalWords, TRUNCATED } from '../src/index.js';
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

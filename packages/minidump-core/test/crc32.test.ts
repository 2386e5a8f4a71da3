import { crc32 as zlibCrc32 } from 'node:zlib';
import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { crc32 } from '../src/index.js';
import { slowCrc } from './portable-model.js';
import { runs } from './runs.js';

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('crc32', () => {
  it('has the check value of ISO 3309', () => {
    expect(crc32(ascii('123456789'))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array(0))).toBe(0);
    expect(crc32(new Uint8Array(1))).toBe(0xd202ef8d);
    expect(crc32(new Uint8Array(4096))).toBe(0xc71c0011);
    expect(crc32(ascii('The quick brown fox jumps over the lazy dog'))).toBe(0x414fa339);
  });

  test.prop([fc.uint8Array({ maxLength: 200 }), fc.nat(7)], runs(300))(
    'is the sum of its bits, wherever the bytes start in their buffer',
    (bytes, skip) => {
      const moved = new Uint8Array(bytes.length + skip);
      moved.set(bytes, skip);
      expect(crc32(moved.subarray(skip))).toBe(slowCrc(bytes));
    },
  );

  test.prop([fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(300), { maxLength: 5 })], runs(300))(
    'goes on where it stopped',
    (bytes, cuts) => {
      let crc = 0;
      let from = 0;
      for (const to of [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]) {
        crc = crc32(bytes.subarray(from, to), crc);
        from = to;
      }
      expect(crc).toBe(crc32(bytes));
    },
  );

  test.prop([fc.uint8Array({ maxLength: 5000 }), fc.integer({ min: 0, max: 0xffffffff })], runs(100))(
    "is zlib's",
    (bytes, start) => {
      expect(crc32(bytes, start)).toBe(zlibCrc32(bytes, start));
    },
  );
});

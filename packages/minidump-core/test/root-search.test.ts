import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  IdentitySpace,
  MemorySource,
  RootSearch,
  SegmentMemory,
  type ByteOrder,
} from '../src/index.js';

/** A page of RAM at 1 MB, whose second half is cut off the file, with a few words in it. */
function search(byteOrder: ByteOrder, bits: 32 | 64, symbols: Record<string, bigint> = {}): RootSearch {
  const bytes = new Uint8Array(2048);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, 0x12345678, byteOrder === 'little');
  view.setBigUint64(16, 0x000f_0000_0000_1000n, byteOrder === 'little');
  const memory = new SegmentMemory(new BlockCache(new MemorySource(bytes)), [
    { pa: 0x100000, offset: 0, length: 4096 },
  ]);
  return new RootSearch(memory, { byteOrder, symbols: (name) => symbols[name] }, bits);
}

describe('the search for a root table', () => {
  it.each(['little', 'big'] as const)('reads words that are there (%s-endian)', (order) => {
    const found = search(order, 64);
    expect(found.word(0x100008n, 4)).toBe(0x12345678);
    expect(found.word(0x100010n, 8)).toBe(0x000f_0000_0000_1000);
    for (const [pa, bytes] of [
      [0x10000an, 4],
      [0x100014n, 8],
      [0xffff8n, 8],
      [0x101000n, 4],
      [0x100800n, 4],
      [-8n, 8],
      [1n << 60n, 8],
    ] as const) {
      expect(found.word(pa, bytes)).toBeUndefined();
    }
  });

  it('takes for tables what is aligned and there', () => {
    const found = search('little', 64);
    expect([0x100000, 0x100020].map((pa) => found.isTable(pa, 32))).toEqual([true, true]);
    for (const pa of [0, 0x100010, 0x200000, 2 ** 52, undefined]) expect(found.isTable(pa, 32)).toBe(false);
  });

  it('knows where an address space leads', () => {
    const space = new IdentitySpace();
    const found = search('little', 32);
    expect(found.maps(space, 0x100008n, 0x100008n)).toBe(true);
    expect(found.maps(space, 0x100008n, 0x100000n)).toBe(false);
    expect(found.maps(space, 1n << 40n, 1n << 40n)).toBe(false);
  });

  it('cuts addresses to the width of the machine', () => {
    const symbols = { high: 0xffff_ffff_c000_0000n };
    expect(search('little', 32, symbols).symbol('high')).toBe(0xc000_0000n);
    expect(search('little', 64, symbols).needed('high')).toBe(symbols.high);
    expect(() => search('little', 64).needed('high')).toThrow(/high/);
  });

  it('says what was in the way', () => {
    const codeAfter = (...pas: bigint[]): string => {
      const found = search('little', 64);
      for (const pa of pas) found.word(pa, 4);
      return found.failure('KVAR', 0x10n).code;
    };
    expect(codeAfter(0x300000n)).toBe('NOT_DUMPED');
    expect(codeAfter(0x300000n, 0x100800n)).toBe('TRUNCATED');
    expect(codeAfter(0x300000n, 0x100800n, 0x100000n)).toBe('MISMATCH');
  });
});

import { describe, expect, it } from 'vitest';
import {
  entryOf,
  KvaParts,
  kvaOf,
  literalAddressSpace,
  literalMemory,
  MAPPED,
  Mapping,
  Translation,
  UNMAPPED,
  type LiteralMapping,
} from '../src/index.js';
import { expectCode } from './expect-code.js';

const KVA = 0xffffffff80000000n;
const text: LiteralMapping = {
  ...{ kva: KVA, pa: 0x200000, length: 0x200000, protection: 'r-x', pageSize: 0x200000 },
  ...{ global: true, entry: 0x800000002001e3n, level: 2 },
};
const data: LiteralMapping = { kva: KVA + 0x200000n, pa: 0x7000, length: 0x3000 };
const quarter: LiteralMapping = {
  ...{ kva: KVA + 0x300400n, pa: 0x5400, length: 1024, protection: 'r--' },
  ...{ user: true, memoryType: 5 },
};
const space = literalAddressSpace([quarter, data, text]);

function ask(kva: bigint): Translation {
  const parts = new KvaParts(64);
  parts.set(kva);
  const out = new Translation();
  space.translate(parts.page, parts.offset, out);
  return out;
}

describe('literal address space', () => {
  it('translates what it was told', () => {
    expect(ask(KVA + 0x1234n)).toMatchObject({
      ...{ outcome: MAPPED, pa: 0x201234, length: 0x1fedcc, flags: 1 | 4 | 16, pageSize: 0x200000, level: 2 },
    });
    expect(entryOf(ask(KVA))).toBe(0x800000002001e3n);
    expect(ask(KVA + 0x202fffn)).toMatchObject({
      outcome: MAPPED,
      pa: 0x9fff,
      length: 1,
      flags: 3,
      level: 0,
    });
    expect(entryOf(ask(KVA + 0x200000n))).toBeUndefined();
    expect(ask(KVA + 0x300400n)).toMatchObject({ outcome: MAPPED, pa: 0x5400, length: 1024, flags: 0x509 });
  });

  it('says how far a hole reaches', () => {
    expect(ask(KVA + 0x203000n)).toMatchObject({ outcome: UNMAPPED, length: 0xfd400 });
    expect(ask(KVA + 0x3003ffn)).toMatchObject({ outcome: UNMAPPED, length: 1 });
    expect(ask(KVA - 1n)).toMatchObject({ outcome: UNMAPPED, length: 1 });
    expect(ask(0n).outcome).toBe(UNMAPPED);
    expect(ask((1n << 64n) - 1n)).toMatchObject({ outcome: UNMAPPED, length: 1 });
  });

  it('is walked in order and cut to a window', () => {
    const rows = (from: bigint, to: bigint): string[] => {
      const cursor = space.mappings(Number(from >> 12n), Number(to >> 12n));
      const out = new Mapping();
      const found = [];
      while (cursor.next(out)) {
        const at = (kvaOf(out.page, out.offset) - KVA).toString(16);
        found.push(`${at} ${out.pa.toString(16)} ${out.length.toString(16)}`);
      }
      return found;
    };
    expect(rows(0n, 1n << 64n)).toEqual(['0 200000 200000', '200000 7000 3000', '300400 5400 400']);
    expect(rows(KVA + 0x1ff000n, KVA + 0x201000n)).toEqual(['1ff000 3ff000 1000', '200000 7000 1000']);
    expect(rows(KVA + 0x203000n, KVA + 0x300000n)).toEqual([]);
  });

  it('refuses what cannot be', () => {
    const fails = (...mappings: LiteralMapping[]): void => {
      expectCode('INVALID_ARGUMENT', () => literalAddressSpace(mappings));
    };
    fails(text, { ...data, kva: KVA + 0x1ff000n });
    fails(data, data);
    fails({ ...data, length: 100 });
    fails({ ...data, length: 0 });
    fails({ ...data, pa: 1 });
    fails({ ...data, kva: KVA + 1n });
    fails({ ...data, protection: 'wr-' });
    fails({ ...data, kva: -1 });
    expect(literalAddressSpace([])).toBeDefined();
  });
});

describe('literal memory', () => {
  const memory = literalMemory(
    [
      { pa: 0x5ff0, bytes: new Uint8Array(0x20).fill(7) },
      { pa: 0x1000, bytes: Uint8Array.of(1, 2, 3) },
    ],
    [{ start: 0x2000, end: 0x3000 }],
  );
  const read = (pa: number, length: number): number[] => {
    const bytes = new Uint8Array(length).fill(0xee);
    memory.readSync(pa, bytes, 0, length);
    return [...bytes];
  };

  it('has whole pages', () => {
    expect(memory.ranges.ranges).toEqual([
      { start: 0x1000, end: 0x3000 },
      { start: 0x5000, end: 0x7000 },
    ]);
    expect(memory.available(0x1000, 0x5000)).toBe(0x2000);
    expect(memory.available(0x2fff, 10)).toBe(1);
    expect([memory.available(0xfff, 1), memory.available(0x3000, 1)]).toEqual([0, 0]);
    expect(memory.available(0x5001, 100)).toBe(100);
  });

  it('is zeros where nothing was said', () => {
    expect(read(0x1000, 5)).toEqual([1, 2, 3, 0, 0]);
    expect(read(0x5fee, 4)).toEqual([0, 0, 7, 7]);
    expect(read(0x600f, 3)).toEqual([7, 0, 0]);
    expect(read(0x2ffe, 2)).toEqual([0, 0]);
  });
});

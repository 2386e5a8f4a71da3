import { Amd64Machine, amd64Minidump as dump, pagesOf } from '@libkvm/fixtures';
import { BlockCache, MemorySource, Translation, openMinidump } from '@libkvm/minidump-core';
import type { AddressSpace, HeaderOverrides } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { amd64Minidump } from '../src/index.js';
import { ask, walk } from './walker-rows.js';

const TOP = 1n << 64n;

/** A core of 1 GB of KVA with one page and one superpage, with its header changed. */
function spaceOf(overrides: HeaderOverrides = {}): { space: AddressSpace; warnings: readonly string[] } {
  const kernbase = 0xfffffe0000000000n;
  const rights = { pages: 1, writable: true, executable: false };
  const machine = new Amd64Machine({
    ram: [{ start: 0x1000, end: 0x400000 }],
    kernbase,
    kvaEnd: kernbase + 0x40000000n,
    dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
    mappings: [
      { kva: kernbase, pa: 0x2000, pageSize: 0x1000, ...rights },
      { kva: kernbase + 0x200000n, pa: 0x200000, pageSize: 0x200000, ...rights },
    ],
    tablePool: pagesOf(0x10000, 0x20000),
  });
  const core = openMinidump(
    new BlockCache(new MemorySource(dump(machine).file.bytes())),
    amd64Minidump,
    overrides,
  );
  return { space: core.addressSpace!, warnings: core.warnings };
}

describe('addresses of an amd64 minidump', () => {
  it('answers NOT_CANONICAL between the halves of 4-level paging, and nowhere else', () => {
    const { space } = spaceOf();
    const outcomes = [0n, (1n << 47n) - 1n, 1n << 47n, TOP - (1n << 47n) - 1n, TOP - (1n << 47n), TOP - 1n];
    expect(outcomes.map((kva) => ask(space, kva).outcome)).toEqual([
      ...['unmapped', 'unmapped', 'not canonical', 'not canonical', 'unmapped', 'unmapped'],
    ]);
    expect(ask(space, 0xfffffe0000000123n)).toMatchObject({ outcome: 'mapped', pa: 0x2123 });
    const out = new Translation();
    ask(space, (1n << 47n) - 0x2345n, out);
    expect(out.length).toBe(0x2345);
    ask(space, TOP - (1n << 47n) - 0x2345n, out);
    expect(out.length).toBe(0x2345);
    ask(space, 0xfffffdffffffff01n, out);
    expect(out.length).toBe(0xff);
  });

  it('takes 5 levels from a kernbase or direct map that needs them', () => {
    for (const overrides of [
      { kernbase: 0xff90000000000000n },
      { dmapbase: 0xff11000000000000n, dmapend: 0xff12000000000000n },
    ]) {
      const { space, warnings } = spaceOf(overrides);
      const kvas = [1n << 47n, (1n << 56n) - 1n, 1n << 56n, TOP - (1n << 56n) - 1n, TOP - (1n << 56n)];
      expect(kvas.map((kva) => ask(space, kva).outcome)).toEqual([
        ...['unmapped', 'unmapped', 'not canonical', 'not canonical', 'unmapped'],
      ]);
      expect(warnings).toEqual([]);
      expect(ask(space, (overrides.kernbase ?? 0xfffffe0000000000n) + 5n)).toMatchObject({ pa: 0x2005 });
    }
  });

  it('has no mappings at addresses that do not exist, in translations and in walks', () => {
    const below = (1n << 47n) - 0x200000n;
    const { space } = spaceOf({ kernbase: below });
    expect(walk(space, 0n, TOP)).toMatchObject([{ kva: below, pa: 0x2000 }]);
    expect(ask(space, below + 0x200000n).outcome).toBe('not canonical');
    const { space: nowhere, warnings } = spaceOf({ kernbase: 1n << 60n });
    expect(walk(nowhere, 0n, TOP)).toEqual([]);
    expect(ask(nowhere, 1n << 60n).outcome).toBe('not canonical');
    expect(warnings.join()).toContain('kernbase');
  });
});

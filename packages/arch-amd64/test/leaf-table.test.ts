import { fc, test } from '@fast-check/vitest';
import { Prng } from '@libkvm/fixtures';
import { EXECUTE, LeafTable, READ, USER, WRITE, type AddressSpace } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { runs } from '../../minidump-core/test/runs.js';
import { amd64Walker } from '../src/index.js';
import { indexOf, memoryOf, TestTables } from './walker-tables.js';

/** Where last-level tables lie: by the tables that the test built. */

const ALL = READ | WRITE | EXECUTE | USER;
const BASES = [0n, 0xffff_8000_0000_0000n, 0xffff_ffff_8000_0000n];

function tablesOf(seed: number): TestTables {
  const prng = new Prng(seed);
  const tables = new TestTables(prng.pick([4, 5] as const), prng);
  for (const level of [1, 2, 3]) {
    if (prng.chance(40))
      tables.deny(prng.pick(BASES), level, prng.pick(['write', 'execute', 'user'] as const));
  }
  for (const base of BASES) {
    for (let i = 0n; i < 4n; i++) {
      const leaf = { pa: 0x4000_0000, writable: true, executable: true, user: true, global: false };
      const level = prng.pick([1, 1, 2] as const);
      tables.map({ ...leaf, kva: base + i * 0x20_0000n, level });
    }
    tables.map({
      kva: base + 0x4000_0000n,
      level: 3,
      pa: 0,
      writable: true,
      executable: true,
      user: true,
      global: false,
    });
  }
  return tables;
}

function walk(tables: TestTables, lost: readonly number[] = []): AddressSpace {
  const pages = tables.pages();
  for (const pa of lost) pages.delete(pa);
  const CR4 = tables.levels === 5 ? 0x1020n : 0x20n;
  return amd64Walker(memoryOf(pages), { registers: { CR3: BigInt(tables.root), CR4, EFER: 0xd00n } });
}

describe('the last-level table of a page', () => {
  test.prop([fc.integer()], runs(40))('is where it was built, with the entry that names it', (seed) => {
    const tables = tablesOf(seed);
    const space = walk(tables);
    const pages = tables.pages();
    const out = new LeafTable();
    for (const { kva, level } of tables.leaves) {
      const page = Number(kva >> 12n);
      expect(space.leafTable?.(page, out)).toBe(level === 1);
      if (level > 1) continue;
      const directory = pages.get(tables.tableFor(kva, 2)!)!;
      const pde = new DataView(directory.buffer).getBigUint64(indexOf(kva, 2) * 8, true);
      const entry = (BigInt(out.entryHigh >>> 0) << 32n) | BigInt(out.entryLow >>> 0);
      expect({ pa: out.pa, entries: out.entries, entry }).toEqual({
        ...{ pa: tables.tableFor(kva, 1), entries: 512, entry: pde },
      });
      // Rights of the levels above the directory's entry alone.
      let rights = ALL;
      for (let above = 3; above <= tables.levels; above++) {
        const table = pages.get(tables.tableFor(kva, above)!)!;
        const naming = new DataView(table.buffer).getBigUint64(indexOf(kva, above) * 8, true);
        if ((naming & 2n) === 0n) rights &= ~WRITE;
        if ((naming & 4n) === 0n) rights &= ~USER;
        if (naming >> 63n === 1n) rights &= ~EXECUTE;
      }
      expect(out.rights).toBe(rights);
    }
  });

  it('is none for a superpage, an address that is not mapped, a table that is lost, or an address that no machine has', () => {
    const tables = tablesOf(3);
    const { kva } = tables.leaves.find(({ level }) => level === 1)!;
    const out = new LeafTable();
    const find = (space: AddressSpace, at: bigint): boolean | undefined =>
      space.leafTable?.(Number(at >> 12n), out);
    const space = walk(tables);
    expect(find(space, kva)).toBe(true);
    for (const at of [0x5000_0000n, 0x7fff_0000_0000n, 0x1000_0000_0000_0000n])
      expect(find(space, at)).toBe(false);
    // The last-level table itself need not be there, the one above it must.
    expect(find(walk(tables, [tables.tableFor(kva, 1)!]), kva)).toBe(true);
    for (const level of [2, 3, 4])
      expect(find(walk(tables, [tables.tableFor(kva, level)!]), kva)).toBe(false);
  });
});

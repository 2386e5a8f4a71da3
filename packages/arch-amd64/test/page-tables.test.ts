import { Prng } from '@libkvm/fixtures';
import {
  dumpMemoryOf,
  EXECUTE,
  MAPPED,
  planMinidump,
  READ,
  UNMAPPED,
  USER,
  WRITE,
  type DumpSource,
  type LiteralMapping,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { amd64Minidump, amd64Walker } from '../src/index.js';
import { memoryOf, TestTables } from './walker-tables.js';
import { AMD64, literalSource, lossesOf, translate, write } from './written.js';

/** Page tables of the source that go in as they are, those that cannot, and tables that change meanwhile. */

const BASE = 0xffff_fe00_0000_0000n;
const leaf = { level: 1, writable: true, executable: false, user: false, global: false } as const;

/** Two pages in one page table, one in the next; RAM is the tables and the pages. */
function machine(): { tables: TestTables; pages: Map<number, Uint8Array>; source: DumpSource } {
  const tables = new TestTables(4, new Prng(5));
  tables.map({ ...leaf, kva: BASE, pa: 0x2000 });
  tables.map({ ...leaf, kva: BASE + 0x5000n, pa: 0x3000 });
  tables.map({ ...leaf, kva: BASE + 0x20_0000n, pa: 0x4000 });
  const pages = tables.pages();
  for (const pa of [0x2000, 0x3000, 0x4000]) pages.set(pa, new Uint8Array(4096).fill(pa >> 12));
  return { tables, pages, source: sourceOf(tables, pages) };
}

function sourceOf(tables: TestTables, pages: ReadonlyMap<number, Uint8Array>): DumpSource {
  const memory = memoryOf(pages);
  const registers = { CR3: BigInt(tables.root), CR4: 0x20n, EFER: 0xd00n };
  return {
    machine: AMD64,
    memory: dumpMemoryOf(memory),
    addressSpace: amd64Walker(memory, { registers }),
  };
}

const tableOf = (entry: bigint): number => Number(entry & 0x000f_ffff_ffff_f000n);

describe('page tables of the source', () => {
  it('go in as they are', () => {
    const { tables, source } = machine();
    const written = write(source);
    expect([tableOf(written.entry(0)), tableOf(written.entry(1))]).toEqual([
      ...[tables.tableFor(BASE, 1), tables.tableFor(BASE + 0x20_0000n, 1)],
    ]);
    expect(written.plan.report).toMatchObject({ pages: 5, tables: { pages: 2 } });
    expect(lossesOf(written)).toEqual({});
  });

  it('stay where upper levels take rights away: that is done in the entry that names them', () => {
    for (const [bits, flags] of [
      ['write', READ | EXECUTE | USER],
      ['execute', READ | WRITE | USER],
      ['user', READ | WRITE | EXECUTE],
    ] as const) {
      const tables = new TestTables(4, new Prng(6));
      tables.deny(BASE, 3, bits);
      tables.map({ ...leaf, kva: BASE, pa: 0x2000, executable: true, user: true });
      const written = write(sourceOf(tables, tables.pages()));
      expect(tableOf(written.entry(0))).toBe(tables.tableFor(BASE, 1));
      expect(translate(written.core, BASE).flags & 15).toBe(flags);
      expect(lossesOf(written)).toEqual({});
    }
  });

  it('are made anew where they were dropped, where the window cuts them, where they say more', () => {
    const { tables, source } = machine();
    const real = tables.tableFor(BASE, 1)!;
    const check = (from: DumpSource, options: MinidumpOptions): void => {
      const written = write(from, options);
      expect(tableOf(written.entry(0))).not.toBe(real);
      expect(written.core.memory.locate(real)).toBe(-1);
      expect(translate(written.core, BASE + 0x5000n)).toMatchObject({ outcome: MAPPED, pa: 0x3000 });
      expect(lossesOf(written)).toEqual({});
    };
    check(source, { dropPages: [real] });
    check(source, { from: BASE + 0x1000n });
    // The direct map covers the first page: the dump says nothing of it.
    const directMap = { base: BASE, end: BASE + 0x1000n, phys: 0 };
    check({ ...source, machine: { ...AMD64, directMap } }, { from: BASE + 0x1000n });
    const cut = write(source, { from: BASE + 0x1000n });
    expect(translate(cut.core, BASE).outcome).toBe(UNMAPPED);
    // The window ends behind the last page of the table: nothing is cut.
    expect(tableOf(write(source, { to: BASE + 0x6000n }).entry(0))).toBe(real);
  });

  it('are made anew where another address space than theirs says so', () => {
    const { tables, source } = machine();
    const { addressSpace } = source;
    const real = tables.tableFor(BASE, 1)!;
    const kept = (over: Partial<LiteralMapping>): boolean => {
      const mappings = literalSource([
        { kva: BASE, pa: 0x2000, length: 4096, ...over },
        { kva: BASE + 0x5000n, pa: 0x3000, length: 4096 },
      ]).addressSpace;
      const mixed = {
        mappings: mappings.mappings.bind(mappings),
        leafTable: addressSpace.leafTable!.bind(addressSpace),
      };
      return tableOf(write({ ...source, addressSpace: mixed }).entry(0)) === real;
    };
    const own = translate(write(source).core, BASE);
    const memoryType = own.flags >> 8;
    const other = translate(write(source).core, BASE + 0x5000n).flags >> 8;
    // Where both have the same type as the tables they agree; every other difference counts.
    expect(kept({ memoryType })).toBe(other === 0);
    for (const over of [
      ...[{ pa: 0x4000 }, { protection: 'rwx' }, { user: true }, { global: true }, { pageSize: 0x2000 }],
      ...[{ kva: BASE + 0x1000n }, { memoryType: 7 - memoryType }],
    ]) {
      expect(kept({ memoryType, ...over })).toBe(false);
    }
  });
});

describe('tables that change between planning and writing', () => {
  const bytesOf = (source: DumpSource, change: () => void, options: MinidumpOptions = {}): number => {
    const plan = planMinidump(source, amd64Minidump, { tolerateDamage: true, ...options });
    change();
    let done = 0;
    for (const piece of plan.bytes()) done += piece.length;
    expect(done).toBe(plan.size);
    return done;
  };
  /** An address space whose mappings can be changed. */
  const changing = (
    first: readonly LiteralMapping[],
  ): { source: DumpSource; set(next: readonly LiteralMapping[]): void } => {
    let { addressSpace } = literalSource(first);
    const source = literalSource(first);
    return {
      source: { ...source, addressSpace: { mappings: (from, to) => addressSpace.mappings(from, to) } },
      set: (next) => ({ addressSpace } = literalSource(next)),
    };
  };
  const page = (at: number): LiteralMapping => ({ kva: BASE + BigInt(at), pa: 0x5000, length: 4096 });

  it.each([1, 2, 3])('fail the write of version %i where its parts no longer fit each other', (version) => {
    for (const next of [[page(0), page(0x40_0000)], [], [page(0x8000_0000)], [{ ...page(0), kva: 0n }]]) {
      const { source, set } = changing([page(0), page(0x20_0000)]);
      if (next.length === 2 && version === 1) continue; // as many entries, elsewhere
      expectCode('IO', () => bytesOf(source, () => set(next), { version }));
    }
    const { source, set } = changing([page(0)]);
    expect(bytesOf(source, () => set([page(0)]), { version })).toBeGreaterThan(0);
  });

  it('fail it where another table of the source would have to be dumped', () => {
    const first = machine();
    const second = machine();
    let spaces = first.source.addressSpace;
    const source: DumpSource = {
      ...first.source,
      addressSpace: {
        pteFormat: 'amd64',
        mappings: (from, to) => spaces.mappings(from, to),
        leafTable: (page, out) =>
          spaces.leafTable!(page, out) && (out.pa += spaces === first.source.addressSpace ? 0 : 4096) > 0,
      },
    };
    expectCode('IO', () => bytesOf(source, () => (spaces = second.source.addressSpace)));
  });
});

describe('large windows', () => {
  const TB = 2 ** 40;

  it('are planned and written in pieces: 2 TB of KVA in version 2, and just below it in version 1', () => {
    const last: LiteralMapping = { kva: 0xffff_ffff_ffff_f000n, pa: 0x5000, length: 4096 };
    const first = (bytes: number): LiteralMapping => ({ ...last, kva: (1n << 64n) - BigInt(bytes) });
    const source = (bytes: number): DumpSource => literalSource([first(bytes), last]);
    const directory = planMinidump(source(2 * TB), amd64Minidump, { version: 2 });
    expect(directory.report.tables).toEqual({ bytes: 2048 * 4096, pages: 2 });
    let done = 0;
    for (const { length } of directory.bytes()) {
      expect(length).toBeLessThanOrEqual(2 ** 20);
      done += length;
    }
    expect(done).toBe(directory.size);
    const flat = planMinidump(source(2 * TB - 0x20_0000), amd64Minidump, { version: 1 });
    expect(flat.report.tables).toEqual({ bytes: 2 ** 32 - 4096, pages: 0 });
    const pieces = flat.bytes();
    for (let i = 0; i < 200; i++)
      expect((pieces.next().value as Uint8Array).length).toBeLessThanOrEqual(65536);
  });

  it('of one mapping take no step for each page: 512 TB of superpages', () => {
    const bytes = 512 * TB;
    const run: LiteralMapping = { kva: 0xff00_0000_0000_0000n, pa: 0, length: bytes, pageSize: 0x20_0000 };
    const plan = planMinidump(literalSource([run]), amd64Minidump, { version: 3 });
    expect(plan.report.tables).toEqual({ bytes: bytes / 2 ** 18, pages: 0 });
    const pieces = plan.bytes();
    for (let i = 0; i < 40; i++)
      expect((pieces.next().value as Uint8Array).length).toBeLessThanOrEqual(65536);
  });
});

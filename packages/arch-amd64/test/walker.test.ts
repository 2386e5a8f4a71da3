import { fc, test } from '@fast-check/vitest';
import { Prng, randomMachine } from '@libkvm/fixtures';
import { MAPPED, Mapping, TABLE_LOOP, TABLE_TRUNCATED, Translation, isKvmError } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { amd64, amd64Walker } from '../src/index.js';
import type { LostPart, Row } from './walker-rows.js';
import { ask, expectedRow, expectedWalk, walk } from './walker-rows.js';
import type { Leaf, LeafLevel } from './walker-tables.js';
import { TestTables, memoryOf, sizeOf } from './walker-tables.js';

/** `npm run test:long` takes more random machines. */
const LONG = process.env.LIBKVM_LONG ? 20 : 1;

const TOP = 1n << 64n;
const registersOf = ({ root, levels }: TestTables): Record<string, bigint> => ({
  CR0: 0x80050033n,
  // PCID, LAM and "keep the TLB" bits around the frame.
  CR3: BigInt(root) | 0xe000_0000_0000_0abcn,
  CR4: levels === 5 ? 0x16f0n : 0x6f0n,
  EFER: 0xd01n,
});

interface World {
  readonly tables: TestTables;
  readonly lost: readonly LostPart[];
  readonly pages: Map<number, Uint8Array>;
}

/** Leaves of all sizes at the edges of the halves and elsewhere, rights taken away above some, a lost table at times. */
function randomWorld(prng: Prng, levels: 4 | 5): World {
  const tables = new TestTables(levels, prng);
  const half = 1n << BigInt(11 + 9 * levels);
  const bases = [0n, half / 2n, half - 0x8000_0000n, TOP - half, TOP - half / 4n, TOP - 0x8000_0000n];
  for (let i = prng.below(3); i > 0; i--) {
    tables.deny(
      prng.pick(bases),
      prng.between(1, levels - 1),
      prng.pick(['write', 'execute', 'user'] as const),
    );
  }
  for (let i = prng.between(1, 24); i > 0; i--) {
    const level = prng.pick([1, 1, 1, 2, 2, 3] as const);
    const size = BigInt(sizeOf(level));
    const kva =
      prng.pick(bases) + BigInt(prng.pick([0, 0, 0x1ff000, 0x200000, 0x3ffff000, prng.below(0x7ffff000)]));
    addLeaf(tables, prng, (kva / size) * size, level);
  }
  const pages = tables.pages();
  return { tables, pages, lost: prng.chance(40) ? [loseTable(tables, prng, pages)] : [] };
}

function addLeaf(tables: TestTables, prng: Prng, kva: bigint, level: LeafLevel): void {
  const end = kva + BigInt(sizeOf(level));
  const overlaps = (one: Leaf): boolean => one.kva < end && kva < one.kva + BigInt(sizeOf(one.level));
  if (tables.leaves.some(overlaps)) return;
  const frames = 2 ** 52 / sizeOf(level);
  const pa =
    prng.pick([0, 1, 0xfffff, frames - 1, prng.u32()].filter((frame) => frame < frames)) * sizeOf(level);
  const [writable, executable, user, global] = [50, 50, 20, 50].map((percent) => prng.chance(percent));
  tables.map({ kva, level, pa, writable, executable, user, global });
}

function loseTable(tables: TestTables, prng: Prng, pages: Map<number, Uint8Array>): LostPart {
  const { kva, level: leafLevel } = prng.pick(tables.leaves);
  const level = prng.between(leafLevel, tables.levels - 1);
  const table = tables.tableFor(kva, level)!;
  pages.delete(table);
  const span = BigInt(sizeOf(level));
  const start = (kva / (span * 512n)) * span * 512n;
  return { start, end: start + span * 512n, table, span };
}

function probesOf({ tables, lost }: World): bigint[] {
  const half = 1n << BigInt(11 + 9 * tables.levels);
  const edges = [0n, half, TOP - half, TOP, 1n << 47n, TOP - (1n << 47n), 1n << 63n];
  for (const { kva, level } of tables.leaves) {
    edges.push(
      kva,
      kva + BigInt(sizeOf(level)),
      kva + BigInt(sizeOf(level) / 2),
      kva + BigInt(sizeOf(level) * 512),
    );
  }
  for (const { start, end } of lost) edges.push(start, end, (start + end) / 2n);
  const around = edges.flatMap((edge) => [edge - 1n, edge, edge + 0xabcn]);
  return [...new Set(around)].filter((kva) => kva >= 0n && kva < TOP).sort((a, b) => (a < b ? -1 : 1));
}

/** Whether the answer for `from`, which claims to hold for `length` bytes, agrees with the one for a later address. */
function sameAnswer(from: Row, later: Row): boolean {
  if (from.outcome !== later.outcome) return false;
  const distance = Number(later.kva - from.kva);
  return from.outcome !== 'mapped' || from.pa! + distance === later.pa;
}

describe.each([4, 5] as const)('%i levels', (levels) => {
  const bits = levels === 4 ? 48n : 57n;

  test.prop([fc.integer()], { numRuns: 60 * LONG })('translates as the literal description says', (seed) => {
    const world = randomWorld(new Prng(seed), levels);
    const space = amd64Walker(memoryOf(world.pages), { registers: registersOf(world.tables) });
    const probes = probesOf(world);
    for (const kva of probes) {
      const out = new Translation();
      const row = ask(space, kva, out);
      const expected = (at: bigint): Row => expectedRow(world.tables.leaves, world.lost, bits, at);
      expect(row).toEqual(expected(kva));
      expect(out.length).toBeGreaterThan(0);
      const covered = probes.filter((later) => later >= kva && later < kva + BigInt(out.length));
      expect(covered.filter((later) => !sameAnswer(row, expected(later)))).toEqual([]);
    }
  });

  test.prop([fc.integer()], { numRuns: 120 * LONG })(
    'lists every mapping, in order, superpages whole',
    (seed) => {
      const prng = new Prng(seed);
      const { tables, lost, pages } = randomWorld(prng, levels);
      const space = amd64Walker(memoryOf(pages), { registers: registersOf(tables) });
      expect(walk(space, 0n, TOP)).toEqual(expectedWalk(tables.leaves, lost, 0n, TOP));
      const { kva, level } = prng.pick(tables.leaves);
      const from = kva + BigInt(prng.below(sizeOf(level) / 4096)) * 4096n;
      const to = from + BigInt(prng.pick([1, 7, 512, 0x40000])) * 4096n;
      expect(walk(space, from, to < TOP ? to : TOP)).toEqual(
        expectedWalk(tables.leaves, lost, from, to < TOP ? to : TOP),
      );
    },
  );

  test.prop([fc.integer()], { numRuns: 60 * LONG })(
    'survives tables full of garbage, translate and walk agreeing',
    (seed) => {
      const prng = new Prng(seed);
      const pages = new Map(Array.from({ length: 4 }, (_, i) => [0x1000 * (i + 1), garbage(prng)]));
      const registers = { CR3: 0x1000n, CR4: levels === 5 ? 0x1000n : 0n };
      const space = amd64Walker(memoryOf(pages, prng.below(6000)), { registers });
      const from = BigInt.asUintN(64, BigInt.asIntN(Number(bits), BigInt(prng.u32()) << (bits - 32n)));
      const cursor = space.mappings(Number(from >> 12n), Number(from >> 12n) + 2 ** 28);
      const row = new Mapping();
      const answer = new Translation();
      let page = 0;
      for (let count = 0; count < 600 && cursor.next(row); count++) {
        expect(row.page).toBeGreaterThanOrEqual(page);
        expect(space.translate(row.page, 0, answer)).toBe(row.outcome);
        if (row.outcome === MAPPED) expect([answer.pa, answer.flags]).toEqual([row.pa, row.flags]);
        page = row.page + row.length / 4096;
      }
    },
  );
});

/** Entries with random flags, of which many name one of the first pages of memory. */
function garbage(prng: Prng): Uint8Array {
  const page = new Uint8Array(4096);
  const view = new DataView(page.buffer);
  for (let i = 0; i < 512; i++) {
    if (prng.chance(30)) continue;
    const low = prng.chance(70) ? prng.between(0, 6) * 4096 + prng.below(0x80) : prng.u32();
    view.setUint32(i * 8, low, true);
    view.setUint32(i * 8 + 4, prng.chance(70) ? 0 : prng.u32(), true);
  }
  return page;
}

describe('4 levels of a FreeBSD machine', () => {
  test.prop([fc.integer()], { numRuns: 60 * LONG })('agrees with the machine it was built from', (seed) => {
    const { machine, probes } = randomMachine(seed);
    const pages = new Map(machine.ram.writtenPages().map((pa) => [pa, machine.ram.readBytes(pa, 4096)]));
    const space = amd64Walker(memoryOf(pages), { registers: { CR3: BigInt(machine.cr3), CR4: 0x6f0n } });
    for (const kva of probes) {
      const row = ask(space, kva);
      const lost = ([3, 2, 1] as const).find((level) => {
        const table = machine.tableFor(kva, level);
        return table !== undefined && !machine.ram.has(table);
      });
      const found = machine.translate(kva);
      const high = kva >> 47n;
      if (high !== 0n && high !== 0x1ffffn) expect(row.outcome).toBe('not canonical');
      else if (lost !== undefined && (found === undefined || sizeOf(lost) >= found.pageSize)) {
        expect(row.outcome).toBe('no table');
      } else if (!found) expect(row.outcome).toBe('unmapped');
      else {
        const { pa, writable, executable, pageSize } = found;
        expect(row).toMatchObject({ outcome: 'mapped', pa, pageSize });
        expect([(row.flags! & 2) !== 0, (row.flags! & 4) !== 0]).toEqual([writable, executable]);
      }
    }
  });
});

describe('numbers', () => {
  it('takes the indices of the worked example (format document, 7.1)', () => {
    const tables = new TestTables(4, new Prng(1));
    tables.poke(0xfffffe0012345678n, 1, 0x8000000003456163n);
    tables.poke(0xffffffff80434567n, 1, 0x7654121n);
    const pages = tables.pages();
    const entryIn = (level: number, kva: bigint, index: number): bigint =>
      new DataView(pages.get(tables.tableFor(kva, level)!)!.buffer).getBigUint64(index * 8, true);
    [508, 0, 145, 325].forEach((index, i) =>
      expect(entryIn(4 - i, 0xfffffe0012345678n, index) & 1n).toBe(1n),
    );
    [511, 510, 2, 52].forEach((index, i) => expect(entryIn(4 - i, 0xffffffff80434567n, index) & 1n).toBe(1n));
    const space = amd64Walker(memoryOf(pages), { registers: { CR3: BigInt(tables.root) } });
    const out = new Translation();
    expect(ask(space, 0xfffffe0012345678n, out)).toMatchObject({ pa: 0x3456678, flags: 1 | 2 | 16 });
    expect([out.level, out.entryLow >>> 0, out.entryHigh >>> 0, out.entryBits]).toEqual([
      ...[1, 0x03456163, 0x80000000, 64],
    ]);
    expect(ask(space, 0xffffffff80434567n)).toMatchObject({ pa: 0x7654567, flags: 1 | 4 | 16 });
  });

  it('does not map what bit 7 of a PML4 or PML5 entry claims', () => {
    for (const levels of [4, 5] as const) {
      const tables = new TestTables(levels, new Prng(1));
      tables.poke(0n, levels, 0x100e3n);
      const CR4 = levels === 5 ? 0x1000n : 0n;
      const space = amd64Walker(memoryOf(tables.pages()), { registers: { CR3: BigInt(tables.root), CR4 } });
      expect(ask(space, 0x1234n).outcome).toBe('unmapped');
      expect(walk(space, 0n, TOP)).toEqual([]);
    }
  });

  it('tells tables that are cut off from tables that are absent', () => {
    const tables = new TestTables(4, new Prng(3));
    for (const kva of [0x1000n, 0x1ff000n, 0x200000n]) {
      tables.map({ kva, level: 1, pa: 0x5000, writable: true, executable: true, user: false, global: false });
    }
    tables.poke(0x400000n, 2, 0xdead000001n);
    // The last table is that of 0x200000; its upper half is missing.
    const space = amd64Walker(memoryOf(tables.pages(), 2048), { registers: { CR3: BigInt(tables.root) } });
    const last = tables.tableFor(0x200000n, 1)!;
    expect(ask(space, 0x200000n).outcome).toBe('mapped');
    expect(ask(space, 0x300000n).outcome).toBe(TABLE_TRUNCATED);
    expect(ask(space, 0x401234n)).toEqual({ kva: 0x401234n, outcome: 'no table', pa: 0xdead000000 });
    expect(walk(space, 0n, TOP).slice(2)).toMatchObject([
      { kva: 0x200000n, outcome: 'mapped', length: 0x1000 },
      { kva: 0x300000n, outcome: TABLE_TRUNCATED, length: 0x100000 },
      { kva: 0x400000n, outcome: 'no table', pa: 0xdead000000, length: 0x200000 },
    ]);
    expect(last).toBeGreaterThan(tables.tableFor(0n, 1)!);
  });
});

describe('tables that name themselves', () => {
  it('shows the tables through a recursive slot', () => {
    const tables = new TestTables(4, new Prng(4));
    tables.map({
      kva: 0x1000n,
      level: 1,
      pa: 0x5000,
      writable: true,
      executable: true,
      user: true,
      global: false,
    });
    tables.poke(256n << 39n, 4, BigInt(tables.root) | 0x63n);
    const space = amd64Walker(memoryOf(tables.pages()), { registers: { CR3: BigInt(tables.root) } });
    const slot = TOP - (1n << 47n);
    const pt = tables.tableFor(0x1000n, 1)!;
    expect(ask(space, slot + 8n)).toMatchObject({ outcome: 'mapped', pa: pt + 8 });
    // The PML4 through itself four times.
    const self = slot | (256n << 30n) | (256n << 21n) | (256n << 12n);
    expect(ask(space, self)).toMatchObject({ outcome: 'mapped', pa: tables.root });
    const rows = walk(space, 0n, TOP);
    expect(rows.map(({ pa }) => pa)).toEqual([
      ...[0x5000, pt, tables.tableFor(0n, 2), tables.tableFor(0n, 3), tables.root],
    ]);
  });

  it('gives a walk up that would not end', () => {
    const page = new Uint8Array(4096);
    for (let i = 0; i < 48; i++) new DataView(page.buffer).setBigUint64(i * 8, 0x1063n, true);
    const space = amd64Walker(memoryOf(new Map([[0x1000, page]])), { registers: { CR3: 0x1000n } });
    expect(ask(space, (2n << 39n) | (13n << 30n) | (20n << 21n) | 0x1fabcn)).toMatchObject({
      outcome: 'mapped',
      pa: 0x1abc,
    });
    const cursor = space.mappings(0, 2 ** 52);
    const mapping = new Mapping();
    let rows = 0;
    while (cursor.next(mapping)) rows++;
    expect(mapping.outcome).toBe(TABLE_LOOP);
    expect(rows).toBeLessThan(65600 * 48);
  });
});

describe('registers', () => {
  const memory = memoryOf(new Map([[0x1000, new Uint8Array(4096)]]));
  const failure = (registers: Record<string, bigint>): { code: string; field?: string; hint?: string } => {
    try {
      amd64Walker(memory, { registers });
    } catch (error) {
      if (isKvmError(error)) return error;
      throw error;
    }
    throw new Error('no error');
  };

  it('names the register that is missing', () => {
    expect(failure({ CR0: 0x80000000n, CR4: 0n })).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'CR3' });
    expect(failure({}).hint).toContain('CR3');
  });

  it('refuses a processor outside of 64-bit mode', () => {
    expect(failure({ CR3: 0x1000n, EFER: 0x800n })).toMatchObject({ code: 'UNSUPPORTED', field: 'EFER' });
  });

  it('maps every address of 32 bits to itself without paging', () => {
    const space = amd64Walker(memory, { registers: { CR0: 0x11n, EFER: 0n } });
    const out = new Translation();
    expect(ask(space, 0xfffffabcn, out)).toMatchObject({
      outcome: 'mapped',
      pa: 0xfffffabc,
      flags: 7,
      pageSize: 4096,
    });
    expect(out.length).toBe(0x544);
    expect(ask(space, 1n << 32n).outcome).toBe('not canonical');
    expect(walk(space, 0x1000n, TOP)).toMatchObject([{ kva: 0x1000n, pa: 0x1000, length: 0xfffff000 }]);
    expect(walk(space, 1n << 32n, TOP)).toEqual([]);
  });

  it('is what the architecture offers', () => {
    expect(amd64.walker).toBe(amd64Walker);
  });
});

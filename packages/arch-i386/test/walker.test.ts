import { fc, test } from '@fast-check/vitest';
import { Prng } from '@libkvm/fixtures';
import { Mapping, TABLE_LOOP, TABLE_TRUNCATED, Translation, isKvmError } from '@libkvm/minidump-core';
import type { AddressSpace } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { I386Machine } from '../../fixtures/src/i386-machine.js';
import { randomI386Machine } from '../../fixtures/src/i386-random.js';
import { i386, i386Walker } from '../src/index.js';
import type { Mode } from './walker-oracle.js';
import { plainWalk } from './walker-oracle.js';
import type { Row } from './walker-rows.js';
import { ask, memoryOf, walk } from './walker-rows.js';

/** `npm run test:long` takes more random machines. */
const LONG = process.env.LIBKVM_LONG ? 20 : 1;

const CR4: Readonly<Record<Mode, bigint>> = { small: 0n, nopae: 0x10n, pae: 0x20n };

/** The pages of a machine that were written: its page tables. */
function tablePages({ ram }: I386Machine): Map<number, Uint8Array> {
  return new Map(ram.writtenPages().map((pa) => [pa, ram.readBytes(pa, 4096)]));
}

/** The address of the missing table that hides an address, and the span of one of its entries. */
function lostTable(machine: I386Machine, kva: number): { pa: number; span: number } | undefined {
  const pae = machine.description.paging === 'pae';
  for (const level of [2, 1] as const) {
    const pa = machine.tableFor(BigInt(kva), level);
    if (pa === undefined || machine.ram.has(pa)) continue;
    return { pa, span: level === 1 ? 0x1000 : pae ? 0x200000 : 0x400000 };
  }
  return undefined;
}

function expectedRow(machine: I386Machine, kva: number): Row {
  const found = machine.translate(BigInt(kva));
  const lost = lostTable(machine, kva);
  if (lost !== undefined && (found === undefined || found.pageSize <= lost.span)) {
    return { kva, outcome: 'no table', pa: lost.pa };
  }
  if (!found) return { kva, outcome: 'unmapped' };
  const { pa, pageSize, writable, executable, mapping } = found;
  const letters = [
    'r',
    writable ? 'w' : '-',
    executable ? 'x' : '-',
    mapping.user ? 'u' : '-',
    mapping.global ? 'g' : '-',
  ];
  return { kva, outcome: 'mapped', pa, pageSize, rights: letters.join('') };
}

const entries = (paging: 'nopae' | 'pae'): number => (paging === 'pae' ? 512 : 1024);

/** Every mapping of the description and every lost table, as rows cut to `[from, to)`. */
function expectedWalk(machine: I386Machine, from: number, to: number): (Row & { length: number })[] {
  const pieces = new Map<number, number>();
  const { mappings, paging } = machine.description;
  for (const { kva, pageSize, pages } of mappings) {
    for (let i = 0; i < pages; i++) {
      const start = Number(kva) + i * pageSize;
      const lost = lostTable(machine, start);
      const span = lost === undefined ? pageSize : lost.span * entries(paging);
      pieces.set(Math.floor(start / span) * span, span);
    }
  }
  return [...pieces]
    .sort(([a], [b]) => a - b)
    .map(([start, length]) => [Math.max(start, from), Math.min(start + length, to)] as const)
    .filter(([start, end]) => start < end)
    .map(([start, end]) => ({ ...expectedRow(machine, start), length: end - start }));
}

describe.each(['nopae', 'pae'] as const)('random machines, %s', (paging) => {
  const spaceOf = (machine: I386Machine): AddressSpace =>
    i386Walker(memoryOf(tablePages(machine)), { registers: machine.registers });

  test.prop([fc.integer()], { numRuns: 60 * LONG })('translates as the literal description says', (seed) => {
    const { machine, probes } = randomI386Machine(seed, { paging, highBigPages: true });
    const space = spaceOf(machine);
    const answers = probes.map((probe) => {
      const out = new Translation();
      const row = ask(space, Number(probe), out);
      return { row, end: row.kva + out.length };
    });
    expect(answers.map(({ row }) => row)).toEqual(probes.map((probe) => expectedRow(machine, Number(probe))));
    // What an answer says of the bytes behind it agrees with the answers for those.
    for (const { row, end } of answers) {
      expect(end).toBeGreaterThan(row.kva);
      expect(end).toBeLessThanOrEqual(2 ** 32);
      const covered = answers.filter((later) => later.row.kva >= row.kva && later.row.kva < end);
      const wrong = covered.filter(({ row: later }) => {
        const distance = later.kva - row.kva;
        return later.outcome !== row.outcome || (row.outcome === 'mapped' && row.pa! + distance !== later.pa);
      });
      expect(wrong).toEqual([]);
    }
  });

  test.prop([fc.integer()], { numRuns: 100 * LONG })(
    'lists every mapping, in order, superpages whole',
    (seed) => {
      const prng = new Prng(seed);
      const { machine, probes } = randomI386Machine(prng, { paging, highBigPages: true });
      const space = spaceOf(machine);
      expect(walk(space)).toEqual(expectedWalk(machine, 0, 2 ** 32));
      const from = Math.floor(Number(prng.pick(probes)) / 4096) * 4096;
      const to = Math.min(2 ** 32, from + prng.pick([1, 7, 512, 5000]) * 4096);
      expect(walk(space, from, to)).toEqual(expectedWalk(machine, from, to));
    },
  );
});

describe.each(['small', 'nopae', 'pae'] as const)('garbage, %s', (mode) => {
  test.prop([fc.integer()], { numRuns: 60 * LONG })(
    'is walked as a plain reading of the manual walks it',
    (seed) => {
      const prng = new Prng(seed);
      const pages = new Map(Array.from({ length: 5 }, (_, i) => [0x1000 * (i + 1), garbage(prng, mode)]));
      const root = mode === 'pae' ? 0x1000 + prng.below(128) * 32 : 0x1000;
      // Bits around the root's address mean nothing.
      const noise = 0xabc_0000_0000n | (mode === 'pae' ? 0x1fn : 0xfffn);
      const registers = { CR3: BigInt(root) | noise, CR4: CR4[mode] | 0x350ec0n };
      const space = i386Walker(memoryOf(pages), { registers });
      const probes = Array.from({ length: 300 }, () => prng.u32());
      const asked = probes.map((kva) => ask(space, kva));
      expect(asked).toEqual(probes.map((kva) => ({ kva, ...plainWalk(pages, mode, root, kva) })));
      const rows = walk(space, 0, 2 ** 32, 1000);
      const starts = rows.map(({ length: _length, ...row }) => row);
      expect(starts).toEqual(rows.map(({ kva }) => ({ kva, ...plainWalk(pages, mode, root, kva) })));
      expect(rows.slice(1).filter(({ kva }, i) => kva < rows[i].kva + rows[i].length)).toEqual([]);
    },
  );
});

/** Entries with random flags, of which many name one of the first pages of memory and some what is not there. */
function garbage(prng: Prng, mode: Mode): Uint8Array {
  const page = new Uint8Array(4096);
  const view = new DataView(page.buffer);
  for (let at = 0; at < 4096; at += mode === 'pae' ? 8 : 4) {
    if (prng.chance(70)) continue;
    view.setUint32(at, prng.chance(70) ? prng.between(0, 6) * 4096 + prng.below(0x200) : prng.u32(), true);
    if (mode === 'pae') view.setUint32(at + 4, prng.chance(70) ? 0 : prng.u32(), true);
  }
  return page;
}

/** A page of entries at the given indices. */
function page(bytesEach: 4 | 8, entriesAt: Readonly<Record<number, bigint>>): Uint8Array {
  const view = new DataView(new ArrayBuffer(4096));
  for (const [index, entry] of Object.entries(entriesAt)) {
    if (bytesEach === 8) view.setBigUint64(Number(index) * 8, entry, true);
    else view.setUint32(Number(index) * 4, Number(entry), true);
  }
  return new Uint8Array(view.buffer);
}

describe('entries', () => {
  it('gives 4 MB pages 40 address bits, and takes them for page tables without CR4.PSE', () => {
    // Bits 20:13 are 0xa5, bit 12 is PAT, bit 21 is reserved: PA 0xa5_01000000.
    const pde = 0x0100_0000n | (0xa5n << 13n) | 0x20_0000n | 0x1000n | 0x1e3n;
    const table = Number(pde & 0xfffff000n);
    const pages = new Map([
      [0x1000, page(4, { 48: pde })],
      [table, page(4, { 5: 0x7777_0121n })],
    ]);
    const spaceOf = (cr4: bigint): AddressSpace =>
      i386Walker(memoryOf(pages), { registers: { CR3: 0x1000n, CR4: cr4 } });
    const kva = 0x0c00_5678;
    expect(ask(spaceOf(0x10n), kva)).toEqual({
      ...{ kva, outcome: 'mapped', pa: 0xa5_0100_5678, rights: 'rwx-g', pageSize: 0x40_0000 },
    });
    expect(ask(spaceOf(0n), kva)).toEqual({
      ...{ kva, outcome: 'mapped', pa: 0x7777_0678, rights: 'r-x-g', pageSize: 0x1000 },
    });
  });

  it('reads of a page-directory pointer the present bit and the frame, and nothing else', () => {
    // RW and US clear, NX, PS and G set: none of them means anything here. Bits above 51 neither.
    const pointer = 0xfff0_0000_0000_2000n | 0x181n;
    const pages = new Map([
      [0x1000, page(8, { 4: pointer, 7: pointer })],
      [0x2000, page(8, { 0: 0xf_ffff_ffe0_00e7n, 511: 0x8000_0000_0000_3067n })],
      [0x3000, page(8, { 511: 0x1_2345_6163n })],
    ]);
    // The pointers lie 32 bytes into the page.
    const space = i386Walker(memoryOf(pages), { registers: { CR3: 0x1020n, CR4: 0x20n } });
    expect(ask(space, 0x0012_3456)).toEqual({
      ...{
        kva: 0x0012_3456,
        outcome: 'mapped',
        pa: 0xf_ffff_fff2_3456,
        rights: 'rwxu-',
        pageSize: 0x20_0000,
      },
    });
    expect(walk(space).map(({ kva, rights }) => [kva, rights])).toEqual([
      [0, 'rwxu-'],
      [0x3fff_f000, 'rw--g'],
      [0xc000_0000, 'rwxu-'],
      [0xffff_f000, 'rw--g'],
    ]);
    expect(ask(space, 0x4000_0000).outcome).toBe('unmapped');
  });

  it('tells tables that are cut off from tables that are absent', () => {
    const pages = new Map([
      [0x1000, page(4, { 0: 0x2003n, 1: 0xdead_0003n })],
      [0x2000, page(4, { 1: 0x5003n })],
    ]);
    const space = i386Walker(memoryOf(pages, 1024), { registers: { CR3: 0x1000n, CR4: 0n } });
    expect(walk(space)).toMatchObject([
      { kva: 0x1000, outcome: 'mapped' },
      { kva: 0x30_0000, outcome: TABLE_TRUNCATED, length: 0x10_0000 },
      { kva: 0x40_0000, outcome: 'no table', pa: 0xdead_0000, length: 0x40_0000 },
    ]);
    expect(ask(space, 0x30_0000).outcome).toBe(TABLE_TRUNCATED);
    expect(ask(space, 0x7f_ffff)).toMatchObject({ outcome: 'no table', pa: 0xdead_0000 });
  });
});

describe('tables that name themselves', () => {
  it('shows the tables through a recursive slot', () => {
    for (const paging of ['nopae', 'pae'] as const) {
      const slot = paging === 'pae' ? 0x7f8 : 0x3ff;
      const { machine } = randomI386Machine(7, { paging });
      const recursive = new I386Machine({ ...machine.description, recursiveSlot: slot });
      const space = i386Walker(memoryOf(tablePages(recursive)), { registers: recursive.registers });
      const base = slot * (paging === 'pae' ? 0x20_0000 : 0x40_0000);
      for (const { level, firstKva, pa } of recursive.tables) {
        if (level !== 1) continue;
        const kva = base + (firstKva / 0x1000) * (paging === 'pae' ? 8 : 4);
        expect(ask(space, kva)).toMatchObject({ outcome: 'mapped', pa });
      }
    }
  });

  it('ends however the tables refer to each other', () => {
    const all = (bytesEach: 4 | 8): Uint8Array =>
      page(bytesEach, Object.fromEntries(Array.from({ length: 4096 / bytesEach }, (_, i) => [i, 0x1063n])));
    for (const [bytesEach, cr4] of [
      [4, 0n],
      [8, 0x20n],
    ] as const) {
      const memory = memoryOf(new Map([[0x1000, all(bytesEach)]]));
      const space = i386Walker(memory, { registers: { CR3: 0x1000n, CR4: cr4 } });
      const cursor = space.mappings(0, 2 ** 20);
      const mapping = new Mapping();
      let rows = 0;
      while (cursor.next(mapping)) rows++;
      expect([rows, mapping.outcome === TABLE_LOOP]).toEqual([2 ** 20, false]);
    }
  });
});

describe('registers', () => {
  const memory = memoryOf(new Map([[0x1000, new Uint8Array(4096)]]));
  const failure = (registers: Record<string, bigint>): { code: string; field?: string; hint?: string } => {
    try {
      i386Walker(memory, { registers });
    } catch (error) {
      if (isKvmError(error)) return error;
      throw error;
    }
    throw new Error('no error');
  };

  it('names the register that is missing', () => {
    expect(failure({ CR4: 0x20n })).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'CR3' });
    expect(failure({ CR3: 0x1000n })).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'CR4' });
    expect(failure({ CR3: 0x1000n }).hint).toContain('CR4');
  });

  it('refuses a processor in 64-bit mode', () => {
    expect(failure({ CR3: 0x1000n, CR4: 0x20n, EFER: 0xd01n })).toMatchObject({
      code: 'UNSUPPORTED',
      field: 'EFER',
    });
  });

  it('maps every address to itself without paging', () => {
    const space = i386Walker(memory, { registers: { CR0: 0x11n } });
    expect(ask(space, 0xffff_fabc)).toEqual({
      ...{ kva: 0xffff_fabc, outcome: 'mapped', pa: 0xffff_fabc, rights: 'rwx--', pageSize: 0x1000 },
    });
    expect(walk(space)).toMatchObject([{ kva: 0, pa: 0, length: 2 ** 32 }]);
  });

  it('has no address from 2^32 on', () => {
    const space = i386Walker(memory, { registers: { CR3: 0x1000n, CR4: 0n } });
    expect(ask(space, 2 ** 32).outcome).toBe('not canonical');
    expect(ask(space, 2 ** 32 - 1).outcome).toBe('unmapped');
    expect(i386.walker).toBe(i386Walker);
  });
});

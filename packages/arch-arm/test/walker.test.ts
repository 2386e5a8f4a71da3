import {
  EXECUTE,
  MAPPED,
  READ,
  TABLE_ABSENT,
  UNMAPPED,
  USER,
  WRITE,
  isKvmError,
  type AddressSpace,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { SimRam } from '../../fixtures/src/sim-ram.js';
import { arm, armPteFormat, armWalker, type ArmWalkOptions } from '../src/index.js';
import { ask, memoryOf, runsOf } from './support.js';

const RIGHTS = READ | WRITE | EXECUTE | USER;
const BASE = 0x80000000;

/** 64 KB of RAM with the given words (`[offset, value]`), walked with registers whose TTBR0 is its start. */
function walk(
  words: readonly (readonly [number, number])[],
  registers: Record<string, bigint> = {},
  options: Partial<ArmWalkOptions> = {},
): AddressSpace {
  const ram = new SimRam([{ start: BASE, end: BASE + 0x10000 }]);
  for (const [offset, value] of words) ram.writeU32(BASE + offset, value, options.byteOrder !== 'big');
  return armWalker(memoryOf(ram), { registers: { TTBR0: BigInt(BASE), ...registers }, ...options });
}

const rights = (space: AddressSpace, kva: number): number => ask(space, kva).flags & RIGHTS;

describe('armPteFormat', () => {
  const SCTLR_V7 = 0x10c5387dn;
  const SCTLR_V5 = 0x5317dn;

  it.each([
    ['nothing known', {}, 'v6'],
    ['ARMv7', { TTBCR: 0n, SCTLR: SCTLR_V7 }, 'v6'],
    ['TTBCR.EAE', { TTBCR: 0x80000000n, SCTLR: SCTLR_V7 }, 'lpae'],
    ['XP clear', { TTBCR: 0n, SCTLR: SCTLR_V5 }, 'v6-subpages'],
    ['XP clear and no TTBCR', { SCTLR: SCTLR_V5 }, 'v4'],
    ['ARM920T', { MIDR: 0x41129200n }, 'v4'],
    ['ARM926EJ-S', { MIDR: 0x41069265n, SCTLR: SCTLR_V5 }, 'v4'],
    ['PXA255', { MIDR: 0x69052d06n }, 'xscale'],
    ['i80321', { MIDR: 0x69052420n }, 'xscale'],
    ['PXA320', { MIDR: 0x69056826n }, 'xscale3'],
    ['PXA935', { MIDR: 0x56056931n }, 'xscale3'],
    ['ARM1136 with XP', { MIDR: 0x4107b362n, SCTLR: SCTLR_V7 }, 'v6'],
    ['ARM1136 without XP', { MIDR: 0x4107b362n, SCTLR: SCTLR_V5 }, 'v6-subpages'],
    ['ARM1176 without XP', { MIDR: 0x410fb767n, SCTLR: SCTLR_V5 }, 'v6-subpages'],
    ['Cortex-A15', { MIDR: 0x414fc0f0n, SCTLR: SCTLR_V7 }, 'v6'],
    ['ARMv8 in AArch32, where bit 23 is SPAN', { MIDR: 0x414fd030n, SCTLR: SCTLR_V5 }, 'v6'],
  ])('%s', (_name, registers, format) => {
    expect(armPteFormat(registers)).toBe(format);
  });

  it('takes a format asked for, and no other names', () => {
    expect(armPteFormat({ TTBCR: 0x80000000n }, 'xscale3')).toBe('xscale3');
    expect(() => armPteFormat({}, 'v8')).toThrow(/v8 is not a page-table format/);
  });
});

describe('armWalker', () => {
  it('is the walker of the architecture', () => {
    expect(arm).toMatchObject({ name: 'arm', bits: 32, elfMachines: [40], byteOrders: ['little', 'big'] });
    expect(arm.walker).toBe(armWalker);
  });

  it('maps KVA to PA while the MMU is off', () => {
    const space = walk([], { SCTLR: 0xc50078n });
    expect(ask(space, 0x12345678)).toMatchObject({ outcome: MAPPED, pa: 0x12345678 });
    expect(runsOf(space)).toHaveLength(1);
  });

  it('asks for the registers that it needs', () => {
    const memory = memoryOf(new SimRam([{ start: BASE, end: BASE + 0x10000 }]));
    const fail = (registers: Record<string, bigint>): unknown => {
      try {
        armWalker(memory, { registers });
      } catch (error) {
        return isKvmError(error, 'INVALID_ARGUMENT') ? error.field : error;
      }
      return undefined;
    };
    expect(fail({})).toBe('TTBR0');
    expect(fail({ TTBR0: 0n, TTBCR: 2n })).toBe('TTBR1');
    expect(fail({ TTBR0: 0n, TTBCR: 0x22n })).toBeUndefined();
    expect(fail({ TTBR1: 0n, TTBCR: 0x12n })).toBeUndefined();
    expect(fail({ TTBR0: 0n, TTBCR: 0x80000000n })).toBeUndefined();
    expect(fail({ TTBR0: 0n, TTBCR: 0x80010000n })).toBe('TTBR1');
    expect(fail({ TTBR0: 0n, TTBCR: 0x80810000n })).toBeUndefined();
  });

  it('reads tables in the byte order asked for, or in that of SCTLR', () => {
    const entry = [0, 0x12300c02] as const;
    expect(ask(walk([entry], {}, { byteOrder: 'big' }), 0).pa).toBe(0x12300000);
    const swapped = [0, 0x020c3012] as const;
    expect(ask(walk([swapped], { SCTLR: 0x2c50079n }), 0).pa).toBe(0x12300000);
    expect(ask(walk([swapped], { SCTLR: 0x501f9n }), 0).pa).toBe(0x12300000); // SCTLR.B, before ARMv6
    expect(ask(walk([entry], { SCTLR: 0xc500f9n }), 0).pa).toBe(0x12300000); // no such bit in ARMv7
  });

  it('turns regions off by PD0, PD1, EPD0 and EPD1', () => {
    const sections = [
      [0, 0x100c02],
      [0x4000 + 0x800 * 4, 0x200c02],
    ] as const;
    const TTBR1 = BigInt(BASE + 0x4000);
    const both = walk(sections, { TTBR1, TTBCR: 1n });
    expect([ask(both, 0).outcome, ask(both, 0x80000000).outcome]).toEqual([MAPPED, MAPPED]);
    const low = walk(sections, { TTBR1, TTBCR: 0x21n });
    expect([ask(low, 0).outcome, ask(low, 0x80000000).outcome]).toEqual([MAPPED, UNMAPPED]);
    const high = walk(sections, { TTBR1, TTBCR: 0x11n });
    expect([ask(high, 0).outcome, ask(high, 0x80000000).outcome]).toEqual([UNMAPPED, MAPPED]);
    expect(runsOf(high)).toHaveLength(1);
    expect(ask(walk(sections, { TTBCR: 0x10n }), 0)).toMatchObject({ outcome: UNMAPPED, length: 2 ** 32 });
  });
});

describe('v6 rights', () => {
  // AP[2:0] 0 to 7 in bits 15, 11:10 of eight sections.
  const sections = Array.from({ length: 8 }, (_, ap) => {
    return [ap * 4, (ap << 20) | ((ap >> 2) << 15) | ((ap & 3) << 10) | 2] as const;
  });
  const all = (space: AddressSpace, mask: number): number[] =>
    sections.map((_, ap) => rights(space, ap << 20) & mask);

  it('follow AP[2:0] without the access flag', () => {
    const space = walk(sections, { SCTLR: 0xc50079n });
    expect(all(space, WRITE)).toEqual([0, WRITE, WRITE, WRITE, 0, 0, 0, 0]);
    expect(all(space, USER)).toEqual([0, 0, USER, USER, 0, 0, USER, USER]);
    expect(all(space, READ)).toEqual(Array(8).fill(READ));
  });

  it('follow AP[2:1] with it', () => {
    const space = walk(sections, { SCTLR: 0x20c50079n });
    expect(all(space, WRITE)).toEqual([WRITE, WRITE, WRITE, WRITE, 0, 0, 0, 0]);
    expect(all(space, USER)).toEqual([0, 0, USER, USER, 0, 0, USER, USER]);
  });

  it('lose EXECUTE to XN and PXN, of sections, tables and pages', () => {
    const words = [
      [0, 0x100402],
      [4, 0x100412], // XN
      [8, 0x100403], // PXN
      [12, (BASE + 0x4000) | 1],
      [16, (BASE + 0x4000) | 5], // PXN
      [0x4000, 0x12],
      [0x4004, 0x13], // XN
      ...Array.from({ length: 16 }, (_, i) => [0x4040 + i * 4, 0x10011] as const),
      ...Array.from({ length: 16 }, (_, i) => [0x4080 + i * 4, 0x18011] as const), // XN
    ] as const;
    const space = walk(words, {});
    const executable = (kva: number): boolean => (rights(space, kva) & EXECUTE) !== 0;
    expect([0, 0x100000, 0x200000].map(executable)).toEqual([true, false, false]);
    expect([0x300000, 0x301000, 0x310000, 0x320000].map(executable)).toEqual([true, false, true, false]);
    expect([0x400000, 0x410000].map(executable)).toEqual([false, false]);
  });

  it('are what FreeBSD means to allow in the policy view', () => {
    // Not modified yet: AP[2] set, TEX[1] clear. Read-only by policy: both set.
    const words = [
      [0, 0x108402],
      [4, 0x10a402],
      [8, (BASE + 0x4000) | 1],
      [0x4000, 0x212],
      [0x4004, 0x292],
      [0x4040, 0x10211],
      [0x4080, 0x12211],
    ] as const;
    const SCTLR = 0x20c50079n;
    const addresses = [0, 0x100000, 0x200000, 0x201000, 0x210000, 0x220000];
    const hardware = walk(words, { SCTLR });
    const policy = walk(words, { SCTLR }, { view: 'policy' });
    expect(addresses.map((kva) => rights(hardware, kva) & WRITE)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(addresses.map((kva) => rights(policy, kva) & WRITE)).toEqual([WRITE, 0, WRITE, 0, WRITE, 0]);
  });
});

describe('v4', () => {
  const coarse = [0, (BASE + 0x4000) | 0x11] as const;

  it('gives each quarter of a page its own rights, and no answer beyond it', () => {
    const space = walk([coarse, [0x4000, 0xe42]], {}, { pteFormat: 'v4' }); // AP 0, 1, 2, 3 from bit 4 on
    const quarters = runsOf(space);
    expect(quarters.map(({ kva, length, pa }) => [kva, length, pa])).toEqual([
      [0, 0x400, 0],
      [0x400, 0x400, 0x400],
      [0x800, 0x400, 0x800],
      [0xc00, 0x400, 0xc00],
    ]);
    const expected = [READ | EXECUTE, READ | WRITE | EXECUTE, RIGHTS, RIGHTS];
    expect(quarters.map(({ flags }) => flags)).toEqual(expected);
    expect([0, 0x400, 0x800, 0xc00].map((kva) => rights(space, kva))).toEqual(expected);
    expect(ask(space, 0x7ff)).toMatchObject({ pa: 0x7ff, length: 1, pageSize: 0x1000 });
  });

  it.each([
    ['v4', UNMAPPED],
    ['xscale', MAPPED],
    ['v6-subpages', MAPPED],
  ])('type 3 in a coarse table of %s', (pteFormat, outcome) => {
    const space = walk([coarse, [0x4000, 0x12345013]], {}, { pteFormat });
    expect(ask(space, 0x678).outcome).toBe(outcome);
    if (outcome === MAPPED) expect(ask(space, 0x678)).toMatchObject({ pa: 0x12345678, pageSize: 0x1000 });
  });

  it('walks fine tables to pages of 1 KB, but not on ARMv6', () => {
    const words = [
      [0, (BASE + 0x4000) | 0x13],
      [0x4004, 0x12345833],
    ] as const;
    const space = walk(words, {}, { pteFormat: 'v4' });
    expect(ask(space, 0x456)).toMatchObject({
      outcome: MAPPED,
      pa: 0x12345856,
      length: 0x3aa,
      pageSize: 0x400,
    });
    expect(ask(space, 0x856)).toMatchObject({ outcome: UNMAPPED, length: 0x3aa });
    expect(ask(walk(words, {}, { pteFormat: 'v6-subpages' }), 0x456).outcome).toBe(UNMAPPED);
  });

  it('knows supersections on the third XScale only', () => {
    const words = Array.from({ length: 16 }, (_, i) => [i * 4, 0x34240c12] as const);
    expect(ask(walk(words, {}, { pteFormat: 'xscale' }), 0xabcdef).pa).toBe(0x342bcdef);
    expect(ask(walk(words, {}, { pteFormat: 'xscale3' }), 0xabcdef).pa).toBe(0x234abcdef);
    expect(runsOf(walk(words, {}, { pteFormat: 'xscale3' }))).toHaveLength(1);
  });
});

describe('damaged tables', () => {
  it('bound what tables that name themselves can show', () => {
    // Every first-level entry names the first-level table as its coarse table: 4096 times 256 entries, each a large page.
    const ram = new SimRam([{ start: BASE, end: BASE + 0x10000 }]);
    for (let slot = 0; slot < 4096; slot++) ram.writeU32(BASE + slot * 4, BASE | 0x11);
    const space = armWalker(memoryOf(ram), { registers: { TTBR0: BigInt(BASE) } });
    expect(ask(space, 0xfedcba98)).toMatchObject({ outcome: MAPPED, pageSize: 0x10000 });
    const runs = runsOf(space);
    expect(runs).toHaveLength(4096 * 16);
    expect(runs.every(({ length }) => length === 0x10000)).toBe(true);
  });

  it('bound LPAE tables that name themselves', () => {
    const ram = new SimRam([{ start: BASE, end: BASE + 0x10000 }]);
    for (let slot = 0; slot < 512; slot++) ram.writeU64(BASE + slot * 8, BigInt(BASE) | 3n);
    const space = armWalker(memoryOf(ram), { registers: { TTBR0: BigInt(BASE), TTBCR: 0x80000000n } });
    const [first] = runsOf(space, 0, 1);
    expect(first).toMatchObject({ outcome: MAPPED, pa: BASE, length: 0x1000 });
    expect(runsOf(space)).toHaveLength(2 ** 20);
  });

  it('say which table is missing', () => {
    const wild = [
      [0, 0xfffffc01],
      [4, 0x00000001],
    ] as const;
    const space = walk(wild, {});
    expect(ask(space, 0x1234)).toMatchObject({ outcome: TABLE_ABSENT, pa: 0xfffffc00 });
    expect(runsOf(space).map(({ outcome, length }) => [outcome, length])).toEqual([
      [TABLE_ABSENT, 0x100000],
      [TABLE_ABSENT, 0x100000],
    ]);
    const nowhere = walk([], { TTBR0: 0xc0000000n });
    expect(ask(nowhere, 0).outcome).toBe(TABLE_ABSENT);
    expect(runsOf(nowhere).every(({ outcome }) => outcome === TABLE_ABSENT)).toBe(true);
  });
});

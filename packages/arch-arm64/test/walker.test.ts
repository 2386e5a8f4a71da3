import {
  MAPPED,
  NOT_CANONICAL,
  TABLE_ABSENT,
  UNMAPPED,
  isKvmError,
  type AddressSpace,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { SimRam } from '../../fixtures/src/sim-ram.js';
import { arm64, arm64Walker } from '../src/index.js';
import { ask, memoryOf, runsOf } from './support.js';

const BASE = 0x40000000;
const TOP = 2n ** 64n;
/** T0SZ = T1SZ = 25 (39 bits), 4 KB granules, 40-bit physical addresses: what Linux and small systems use. */
const TCR_39 = 25n | (25n << 16n) | (2n << 30n) | (2n << 32n);
/** FreeBSD: 48 bits, 4 KB. */
const TCR_48 = 16n | (16n << 16n) | (2n << 30n) | (5n << 32n);

function walk(
  words: readonly (readonly [number, bigint])[],
  registers: Record<string, bigint>,
): AddressSpace {
  const ram = new SimRam([{ start: BASE, end: BASE + 0x40000 }]);
  for (const [offset, value] of words) ram.writeU64(BASE + offset, value);
  return arm64Walker(memoryOf(ram), { registers });
}

function failure(registers: Record<string, bigint>): unknown {
  try {
    walk([], registers);
  } catch (error) {
    return isKvmError(error) ? [error.code, error.field] : error;
  }
  return undefined;
}

describe('arm64Walker', () => {
  it('is the walker of the architecture', () => {
    expect(arm64).toMatchObject({ name: 'arm64', bits: 64, elfMachines: [183] });
    expect(arm64.walker).toBe(arm64Walker);
  });

  it('walks four levels of 48 bits, by hand', () => {
    const words = [
      [0x0000, BigInt(BASE + 0x1000) | 3n], // level 0, index 0
      [0x1000 + 0x1ff * 8, BigInt(BASE + 0x2000) | 3n], // level 1, index 511
      [0x2000 + 5 * 8, BigInt(BASE + 0x3000) | 3n], // level 2, index 5
      [0x3000 + 7 * 8, 0x0040_8765_4321_0707n | 3n], // level 3, index 7: PA 0x876543210000
      [0x2000 + 6 * 8, 0x8000_0020_0705n], // a block of 2 MB
      [0x1000 + 0x1fe * 8, 0x1_4000_0705n], // a block of 1 GB
    ] as const;
    const registers = { TTBR0: BigInt(BASE) | (0x12n << 48n) | 1n, TTBR1: 0n, TCR: TCR_48 };
    const space = walk(words, registers);
    expect(ask(space, 0x7f_c0a0_7123n)).toMatchObject({ outcome: MAPPED, pa: 0x876543210123, level: 1 });
    expect(ask(space, 0x7f_c0c1_2345n)).toMatchObject({ pa: 0x800000212345, pageSize: 0x20_0000, level: 2 });
    expect(ask(space, 0x7f_8000_0010n)).toMatchObject({ pa: 0x140000010, pageSize: 0x4000_0000, level: 3 });
    expect(ask(space, 0x8000_0000_0000n)).toMatchObject({ outcome: UNMAPPED });
    expect(ask(space, 2n ** 48n).outcome).toBe(NOT_CANONICAL);
    expect(ask(space, TOP - 2n ** 48n - 1n).outcome).toBe(NOT_CANONICAL);
  });

  it('takes registers by their names with _EL1 too', () => {
    const words = [[0x1ff * 8, 0x4000_0701n]] as const;
    const registers = { TTBR0_EL1: 0n, TTBR1_EL1: BigInt(BASE), TCR_EL1: TCR_39, SCTLR_EL1: 1n };
    expect(ask(walk(words, registers), TOP - 1n)).toMatchObject({ outcome: MAPPED, pa: 0x7fffffff });
  });

  it('maps KVA to PA while the MMU is off', () => {
    const space = walk([], { SCTLR: 0x30d0_0800n });
    expect(ask(space, 0xffff_1234_5678n)).toMatchObject({ outcome: MAPPED, pa: 0xffff_1234_5678 });
    expect(ask(space, 2n ** 48n).outcome).toBe(NOT_CANONICAL);
  });

  it('gives regions that are turned off no mappings, and keeps their addresses canonical', () => {
    const words = [[0, 0x4000_0701n]] as const;
    const space = walk(words, { TTBR0: BigInt(BASE), TCR: TCR_39 | (1n << 23n) });
    expect(ask(space, 0x1234n)).toMatchObject({ outcome: MAPPED, pa: 0x40001234 });
    expect(ask(space, TOP - 2n ** 39n)).toMatchObject({ outcome: UNMAPPED });
    expect(ask(space, TOP - 2n ** 39n - 1n).outcome).toBe(NOT_CANONICAL);
    expect(runsOf(space)).toHaveLength(1);
  });

  it('asks for the registers that it needs', () => {
    expect(failure({ TTBR0: 0n, TTBR1: 0n })).toEqual(['INVALID_ARGUMENT', 'TCR']);
    expect(failure({ TTBR1: 0n, TCR: TCR_39 })).toEqual(['INVALID_ARGUMENT', 'TTBR0']);
    expect(failure({ TTBR0: 0n, TCR: TCR_39 })).toEqual(['INVALID_ARGUMENT', 'TTBR1']);
    expect(failure({ TTBR1: 0n, TCR: TCR_39 | 0x80n })).toBeUndefined();
    expect(failure({ TTBR0: 0n, TTBR1: 0n, TCR: TCR_39 & ~(3n << 30n) })).toEqual([
      'INVALID_ARGUMENT',
      'TCR',
    ]);
  });

  it.each([
    ['T0SZ below 16', TCR_48 - 4n],
    ['T1SZ below 16', TCR_48 - (4n << 16n)],
    ['DS', TCR_48 | (1n << 59n)],
    ['52-bit physical addresses with 64 KB', (TCR_48 & ~(7n << 32n)) | (6n << 32n) | (1n << 14n)],
  ])('refuses %s', (_name, TCR) => {
    expect(failure({ TTBR0: 0n, TTBR1: 0n, TCR })).toEqual(['UNSUPPORTED', 'TCR']);
  });

  it('bounds what tables that name themselves can show', () => {
    const words = Array.from({ length: 16 }, (_, i) => [i * 8, BigInt(BASE) | 3n] as const);
    const space = walk(words, { TTBR0: BigInt(BASE), TTBR1: BigInt(BASE + 0x1000), TCR: TCR_48 });
    const runs = runsOf(space);
    expect(runs).toHaveLength(16 ** 4);
    expect(new Set(runs.map(({ pa }) => pa))).toEqual(new Set([BASE]));
  });

  it('says which table is missing', () => {
    const space = walk([[8, 0x7000_0003n]], { TTBR0: BigInt(BASE), TTBR1: 0x9000_0000n, TCR: TCR_39 });
    expect(ask(space, 0x4020_0000n)).toMatchObject({ outcome: TABLE_ABSENT, pa: 0x70000000 });
    expect(ask(space, TOP - 1n)).toMatchObject({ outcome: TABLE_ABSENT, pa: 0x90000000 });
  });
});

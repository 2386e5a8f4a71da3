import {
  EXECUTE,
  GLOBAL,
  MAPPED,
  MEMORY_TYPE_SHIFT,
  NOT_CANONICAL,
  READ,
  TABLE_ABSENT,
  UNMAPPED,
  USER,
  WRITE,
  type Translation,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Arm64TableWish, Arm64Translation } from '../../fixtures/src/arm64-mapping.js';
import { ARM64_LEVELS } from '../../fixtures/src/arm64-mapping.js';
import { randomArm64Machine, type RandomArm64Machine } from '../../fixtures/src/arm64-random.js';
import { arm64HalfOf } from '../../fixtures/src/arm64-tables.js';
import { arm64Walker } from '../src/index.js';
import { ask, memoryOf, RUNS, runsOf, type Run } from './support.js';

/** Walkers against a model that knows the list of mappings and the manual's tables of levels, and no page table. */

const TOP = 2n ** 64n;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function flagsOf({ writable, executable, user, global, memoryType }: Arm64Translation): number {
  const rights = READ | (writable ? WRITE : 0) | (executable ? EXECUTE : 0) | (user ? USER : 0);
  return rights | (global ? GLOBAL : 0) | (memoryType << MEMORY_TYPE_SHIFT);
}

/** The lost tables that were built: one inside another lost one was built too, but nobody gets there. */
function lostTables({ lost, machine }: RandomArm64Machine): Arm64TableWish[] {
  const built = lost.filter((wish) =>
    machine.builder.tables.some(({ level, kva }) => level === wish.level && machine.model.covers(wish, kva)),
  );
  return built.filter(
    (wish) => !built.some((one) => one.level < wish.level && machine.model.covers(one, wish.kva)),
  );
}

function expectedAt(random: RandomArm64Machine, lost: readonly Arm64TableWish[], kva: bigint): string {
  const { machine } = random;
  const half = arm64HalfOf(machine.description.halves, kva);
  if (!half) return `${hex(kva)} is not canonical`;
  if (lost.some((wish) => machine.model.covers(wish, kva))) return `table of ${hex(kva)} is absent`;
  const found = machine.model.translate(kva);
  return found ? said(kva, found.pa, flagsOf(found), found.pageBytes) : `${hex(kva)} is not mapped`;
}

function answered({ outcome, pa, flags, pageSize }: Translation, kva: bigint, ahead = 0): string {
  const at = kva + BigInt(ahead);
  if (outcome === TABLE_ABSENT) return `table of ${hex(at)} is absent`;
  if (outcome === UNMAPPED) return `${hex(at)} is not mapped`;
  if (outcome === NOT_CANONICAL) return `${hex(at)} is not canonical`;
  return outcome === MAPPED ? said(at, pa + ahead, flags, pageSize) : `outcome ${outcome}`;
}

function said(kva: bigint, pa: number, flags: number, pageSize: number): string {
  return `${hex(kva)} -> ${hex(pa)} flags ${flags} page ${hex(pageSize)}`;
}

type PlainRun = Pick<Run, 'kva' | 'length' | 'outcome'> & Partial<Run>;

function expectedRuns(random: RandomArm64Machine, lost: readonly Arm64TableWish[]): PlainRun[] {
  const { model, description } = random.machine;
  const runs: PlainRun[] = [];
  for (const mapping of model.mappings) {
    const length = model.pageBytes(mapping);
    for (let i = 0; i < mapping.pages; i++) {
      const kva = mapping.kva + BigInt(i * length);
      const found = model.translate(kva);
      if (!found || lost.some((wish) => model.covers(wish, kva))) continue;
      runs.push({ kva, length, outcome: MAPPED, pa: found.pa, flags: flagsOf(found), pageSize: length });
    }
  }
  for (const { kva, level } of lost) {
    const granule = arm64HalfOf(description.halves, kva)?.granule ?? 0x1000;
    const bits = BigInt((ARM64_LEVELS[granule][level]?.[0] ?? 0) + 1);
    runs.push({ kva: (kva >> bits) << bits, length: 2 ** Number(bits), outcome: TABLE_ABSENT });
  }
  return runs.sort((a, b) => (a.kva < b.kva ? -1 : 1));
}

/** Runs as they are, but missing tables that follow each other as one: big ones are looked for page by page. */
function plain(runs: readonly PlainRun[]): PlainRun[] {
  const result: PlainRun[] = [];
  for (const { kva, length, outcome, pa, flags, pageSize } of runs) {
    const last = result.at(-1);
    const missing = last?.outcome === TABLE_ABSENT && outcome === TABLE_ABSENT;
    if (missing && last.kva + BigInt(last.length) === kva) {
      result[result.length - 1] = { ...last, length: last.length + length };
    } else if (outcome === TABLE_ABSENT) result.push({ kva, length, outcome });
    else result.push({ kva, length, outcome, pa, flags, pageSize } as PlainRun);
  }
  return result;
}

describe.each([0x1000, 0x4000, 0x10000] as const)('granules of %i bytes', (granule) => {
  describe.each([true, false])('little-endian: %s', (littleEndian) => {
    const machineOf = (seed: number): RandomArm64Machine =>
      randomArm64Machine(seed, { granule, littleEndian });

    it('translates every edge as the model', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const random = machineOf(seed);
          const { ram, registers } = random.machine;
          const lost = lostTables(random);
          const space = arm64Walker(memoryOf(ram), { registers });
          for (const kva of random.probes) {
            const answer = ask(space, kva);
            const ahead = Math.min(answer.length, Number(TOP - kva), 2 ** 52) - 1;
            const found = [answered(answer, kva), answered(answer, kva, ahead)];
            const wanted = [expectedAt(random, lost, kva), expectedAt(random, lost, kva + BigInt(ahead))];
            if (ahead < 0 || found.join() !== wanted.join()) expect(found).toEqual(wanted);
          }
        }),
        { numRuns: RUNS },
      );
    });

    it('enumerates all mappings, whole and in order', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const random = machineOf(seed);
          const { ram, registers } = random.machine;
          const space = arm64Walker(memoryOf(ram), { registers });
          const runs = runsOf(space);
          expect(plain(runs)).toEqual(plain(expectedRuns(random, lostTables(random))));
          // Any window shows the same, cut to it.
          const from = Number((random.probes[seed & 15] ?? 0n) >> 12n);
          const window = runsOf(space, from, from + 3);
          for (const { kva, length, pa, outcome } of window) {
            const whole = runs.find(
              (run) => run.kva <= kva && run.kva + BigInt(run.length) >= kva + BigInt(length),
            );
            if (outcome === MAPPED) expect(pa).toBe((whole?.pa ?? 0) + Number(kva - (whole?.kva ?? 0n)));
            expect(whole?.outcome).toBe(outcome);
          }
          const inside = (kva: bigint): boolean =>
            kva >= BigInt(from) << 12n && kva < BigInt(from + 3) << 12n;
          expect(window.every(({ kva, length }) => inside(kva) && inside(kva + BigInt(length - 1)))).toBe(
            true,
          );
        }),
        { numRuns: RUNS },
      );
    });
  });
});

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
import { ARM_PAGE_BYTES, type ArmTableFormat, type ArmTranslation } from '../../fixtures/src/arm-mapping.js';
import { randomArmMachine, type RandomArmMachine } from '../../fixtures/src/arm-random.js';
import { ARM_PTE_FORMATS, armWalker, type ArmWalkOptions } from '../src/index.js';
import { ask, memoryOf, RUNS, runsOf, type Run } from './support.js';

/** Walkers against a model that knows the list of mappings and the manuals' access tables, and no page table. */

const FORMATS: ArmTableFormat[] = ['v4', 'xscale', 'xscale3', 'v6-subpages', 'v6', 'v6-afe', 'lpae'];
const FOUR_GB = 2 ** 32;

/** What the walker is told beside the registers: only processors before ARMv6 need it. */
function optionsFor(format: ArmTableFormat, { machine }: RandomArmMachine): ArmWalkOptions {
  const { registers } = machine;
  return format === 'xscale' || format === 'xscale3' ? { registers, pteFormat: format } : { registers };
}

function flagsOf({ writable, executable, user, global, memoryType }: ArmTranslation): number {
  const rights = READ | (writable ? WRITE : 0) | (executable ? EXECUTE : 0) | (user ? USER : 0);
  return rights | (global ? GLOBAL : 0) | (memoryType << MEMORY_TYPE_SHIFT);
}

function lostAt({ lost }: RandomArmMachine, kva: number): boolean {
  return lost.some((wish) => Math.floor(wish.kva / wish.bytes) === Math.floor(kva / wish.bytes));
}

/** What the walker must say of one address, without the length. */
function expectedAt(random: RandomArmMachine, kva: number): string {
  if (lostAt(random, kva)) return `table of ${hex(kva)} is absent`;
  const found = random.machine.model.translate(kva);
  return found ? said(kva, found.pa, flagsOf(found), found.pageBytes) : `${hex(kva)} is not mapped`;
}

/** What it says; `ahead` bytes behind the address asked for it must still be the truth. */
function answered({ outcome, pa, flags, pageSize }: Translation, kva: number, ahead = 0): string {
  if (outcome === TABLE_ABSENT) return `table of ${hex(kva + ahead)} is absent`;
  if (outcome === UNMAPPED) return `${hex(kva + ahead)} is not mapped`;
  if (outcome !== MAPPED) return `outcome ${outcome}`;
  return said(kva + ahead, pa + ahead, flags, pageSize);
}

function said(kva: number, pa: number, flags: number, pageSize: number): string {
  return `${hex(kva)} -> ${hex(pa)} flags ${flags} page ${hex(pageSize)}`;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Every mapping whole, quarters apart where their rights differ, lost tables as one run each. */
function expectedRuns(random: RandomArmMachine): Run[] {
  const { model } = random.machine;
  const runs: Omit<Run, 'level'>[] = [];
  for (const { kva, kind, pages, quarters } of model.mappings) {
    const bytes = ARM_PAGE_BYTES[kind];
    const apart = quarters !== undefined && new Set(quarters).size > 1;
    const length = apart ? bytes / 4 : bytes;
    for (let at = kva; at < kva + pages * bytes; at += length) {
      const found = model.translate(at);
      if (!found || lostAt(random, at)) continue;
      runs.push({ kva: at, length, outcome: MAPPED, pa: found.pa, flags: flagsOf(found), pageSize: bytes });
    }
  }
  for (const { kva, bytes, pa } of outermost(random)) {
    runs.push({ kva, length: bytes, outcome: TABLE_ABSENT, pa: pa ?? 0, flags: 0, pageSize: 0 });
  }
  return (runs as Run[]).sort((a, b) => a.kva - b.kva);
}

/** Lost tables that a walk comes to: none inside another, none that no mapping made the builder make. */
function outermost({ lost, machine }: RandomArmMachine): RandomArmMachine['lost'] {
  const built = lost.filter((wish) =>
    machine.builder.tables.some((t) => t.kva === wish.kva && t.bytes === wish.bytes),
  );
  return built.filter(
    (wish) => !built.some((one) => one.bytes > wish.bytes && sameSpan(one.bytes, one.kva, wish.kva)),
  );
}

function sameSpan(bytes: number, a: number, b: number): boolean {
  return Math.floor(a / bytes) === Math.floor(b / bytes);
}

function cutTo(runs: readonly Run[], from: number, to: number): Omit<Run, 'level'>[] {
  return runs
    .filter(({ kva, length }) => from < to && kva < to && kva + length > from)
    .map((run) => {
      const start = Math.max(run.kva, from);
      const length = Math.min(run.kva + run.length, to) - start;
      return { ...run, kva: start, length, pa: run.outcome === MAPPED ? run.pa + start - run.kva : run.pa };
    });
}

/** Runs without what is not compared: the level, and which table page is missing first. */
function plain(runs: readonly Omit<Run, 'level'>[]): object[] {
  return runs.map(({ kva, length, outcome, pa, flags, pageSize }) =>
    outcome === MAPPED ? { kva, length, outcome, pa, flags, pageSize } : { kva, length, outcome },
  );
}

describe.each(FORMATS)('%s', (format) => {
  describe.each([true, false])('little-endian: %s', (littleEndian) => {
    const machineOf = (seed: number): RandomArmMachine => randomArmMachine(seed, { format, littleEndian });

    it('translates every edge as the model', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const random = machineOf(seed);
          const space = armWalker(memoryOf(random.machine.ram), optionsFor(format, random));
          for (const kva of random.probes) {
            const answer = ask(space, kva);
            const ahead = Math.min(answer.length, FOUR_GB - kva) - 1;
            const said = [answered(answer, kva), answered(answer, kva, ahead)];
            const expected = [expectedAt(random, kva), expectedAt(random, kva + ahead)];
            if (ahead < 0 || said.join() !== expected.join()) expect(said).toEqual(expected);
          }
        }),
        { numRuns: RUNS },
      );
    });

    it('enumerates all mappings, whole and in order, and cuts them to windows', () => {
      fc.assert(
        fc.property(fc.integer(), fc.nat(2 ** 20), fc.nat(2 ** 20), (seed, a, b) => {
          const random = machineOf(seed);
          const space = armWalker(memoryOf(random.machine.ram), optionsFor(format, random));
          const all = expectedRuns(random);
          expect(plain(runsOf(space))).toEqual(plain(all));
          const near = (page: number): number => {
            const kva = random.probes[page % Math.max(1, random.probes.length)] ?? 0;
            return page % 3 === 0 ? page : Math.floor(kva / 4096);
          };
          const [from, to] = [near(a), near(b)].sort((x, y) => x - y) as [number, number];
          expect(plain(runsOf(space, from, to))).toEqual(plain(cutTo(all, from * 4096, to * 4096)));
        }),
        { numRuns: RUNS },
      );
    });
  });
});

describe('the whole address space', () => {
  it.each(ARM_PTE_FORMATS)('ends at 4 GB in %s', (pteFormat) => {
    const { machine } = randomArmMachine(1, { format: 'v6', littleEndian: true });
    const registers = { TTBR0: 0x10100000n, TTBR1: 0x10104000n, TTBCR: 0n };
    const space = armWalker(memoryOf(machine.ram), { registers, pteFormat });
    expect(ask(space, FOUR_GB).outcome).toBe(NOT_CANONICAL);
    expect(ask(space, 2 ** 40).outcome).toBe(NOT_CANONICAL);
  });
});

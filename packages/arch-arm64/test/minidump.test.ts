import {
  BlockCache,
  EXECUTE,
  MAPPED,
  MemorySource,
  NOT_CANONICAL,
  READ,
  UNMAPPED,
  WRITE,
  entryOf,
  isKvmError,
  openMinidump,
  type Core,
  type HeaderOverrides,
  type MinidumpDialect,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Arm64Machine } from '../../fixtures/src/arm64-machine.js';
import type { Arm64Granule } from '../../fixtures/src/arm64-mapping.js';
import {
  arm64FlatEntry,
  arm64Minidump as dumpOf,
  type Arm64Minidump,
  type Arm64MinidumpOptions,
} from '../../fixtures/src/arm64-minidump.js';
import { randomArm64Machine } from '../../fixtures/src/arm64-random.js';
import { Prng } from '../../fixtures/src/prng.js';
import { arm64, arm64Minidump, arm64MinidumpDialect } from '../src/index.js';
import { ask, RUNS, runsOf } from './support.js';

const KERNBASE = 0xffff_0000_0000_0000n;
const DMAP = { base: 0xffff_a000_0000_0000n, end: 0xffff_a000_8000_0000n, phys: 0x40000000 };

function open(
  bytes: Uint8Array,
  overrides: HeaderOverrides = {},
  dialect: MinidumpDialect = arm64Minidump,
): Core {
  return openMinidump(new BlockCache(new MemorySource(bytes)), dialect, overrides);
}

function machineFor(seed: number, granule: Arm64Granule): Arm64Machine {
  return randomArm64Machine(seed, { granule, littleEndian: true, dumpable: true }).machine;
}

/** A dump of the first few blocks of the kernel's half. */
function dumpFor(machine: Arm64Machine, options: Partial<Arm64MinidumpOptions> = {}): Arm64Minidump {
  const block = { 0x1000: 0x20_0000n, 0x4000: 0x200_0000n, 0x10000: 0x2000_0000n }[
    machine.description.halves.high.granule
  ];
  return dumpOf(machine, { kernbase: KERNBASE, kvaEnd: KERNBASE + 4n * block, dmap: DMAP, ...options });
}

/** Everything about one page, as the reader has it and as it must be. */
function checkPage(core: Core, machine: Arm64Machine, dump: Arm64Minidump, kva: bigint): void {
  const answer = ask(core.addressSpace!, kva);
  const truth = machine.model.translate(kva);
  if (!truth) {
    if (answer.outcome !== UNMAPPED) expect(answer, kva.toString(16)).toMatchObject({ outcome: UNMAPPED });
    return;
  }
  // The rights of blocks are lost: the dumper writes its default attributes.
  const block = truth.mapping.level !== 3;
  const writable = block || truth.mapping.ap < 2;
  const executable = block || !truth.mapping.pxn;
  const right = {
    outcome: MAPPED,
    pa: truth.pa,
    flags: READ | (writable ? WRITE : 0) | (executable ? EXECUTE : 0),
    pageSize: machine.description.halves.high.granule,
    entry: arm64FlatEntry(machine, truth),
    fileOffset: dump.fileOffset(truth.pa) ?? -1,
  };
  const found = {
    ...{ outcome: answer.outcome, pa: answer.pa, flags: answer.flags & (READ | WRITE | EXECUTE) },
    ...{ pageSize: answer.pageSize, entry: entryOf(answer), fileOffset: core.memory.locate(answer.pa) },
  };
  if (Object.entries(right).some(([key, value]) => found[key as keyof typeof found] !== value)) {
    expect(found, kva.toString(16)).toEqual(right);
  }
}

describe.each([
  [0x1000, 1],
  [0x1000, 2],
  [0x1000, 3],
  [0x4000, 3],
  [0x10000, 3],
] as const)('a dump with pages of %i bytes, version %i', (granule, version) => {
  it('answers as the machine would', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = machineFor(seed, granule);
        const dump = dumpFor(machine, { version });
        const core = open(dump.file.bytes());
        const { base, end, phys } = DMAP;
        expect(core).toMatchObject({ architecture: 'arm64', version, pageSize: granule, kernbase: KERNBASE });
        expect(core.directMap).toEqual({ base, end, phys });
        expect(core.memory.pages).toEqual({ dumped: dump.pages.count, missing: 0, partial: 0 });
        for (const { kva, pages } of machine.model.mappings) {
          const step = BigInt(granule);
          const last = kva + BigInt(Math.min(pages, 64)) * step;
          for (let at = kva - step; at <= last; at += step) {
            if (at >= KERNBASE) checkPage(core, machine, dump, at + BigInt(seed & 0xfff));
          }
        }
        for (const pa of dump.pages.toArray())
          expect(core.memory.locate(pa + 16)).toBe(dump.fileOffset(pa + 16));
        const bytes = runsOf(core.addressSpace!).reduce((sum, { length }) => sum + length, 0);
        const mapped = machine.model.mappings.reduce(
          (sum, m) => sum + m.pages * machine.model.pageBytes(m),
          0,
        );
        expect(bytes).toBe(mapped);
      }),
      { numRuns: RUNS / 4 },
    );
  });
});

describe('headers', () => {
  const machine = machineFor(2, 0x1000);

  it('are told by their magic', () => {
    const head = dumpFor(machine).file.bytes().subarray(0, 4096);
    expect(arm64Minidump.probe(head)).toBe(true);
    expect(arm64Minidump.probe(new TextEncoder().encode('minidump FreeBSD/arm\0\0\0\0'))).toBe(false);
    expect(arm64.dialects).toEqual([arm64Minidump]);
  });

  it.each([
    ['version', { version: 4 }, 'UNSUPPORTED'],
    ['flags', { flags: 3 }, 'UNSUPPORTED'],
    ['kernbase', { kernbase: KERNBASE + 0x800n }, 'CORRUPT'],
  ] as const)('with a bad %s are refused', (field, header, code) => {
    const bytes = dumpFor(machine, { header }).file.bytes();
    expect(() => open(bytes)).toThrow(expect.objectContaining({ code, field }) as Error);
    expect(open(bytes, { [field]: dumpFor(machine).header[field] }).pageSize).toBe(0x1000);
  });

  it('have no flags before version 3, and no dump_avail before version 2', () => {
    const header = { flags: 1 };
    expect(open(dumpFor(machine, { version: 2, header }).file.bytes()).pageSize).toBe(0x1000);
    const first = open(dumpFor(machine, { version: 1, header: { dumpavailsize: 0x1000 } }).file.bytes());
    expect(first.sections.map(({ name }) => name)).not.toContain('dumpAvail');
  });

  it.each([
    ['reversed', { dmapbase: DMAP.end, dmapend: DMAP.base }, 1],
    ['above all physical addresses', { dmapphys: 2n ** 60n }, 1],
    ['empty', { dmapend: DMAP.base }, 0],
  ] as const)('lose a direct map that is %s', (_name, header, warnings) => {
    const core = open(dumpFor(machine, { header }).file.bytes());
    expect(core.directMap).toBeUndefined();
    expect(core.warnings).toHaveLength(warnings);
  });

  it('cover addresses up to 2^64, and none of the hole between the halves', () => {
    const bytes = dumpFor(machine).file.bytes();
    const { addressSpace } = open(bytes, { kernbase: 2n ** 64n - 0x3000n });
    expect(runsOf(addressSpace!).every(({ kva, length }) => kva + BigInt(length) <= 2n ** 64n)).toBe(true);
    expect(ask(addressSpace!, 2n ** 48n).outcome).toBe(NOT_CANONICAL);
    expect(ask(addressSpace!, 2n ** 48n - 1n).outcome).toBe(UNMAPPED);
  });
});

describe('views', () => {
  it('differ for pages that EL0 may not execute', () => {
    const machine = machineFor(2, 0x1000);
    const dump = dumpFor(machine);
    const bytes = dump.file.bytes();
    const view = new DataView(bytes.buffer);
    const { offset } = dump.file.section('table');
    [0x703n, 0x703n | (1n << 54n), 0x703n | (1n << 53n)].forEach((entry, i) => {
      view.setBigUint64(offset + i * 8, entry, true);
    });
    const executable = (dialect: MinidumpDialect): boolean[] =>
      [0n, 0x1000n, 0x2000n].map(
        (at) => (ask(open(bytes, {}, dialect).addressSpace!, KERNBASE + at).flags & EXECUTE) !== 0,
      );
    expect(executable(arm64Minidump)).toEqual([true, true, false]);
    expect(executable(arm64MinidumpDialect({ view: 'libkvm' }))).toEqual([true, false, false]);
  });
});

describe('damaged dumps', () => {
  it('open or are refused, and never throw anything else', () => {
    const bytes = dumpFor(machineFor(4, 0x4000)).file.bytes();
    fc.assert(
      fc.property(fc.integer(), fc.nat(bytes.length), (seed, length) => {
        const prng = new Prng(seed);
        const damaged = prng.chance(30) ? bytes.slice(0, length) : bytes.slice();
        for (let left = prng.between(1, 6); left > 0 && damaged.length > 0; left--) {
          damaged[Math.min(damaged.length - 1, prng.below(prng.pick([80, 0x4000, 0x20000])))] =
            prng.below(256);
        }
        try {
          const core = open(damaged);
          for (let i = 0; i < 64; i++) ask(core.addressSpace!, KERNBASE + BigInt(prng.u32()));
          for (const { outcome, pa } of runsOf(core.addressSpace!))
            if (outcome === MAPPED) core.memory.locate(pa);
        } catch (error) {
          if (!isKvmError(error)) throw error;
        }
      }),
      { numRuns: RUNS * 2 },
    );
  });
});

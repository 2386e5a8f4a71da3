import {
  BlockCache,
  EXECUTE,
  MAPPED,
  MemorySource,
  NOT_CANONICAL,
  READ,
  UNMAPPED,
  UNSUPPORTED_ENTRY,
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
import type { ArmMachine } from '../../fixtures/src/arm-machine.js';
import type { ArmTableFormat } from '../../fixtures/src/arm-mapping.js';
import {
  armHeaderBytes,
  armMinidump as dumpOf,
  type ArmMinidumpOptions,
} from '../../fixtures/src/arm-minidump.js';
import type { ArmMinidump } from '../../fixtures/src/arm-minidump.js';
import { randomArmMachine } from '../../fixtures/src/arm-random.js';
import { Prng } from '../../fixtures/src/prng.js';
import { armMinidump, armMinidumpDialect } from '../src/index.js';
import { ask, RUNS, runsOf } from './support.js';

const KERNBASE = 0xc0000000;
const PTE_FORMATS: Partial<Record<ArmTableFormat, string>> = {
  v4: 'v4',
  xscale: 'v4',
  'v6-afe': 'v6',
  lpae: 'lpae',
};
const FORMATS = Object.keys(PTE_FORMATS) as ArmTableFormat[];

function open(
  bytes: Uint8Array,
  overrides: HeaderOverrides = {},
  dialect: MinidumpDialect = armMinidump,
): Core {
  return openMinidump(new BlockCache(new MemorySource(bytes)), dialect, overrides);
}

function machineFor(seed: number, format: ArmTableFormat, littleEndian: boolean): ArmMachine {
  return randomArmMachine(seed, { format, littleEndian, dumpable: true }).machine;
}

/** Everything about one page, as the reader has it and as it must be. */
function checkPage(core: Core, { expected }: ArmMinidump, kva: number): void {
  const answer = ask(core.addressSpace!, kva);
  const wanted = expected.resolve(kva);
  const at = `0x${kva.toString(16)}`;
  if (!('pa' in wanted)) {
    if (answer.outcome !== UNMAPPED) expect(answer, at).toMatchObject({ outcome: UNMAPPED });
    return;
  }
  const flags = READ | (wanted.writable ? WRITE : 0) | (wanted.executable ? EXECUTE : 0);
  const found = {
    outcome: answer.outcome,
    pa: answer.pa,
    flags: answer.flags & (READ | WRITE | EXECUTE),
    pageSize: answer.pageSize,
    entry: entryOf(answer),
    fileOffset: core.memory.locate(answer.pa),
  };
  const { pa, pageSize, entry } = wanted;
  const fileOffset = wanted.state === 'present' ? wanted.fileOffset : -1;
  const right = { outcome: MAPPED, pa, flags, pageSize, entry, fileOffset };
  if (Object.entries(right).some(([key, value]) => found[key as keyof typeof found] !== value)) {
    expect(found, at).toEqual(right);
  }
}

describe.each(FORMATS)('a dump of %s tables', (format) => {
  it.each([
    ['little', 1],
    ['little', 2],
    ['big', 1],
    ['big', 2],
  ] as const)('%s-endian, version %i', (byteOrder, version) => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const prng = new Prng(seed);
        const machine = machineFor(seed, format, byteOrder === 'little');
        const kvaEnd = KERNBASE + prng.between(1, 0x900) * 0x1000;
        const options: ArmMinidumpOptions = {
          ...{ kernbase: KERNBASE, kvaEnd, version, xscale: format === 'xscale' },
          unrounded: version === 1 && prng.chance(50),
          ...(version === 2 && prng.chance(30) ? { dumpAvailWord: 32 as const } : {}),
        };
        const dump = dumpOf(machine, options);
        const bytes = dump.file.bytes();
        const core = open(bytes);
        const head = {
          format: 'freebsd',
          architecture: 'arm',
          version,
          byteOrder,
          bits: 32,
          kernbase: BigInt(KERNBASE),
        };
        expect(core).toMatchObject({ ...head, pteFormat: PTE_FORMATS[format] });
        expect(core.memory.pages).toEqual({ dumped: dump.expected.pages.count, missing: 0, partial: 0 });
        for (let page = KERNBASE; page < kvaEnd; page += 0x1000)
          checkPage(core, dump, page + prng.below(0x1000));
        for (const kva of [KERNBASE - 1, kvaEnd, kvaEnd + 0xfff, 0, 2 ** 32 - 1]) checkPage(core, dump, kva);
        for (const pa of dump.expected.pages.toArray()) {
          expect(core.memory.locate(pa + 8)).toBe(dump.expected.fileOffset(pa + 8));
        }
      }),
      { numRuns: RUNS / 4 },
    );
  });

  it('lists its pages', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const dump = dumpOf(machineFor(seed, format, true), {
          kernbase: KERNBASE,
          kvaEnd: KERNBASE + 0x900000,
        });
        const runs = runsOf(open(dump.file.bytes()).addressSpace!);
        let [bytes, end] = [0, 0];
        for (const { kva, length } of runs) {
          expect(kva).toBeGreaterThanOrEqual(end);
          end = kva + length;
          bytes += length;
        }
        let mapped = 0;
        for (let kva = KERNBASE; kva < KERNBASE + 0x900000; kva += 0x1000) {
          if ('pa' in dump.expected.resolve(kva)) mapped += 0x1000;
        }
        expect(bytes).toBe(mapped);
      }),
      { numRuns: RUNS / 4 },
    );
  });
});

describe('headers', () => {
  const dumped = { kernbase: KERNBASE, kvaEnd: KERNBASE + 0x400000 };
  const machine = machineFor(3, 'v6-afe', true);

  it('are told by their magic, and their byte order by the version', () => {
    const header = dumpOf(machine, dumped).header;
    for (const littleEndian of [true, false]) {
      const bytes = new Uint8Array(0x10000);
      bytes.set(armHeaderBytes({ ...header, msgbufsize: 0, dumpavailsize: 0 }, littleEndian));
      expect(armMinidump.probe(bytes)).toBe(true);
      expect(armMinidump.layout(bytes, bytes.length).byteOrder).toBe(littleEndian ? 'little' : 'big');
    }
    expect(armMinidump.probe(new TextEncoder().encode('minidump FreeBSD/arm64\0\0'))).toBe(false);
    expect(armMinidump.probe(new Uint8Array(0))).toBe(false);
  });

  it.each([0, 2])('of mmuformat %i are V6', (mmuformat) => {
    expect(open(dumpOf(machine, { ...dumped, header: { mmuformat } }).file.bytes()).pteFormat).toBe('v6');
  });

  it.each([
    ['version', { version: 3 }, 'UNSUPPORTED'],
    ['version', { version: 0 }, 'UNSUPPORTED'],
    ['mmuformat', { mmuformat: 4 }, 'UNSUPPORTED'],
    ['kernbase', { kernbase: 0xc0000400 }, 'CORRUPT'],
  ] as const)('with a bad %s %o are refused as %s', (field, header, code) => {
    const bytes = dumpOf(machine, { ...dumped, header }).file.bytes();
    expect(() => open(bytes)).toThrow(expect.objectContaining({ code, field }) as Error);
    const good = dumpOf(machine, dumped).header[field];
    expect(open(bytes, { [field]: good }).version).toBe(2);
  });

  it('take overrides of numbers that they have', () => {
    const core = open(dumpOf(machine, dumped).file.bytes(), { kernbase: 0xc0100000n });
    expect(core.kernbase).toBe(0xc0100000n);
    const bytes = dumpOf(machine, dumped).file.bytes();
    expect(() => open(bytes, { dmapbase: 1 })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error,
    );
  });

  it('may cover addresses up to 4 GB, and none behind', () => {
    const bytes = dumpOf(machine, dumped).file.bytes();
    const wrapping = open(bytes, { kernbase: 0xffff0000 }).addressSpace!;
    expect(ask(wrapping, 2 ** 32 - 1).outcome).not.toBe(NOT_CANONICAL);
    expect(ask(wrapping, 2 ** 32).outcome).toBe(NOT_CANONICAL);
    expect(runsOf(wrapping, 0, 2 ** 52).every(({ kva, length }) => kva + length <= 2 ** 32)).toBe(true);
  });
});

describe('old kernels', () => {
  const machine = machineFor(11, 'v4', true);
  const unrounded = { kernbase: KERNBASE, kvaEnd: KERNBASE + 0x301000, version: 1, unrounded: true } as const;

  it('that did not pad their entries are told by the size of the file', () => {
    const bytes = dumpOf(machine, unrounded).file.bytes();
    const padded = dumpOf(machine, {
      ...unrounded,
      unrounded: false,
      header: { ptesize: 0x301 * 4 },
    }).file.bytes();
    const pagesOffset = (core: Core): number => core.sections.at(-1)!.offset;
    expect(pagesOffset(open(bytes)) % 4096).toBe(0xc04);
    expect(pagesOffset(open(padded)) % 4096).toBe(0);
    // Cut files, and files with a tail, are taken for unpadded: no kernel padded.
    expect(pagesOffset(open(bytes.slice(0, -4096))) % 4096).toBe(0xc04);
    expect(pagesOffset(open(bytes.slice(0, -0xc04))) % 4096).toBe(0xc04);
  });

  it('with dump_avail in 32-bit words are told by the size of the bitmap', () => {
    const narrow = dumpOf(machine, { kernbase: KERNBASE, kvaEnd: KERNBASE + 0x400000, dumpAvailWord: 32 });
    const core = open(narrow.file.bytes());
    expect(core.memory.ranges.ranges).toEqual(machine.ram.ranges);
    expect(core.warnings).toEqual([expect.stringContaining('32-bit words')]);
    expect(core).not.toHaveProperty('tableLength');
  });
});

describe('views', () => {
  /** A dump whose first entries are these. */
  function withEntries(
    format: ArmTableFormat,
    entries: number[],
    view?: 'hardware' | 'policy' | 'libkvm',
  ): Core {
    const dump = dumpOf(machineFor(5, format, true), { kernbase: KERNBASE, kvaEnd: KERNBASE + 0x400000 });
    const bytes = dump.file.bytes();
    const view32 = new DataView(bytes.buffer);
    entries.forEach((entry, i) => view32.setUint32(dump.expected.sections.table.offset + i * 4, entry, true));
    return open(bytes, {}, view ? armMinidumpDialect({ view }) : armMinidump);
  }

  const letters = (core: Core, pages: number): string[] =>
    Array.from({ length: pages }, (_, i) => {
      const { outcome, flags } = ask(core.addressSpace!, KERNBASE + i * 0x1000);
      if (outcome === UNSUPPORTED_ENTRY) return 'refused';
      return (flags & WRITE ? 'w' : '-') + (flags & EXECUTE ? 'x' : '-');
    });

  it('of V6: not modified yet, read-only, large, large and read-only, large and never executed', () => {
    const entries = [0x10000212, 0x10001293, 0x20000011, 0x20002211, 0x2000a211];
    expect(letters(withEntries('v6-afe', entries), 5)).toEqual(['-x', '--', 'wx', '-x', '--']);
    expect(letters(withEntries('v6-afe', entries, 'policy'), 5)).toEqual(['wx', '--', 'wx', '-x', '--']);
    expect(letters(withEntries('v6-afe', entries, 'libkvm'), 5)).toEqual(['wx', '--', 'w-', 'w-', 'w-']);
  });

  it('of V4: AP 00, 01, 10, 11 and an extended small page', () => {
    const entries = [0x10000002, 0x10001552, 0x10002aa2, 0x10003ff2, 0x10004013];
    expect(letters(withEntries('v4', entries), 5)).toEqual(['-x', 'wx', 'wx', 'wx', 'wx']);
    expect(letters(withEntries('v4', entries, 'policy'), 5)).toEqual(['-x', 'wx', 'wx', 'wx', 'wx']);
    expect(letters(withEntries('v4', entries, 'libkvm'), 5)).toEqual(['--', 'w-', '--', 'w-', 'refused']);
  });
});

describe('damaged dumps', () => {
  it('open or are refused, and never throw anything else', () => {
    const clean = dumpOf(machineFor(9, 'v6-afe', true), { kernbase: KERNBASE, kvaEnd: KERNBASE + 0x400000 });
    const bytes = clean.file.bytes();
    fc.assert(
      fc.property(fc.integer(), fc.nat(bytes.length), (seed, length) => {
        const prng = new Prng(seed);
        const damaged = prng.chance(30) ? bytes.slice(0, length) : bytes.slice();
        for (let left = prng.between(1, 6); left > 0 && damaged.length > 0; left--) {
          const area = prng.pick([56, 0x1000, 0x8000, damaged.length]);
          damaged[Math.min(damaged.length - 1, prng.below(area))] = prng.below(256);
        }
        try {
          const core = open(damaged);
          for (let i = 0; i < 64; i++) ask(core.addressSpace!, prng.u32());
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

import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  openMinidump,
  PageRanges,
  planMinidump,
  Translation,
  type ByteOrder,
  type Core,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
  type MinidumpDialect,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { armMinidump, armMinidumpDialect, armMinidumpHeader } from '../src/index.js';

/** The edges of what FreeBSD/arm minidumps hold, by literal address spaces. */

const RAM = [{ start: 0, end: 0x40_0000 }];
const page = (kva: number, pa: number, rest: Partial<LiteralMapping> = {}): LiteralMapping => ({
  ...{ kva, pa, length: 0x1000, ...rest },
});

function sourceOf(
  mappings: readonly LiteralMapping[],
  facts: Partial<MachineFacts> = {},
  memory = literalMemory([], RAM),
): DumpSource {
  const machine: MachineFacts = {
    ...{
      architecture: 'arm',
      elfMachine: 40,
      bits: 32,
      byteOrder: 'little',
      pageSize: 4096,
      pteFormat: 'v6',
    },
    ...facts,
  };
  return { machine, memory, addressSpace: literalAddressSpace(mappings, 32) };
}

function write(
  source: DumpSource,
  options: MinidumpOptions = {},
  dialect: MinidumpDialect = armMinidump,
): Uint8Array<ArrayBuffer> {
  return dumpToBytes(planMinidump(source, dialect, { tolerateDamage: true, ...options }));
}

const open = (bytes: Uint8Array): Core =>
  openMinidump(new BlockCache(new MemorySource(bytes)), armMinidump, {});

function ask(core: Core, kva: number): Translation {
  const out = new Translation();
  core.addressSpace!.translate(Math.floor(kva / 4096), kva % 4096, out);
  return out;
}

const fieldsOf = (bytes: Uint8Array, order: ByteOrder = 'little'): Record<string, unknown> =>
  armMinidumpHeader.read(bytes, 0, order);

describe('the edges of the address space', () => {
  const edges = [page(0, 0), page(0xffff_f000, 0x3f_f000), page(0x7fff_f000, 0x1000)];

  it.each(['v4', 'xscale', 'v6-subpages', 'v6', 'lpae'])('are held in %s entries', (pteFormat) => {
    for (const byteOrder of ['little', 'big'] as const) {
      for (const version of [1, 2]) {
        const core = open(write(sourceOf(edges, { pteFormat, byteOrder }), { version }));
        expect(core).toMatchObject({ byteOrder, version, kernbase: 0n });
        expect(ask(core, 0x123)).toMatchObject({ outcome: 0, pa: 0x123 });
        expect(ask(core, 0xffff_ffff)).toMatchObject({ outcome: 0, pa: 0x3f_ffff });
        expect(ask(core, 0x7fff_f000)).toMatchObject({ outcome: 0, pa: 0x1000 });
        expect(ask(core, 0x1000).outcome).toBe(1);
        expect(core.memory.pages.dumped).toBe(3);
        expect(core.sections.find(({ name }) => name === 'table')!.length).toBe(
          2 ** 20 * (pteFormat === 'lpae' ? 8 : 4),
        );
      }
    }
  });

  it('of nothing but added pages: a table without entries', () => {
    for (const pteFormat of ['v4', 'v6', 'lpae']) {
      const bytes = write(sourceOf([], { pteFormat }), { addPages: [0x5000] });
      const core = open(bytes);
      expect(core.memory.pages.dumped).toBe(1);
      expect(ask(core, 0xc000_0000).outcome).toBe(1);
      expect(fieldsOf(bytes)).toMatchObject({ ptesize: 0, kernbase: 0 });
    }
    expectCode('CORRUPT', () => planMinidump(sourceOf([]), armMinidump));
  });
});

describe('the header', () => {
  const one = [page(0xc000_0000, 0x1000)];

  it.each([
    ['v4', 1, 5],
    ['xscale', 1, 5],
    ['xscale3', 1, 5],
    ['v6-subpages', 1, 6],
    ['v6', 2, 7],
    ['lpae', 3, 7],
    ['', 2, 7],
  ])('of %s entries has mmuformat %i and arch %i', (pteFormat, mmuformat, arch) => {
    for (const byteOrder of ['little', 'big'] as const) {
      const bytes = write(sourceOf(one, { pteFormat, byteOrder }));
      expect(fieldsOf(bytes, byteOrder)).toMatchObject({ mmuformat, arch, dumpavailsize: 4096 });
      const old = write(sourceOf(one, { pteFormat, byteOrder }), { version: 1 });
      expect(fieldsOf(old, byteOrder)).toMatchObject({ mmuformat, arch, dumpavailsize: 0 });
    }
  });

  it('has the arch that was asked for', () => {
    expect(fieldsOf(write(sourceOf(one), {}, armMinidumpDialect({ arch: 8 })))).toMatchObject({ arch: 8 });
  });

  it('tells ARMv6 with subpages, also from one dump to the next', () => {
    const first = write(sourceOf(one, { pteFormat: 'v6-subpages' }));
    expect(open(first).pteFormat).toBe('v6-subpages');
    expect(Buffer.compare(write(dumpSourceOf(open(first)), { pages: 'all' }), first)).toBe(0);
  });

  it('keeps a kernbase that is no multiple of 4 MB', () => {
    const kernbase = 0xc012_3000n;
    const bytes = write(sourceOf([page(0xc020_0000, 0x1000)], { kernbase }));
    expect(fieldsOf(bytes)).toMatchObject({ kernbase: Number(kernbase), ptesize: 4096 });
    expect(ask(open(bytes), 0xc020_0abc)).toMatchObject({ outcome: 0, pa: 0x1abc });
    // Nothing lies below it unless something is mapped there.
    const below = write(sourceOf([page(0xc010_0000, 0x1000), page(0xc020_0000, 0x2000)], { kernbase }));
    expect(fieldsOf(below)).toMatchObject({ kernbase: 0xc000_0000, ptesize: 4096 });
  });
});

describe('long descriptors and libkvm', () => {
  /** Which versions lib/libkvm/kvm_minidump_arm.c opens, by release; it has the byte order from the kernel's ELF file. */
  const libkvmOpens = (bytes: Uint8Array, order: ByteOrder, known: readonly number[]): boolean => {
    const text = Buffer.from(bytes.subarray(0, 24)).toString('latin1');
    const version = new DataView(bytes.buffer).getUint32(24, order === 'little');
    return text === 'minidump FreeBSD/arm\0\0\0\0' && known.includes(version);
  };
  const UP_TO_12 = [1];
  const LATER = [1, 2];

  it.each(['little', 'big'] as const)('are refused by it, %s-endian, and nothing else is', (byteOrder) => {
    for (const pteFormat of ['v4', 'xscale', 'v6-subpages', 'v6', 'lpae']) {
      for (const version of [1, 2]) {
        const bytes = write(sourceOf([page(0xc000_0000, 0x1000)], { pteFormat, byteOrder }), { version });
        const readable = pteFormat !== 'lpae';
        expect(libkvmOpens(bytes, byteOrder, LATER)).toBe(readable);
        expect(libkvmOpens(bytes, byteOrder, UP_TO_12)).toBe(readable && version === 1);
        // In the other byte order it opens nothing.
        expect(libkvmOpens(bytes, byteOrder === 'little' ? 'big' : 'little', LATER)).toBe(false);
      }
    }
  });

  it('are read with and without the version that tells them', () => {
    const bytes = write(sourceOf([page(0xc000_0000, 0xff_0000_1000)], { pteFormat: 'lpae' }));
    const view = new DataView(bytes.buffer);
    expect(view.getUint32(24, true)).toBe(0x102);
    for (const version of [2, 0x102]) {
      view.setUint32(24, version, true);
      expect(open(bytes)).toMatchObject({ version: 2, pteFormat: 'lpae' });
      expect(ask(open(bytes), 0xc000_0123)).toMatchObject({ outcome: 0, pa: 0xff_0000_1123 });
    }
    for (const version of [0, 3, 0x100, 0x103, 0x202]) {
      view.setUint32(24, version, true);
      expect(expectCode('UNSUPPORTED', () => open(bytes)).field).toBe('version');
    }
    view.setUint32(24, 0x102, true);
    for (const mmuformat of [0, 1, 2]) {
      view.setUint32(48, mmuformat, true);
      expect(expectCode('UNSUPPORTED', () => open(bytes)).field).toBe('version');
    }
  });
});

describe('what entries cannot hold', () => {
  const FOUR_GB = 2 ** 32;

  it.each([
    ['v4', FOUR_GB - 0x1000, true],
    ['v4', FOUR_GB, false],
    ['v6', FOUR_GB - 0x1000, true],
    ['v6', FOUR_GB, false],
    ['lpae', 2 ** 40 - 0x1000, true],
    ['lpae', 2 ** 40, false],
  ])('%s entries: a PA of 0x%x', (pteFormat, pa, fits) => {
    const source = sourceOf([page(0xc000_0000, pa)], { pteFormat });
    if (fits) {
      expect(ask(open(write(source)), 0xc000_0008)).toMatchObject({ outcome: 0, pa: pa + 8 });
      return;
    }
    const error = expectCode('UNSUPPORTED', () => write(source));
    expect(error).toMatchObject({ address: 0xc000_0000n, physicalAddress: pa, length: 0x1000 });
    expect(error.message).toMatch(/0xc0000000 to 0x\d+: its PA is above 0xf+, the last one that an entry of/);
    const { report } = planMinidump(source, armMinidump, { leaveOut: true, tolerateDamage: true });
    expect(report.lossList).toMatchObject([{ kind: 'mapping', bytes: 0x1000 }]);
  });

  it('a mapping that reaches over 4 GB', () => {
    const long = page(0xc000_0000, FOUR_GB - 0x1000, { length: 0x2000 });
    expectCode('UNSUPPORTED', () => write(sourceOf([long])));
  });

  it('1 KB pages, but for those that make up a page', () => {
    const quarter = (i: number, pa: number, protection = 'rw-'): LiteralMapping => ({
      ...{ kva: 0xc000_0000 + i * 0x400, pa, length: 0x400, pageSize: 0x400, protection },
    });
    const whole = [0, 1, 2, 3].map((i) => quarter(i, 0x1000 + i * 0x400, i === 1 ? 'r-x' : 'rwx'));
    const v4 = open(write(sourceOf(whole, { pteFormat: 'v4' })));
    const rights = [0, 1, 2, 3].map((i) => ask(v4, 0xc000_0000 + i * 0x400).flags & 7);
    expect(rights).toEqual([7, 5, 7, 7]);
    const { report } = planMinidump(sourceOf(whole, { pteFormat: 'v6' }), armMinidump);
    expect(report.lossList!.map(({ kind, bytes }) => [kind, bytes])).toEqual([
      ['protection', 0xc00],
      ['pageSize', 0x1000],
    ]);
    const apart = [0, 1, 2].map((i) => quarter(i, 0x1000 + i * 0x400));
    const error = expectCode('UNSUPPORTED', () => write(sourceOf(apart, { pteFormat: 'v4' })));
    expect(error.message).toContain('1 KB pages');
  });

  it('entries of another meaning: memory types of long and short ones', () => {
    const source = sourceOf([page(0xc000_0000, 0x1000)], { pteFormat: 'lpae' });
    const { report } = planMinidump(source, armMinidump, { pteFormat: 'v6' });
    expect(report.losses).toEqual(['memory types: lpae and v6 entries number them in different ways']);
    expect(planMinidump(source, armMinidump).report.losses).toEqual([]);
  });

  it('a direct map', () => {
    const directMap = { base: 0x8000_0000n, end: 0x8040_0000n, phys: 0 };
    const source = sourceOf([page(0xc000_0000, 0x1000)], { directMap });
    const { report } = planMinidump(source, armMinidump);
    expect(report.lossList).toMatchObject([{ kind: 'directMap', bytes: 0x40_0000 }]);
  });
});

describe('large pages', () => {
  it('of runs longer than one are told apart', () => {
    const run = page(0xc000_0000, 0x1_0000, { length: 0x3_0000, pageSize: 0x1_0000 });
    for (const pteFormat of ['v4', 'v6']) {
      const core = open(write(sourceOf([run], { pteFormat })));
      for (let at = 0; at < run.length; at += 0x1000) {
        expect(ask(core, 0xc000_0000 + at)).toMatchObject({
          outcome: 0,
          pa: run.pa + at,
          pageSize: 0x1_0000,
        });
      }
    }
  });

  it('that lie askew become small ones', () => {
    const askew = page(0xc000_1000, 0x1_0000, { length: 0x1_0000, pageSize: 0x1_0000 });
    for (const pteFormat of ['v4', 'v6']) {
      const source = sourceOf([askew], { pteFormat });
      const core = open(write(source));
      for (let at = 0; at < askew.length; at += 0x1000)
        expect(ask(core, 0xc000_1000 + at)).toMatchObject({
          outcome: 0,
          pa: askew.pa + at,
          pageSize: 0x1000,
        });
      const { report } = planMinidump(source, armMinidump);
      expect(report.lossList!.map(({ kind }) => kind)).toContain('pageSize');
    }
  });
});

describe('exact entries that contradict their mappings', () => {
  const exact = (
    kva: number,
    pa: number,
    entry: bigint,
    rest: Partial<LiteralMapping> = {},
  ): LiteralMapping => page(kva, pa, { entry, entryBits: 32, protection: 'r-x', ...rest });
  const LARGE = { length: 0x1_0000, pageSize: 0x1_0000 };
  const BASE = 0xc000_0000;

  it.each([
    ['another PA', exact(BASE, 0x2000, 0x9999_0002n)],
    ['another right', exact(BASE, 0x2000, 0x2552n)],
    ['another right in the last quarter', exact(BASE, 0x2000, 0x2402n)],
    ['another right in a part of a large page', exact(BASE, 0x1_0000, 0x1_0101n, LARGE)],
    ['a larger page', exact(BASE + 0x2000, 0x1_2000, 0x1_0001n)],
    ['a smaller page', exact(BASE, 0x1_0000, 0x1_0002n, LARGE)],
    ['a large page that lies askew', exact(BASE + 0x1000, 0x1_0000, 0x1_0001n, LARGE)],
    ['nothing', exact(BASE, 0x2000, 0x2550n)],
  ])('say %s: they are made anew', (_what, mapping) => {
    const start = Number(mapping.kva);
    const askew = mapping.length > 0x1000 && start % 0x1_0000 !== 0;
    for (const pteFormat of ['v4', 'v6']) {
      const core = open(write(sourceOf([mapping], { pteFormat })));
      for (let at = 0; at < mapping.length; at += 0x400) {
        const found = ask(core, start + at);
        expect(found).toMatchObject({ outcome: 0, pa: mapping.pa + at });
        expect(found.flags & 7).toBe(5);
        expect(found.pageSize).toBe(askew ? 0x1000 : (mapping.pageSize ?? 0x1000));
      }
    }
  });
});

describe('entries of another format', () => {
  it('are made anew, though their bits might mean something', () => {
    // The access bits of the last quarter of an old small page are S and nG of a new one.
    const old = page(0xc000_0000, 0x2000, { entry: 0x2c12n, entryBits: 32, protection: 'rwx' });
    const made = ask(open(write(sourceOf([old], { pteFormat: 'v4' }), { pteFormat: 'v6' })), 0xc000_0000);
    expect(made.entryLow).toBe(0x2812);
    const kept = ask(open(write(sourceOf([old], { pteFormat: 'v6' }))), 0xc000_0000);
    expect(kept.entryLow).toBe(0x2c12);
  });
});

describe('physical memory', () => {
  it('in more ranges than one page of dump_avail has room for', () => {
    const ram = Array.from({ length: 700 }, (_, i) => ({ start: i * 0x4000, end: i * 0x4000 + 0x2000 }));
    const mappings = ram.map(({ start }, i) => page(0xc000_0000 + i * 0x2000, start + 0x1000));
    for (const byteOrder of ['little', 'big'] as const) {
      const bytes = write(sourceOf(mappings, { byteOrder }, literalMemory([], ram)));
      expect(fieldsOf(bytes, byteOrder).dumpavailsize).toBe(3 * 4096);
      const core = open(bytes);
      expect(core.memory.ranges.ranges).toEqual(ram);
      expect(core.memory.pages.dumped).toBe(700);
    }
  });

  it('whose ranges end inside pages is described by whole pages', () => {
    const ranges = new PageRanges([{ start: 0x1234, end: 0x3001 }], 4096);
    const memory = { ...literalMemory([], [{ start: 0x1000, end: 0x4000 }]), ranges };
    const core = open(write(sourceOf([page(0xc000_0000, 0x1000, { length: 0x3000 })], {}, memory)));
    expect(core.memory.ranges.ranges).toEqual([{ start: 0x1000, end: 0x4000 }]);
    expect(core.memory.pages.dumped).toBe(3);
  });

  it('that is gone when the dump is written ends it with IO', () => {
    let there = true;
    const held = literalMemory([], RAM);
    const memory = {
      ...held,
      available: (pa: number, limit: number) => (there ? held.available(pa, limit) : 0),
    };
    const plan = planMinidump(sourceOf([page(0xc000_0000, 0x1000)], {}, memory), armMinidump);
    there = false;
    expectCode('IO', () => dumpToBytes(plan));
  });

  it('too high for a bitmap from PA 0 on is refused before memory is taken for it', () => {
    const start = 2 ** 51;
    const memory = literalMemory([], [{ start, end: start + 0x1000 }]);
    const source = sourceOf([], {}, memory);
    const options = { tolerateDamage: true, addPages: [start] };
    const error = expectCode('UNSUPPORTED', () =>
      planMinidump(source, armMinidump, { ...options, version: 1 }),
    );
    expect(error.message).toContain('bitmap');
  });
});

describe('what is refused', () => {
  it.each([
    [{ architecture: 'i386' }, 'UNSUPPORTED'],
    [{ bits: 64 }, 'UNSUPPORTED'],
    [{ pageSize: 0x4000 }, 'UNSUPPORTED'],
    [{ pteFormat: 'pae' }, 'INVALID_ARGUMENT'],
  ] as const)('a machine that is %o', (facts, code) => {
    expectCode(code, () => write(sourceOf([page(0x1000, 0x1000)], facts)));
  });

  it('formats and versions that there are not', () => {
    const source = sourceOf([page(0xc000_0000, 0x1000)]);
    expectCode('INVALID_ARGUMENT', () => write(source, { pteFormat: 'v7' }));
    expectCode('UNSUPPORTED', () => write(source, { version: 3 }));
    const error = expectCode('INVALID_ARGUMENT', () => write(source, { kernbase: 0xd000_0000n }));
    expect(isKvmError(error) && error.hint).toMatch(/lower kernbase/);
  });
});

import {
  BlockCache,
  dumpToBytes,
  entryOf,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  openMinidump,
  PageRanges,
  planMinidump,
  Translation,
  type Core,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { i386Minidump, i386MinidumpHeader } from '../src/index.js';

/** The edges of what FreeBSD/i386 minidumps hold, by literal address spaces. */

const FOUR_GB = 2 ** 32;
const RAM = [{ start: 0, end: 0x80_0000 }];
const FORMATS = ['nopae', 'pae'] as const;

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
      architecture: 'i386',
      elfMachine: 3,
      bits: 32,
      byteOrder: 'little',
      pageSize: 4096,
      pteFormat: 'pae',
    },
    ...facts,
  };
  return { machine, memory, addressSpace: literalAddressSpace(mappings, 32) };
}

const write = (source: DumpSource, options: MinidumpOptions = {}): Uint8Array<ArrayBuffer> =>
  dumpToBytes(planMinidump(source, i386Minidump, { tolerateDamage: true, ...options }));

const open = (bytes: Uint8Array): Core =>
  openMinidump(new BlockCache(new MemorySource(bytes)), i386Minidump, {});

function ask(core: Core, kva: number): Translation {
  const out = new Translation();
  core.addressSpace!.translate(Math.floor(kva / 4096), kva % 4096, out);
  return out;
}

/** The entry that a dump has for a mapping of one page, as hex. */
function entryFor(mapping: LiteralMapping, facts: Partial<MachineFacts>, options?: MinidumpOptions): string {
  const core = open(write(sourceOf([mapping], facts), options));
  return entryOf(ask(core, Number(mapping.kva)))!.toString(16);
}

const fieldsOf = (bytes: Uint8Array): Record<string, unknown> => i386MinidumpHeader.read(bytes, 0, 'little');

describe('the edges of the address space', () => {
  const edges = [page(0, 0), page(0xffff_f000, 0x7f_f000), page(0x7fff_f000, 0x1000)];

  it.each(FORMATS)('are held, %s', (pteFormat) => {
    for (const version of [1, 2]) {
      const bytes = write(sourceOf(edges, { pteFormat }), { version });
      const core = open(bytes);
      expect(core).toMatchObject({ version, kernbase: 0n, pteFormat });
      expect(fieldsOf(bytes).ptesize).toBe(2 ** 20 * (pteFormat === 'pae' ? 8 : 4));
      expect(ask(core, 0x123)).toMatchObject({ outcome: 0, pa: 0x123 });
      expect(ask(core, 0xffff_ffff)).toMatchObject({ outcome: 0, pa: 0x7f_ffff });
      expect(ask(core, 0x7fff_f000)).toMatchObject({ outcome: 0, pa: 0x1000 });
      expect(ask(core, 0x1000).outcome).toBe(1);
      expect(core.memory.pages.dumped).toBe(3);
    }
  });

  it('start at multiples of what an entry of the page directory spans', () => {
    const one = [page(0xc03f_f000, 0x1000)];
    expect(fieldsOf(write(sourceOf(one, { pteFormat: 'nopae' })))).toMatchObject({
      ...{ kernbase: 0xc000_0000, ptesize: 0x1000, paemode: 0 },
    });
    expect(fieldsOf(write(sourceOf(one)))).toMatchObject({
      ...{ kernbase: 0xc020_0000, ptesize: 0x1000, paemode: 1 },
    });
    const options = { kernbase: 0xbfff_ffffn };
    expect(fieldsOf(write(sourceOf(one), options))).toMatchObject({ kernbase: 0xbfe0_0000, ptesize: 0x3000 });
  });

  it('of nothing but added pages: a table without entries', () => {
    for (const pteFormat of FORMATS) {
      const bytes = write(sourceOf([], { pteFormat }), { addPages: [0x5000] });
      expect(open(bytes).memory.pages.dumped).toBe(1);
      expect(ask(open(bytes), 0xc000_0000).outcome).toBe(1);
      expect(fieldsOf(bytes)).toMatchObject({ ptesize: 0, kernbase: 0 });
    }
    expectCode('CORRUPT', () => planMinidump(sourceOf([]), i386Minidump));
  });
});

describe('entries', () => {
  const exact = (entry: bigint, rest: Partial<LiteralMapping> = {}): LiteralMapping =>
    page(0xc000_0000, 0x12_3000, { entry, entryBits: 64, ...rest });

  it('that are exact stay', () => {
    // Software bits, no A, no M: nothing that a mapping tells.
    expect(entryFor(exact(0x5a80_0000_0012_3e01n, { protection: 'r-x' }), {})).toBe('5a80000000123e01');
    const narrow = exact(0x0012_3e03n, { entryBits: 32, protection: 'rwx' });
    expect(entryFor(narrow, { pteFormat: 'nopae' })).toBe('123e03');
  });

  it('that are exact lose what upper levels deny', () => {
    expect(entryFor(exact(0x12_3e07n, { protection: 'r--' }), {})).toBe('8000000000123e01');
    expect(entryFor(exact(0x12_3e07n, { protection: 'rwx', user: true }), {})).toBe('123e07');
  });

  it('that are exact and say something else are made anew', () => {
    for (const entry of [0x99_9003n, 0x12_3001n, 0x12_3002n, 0x12_3103n, 0x12_3013n]) {
      expect(entryFor(exact(entry, { protection: 'rwx' }), {})).toBe('123063');
    }
    // Of another format.
    const wide = exact(0x12_3e03n, { protection: 'rwx' });
    expect(entryFor(wide, { pteFormat: 'nopae' })).toBe('123063');
    expect(entryFor(wide, {}, { pteFormat: 'nopae' })).toBe('123063');
  });

  it('made anew have rights, G and the memory type', () => {
    const all = { protection: 'r--', user: true, global: true, memoryType: 7 };
    expect(entryFor(page(0xc000_0000, 0x7_1234_5000, all), {})).toBe('80000007123451fd');
    expect(entryFor(page(0xc000_0000, 0x1234_5000, all), { pteFormat: 'nopae' })).toBe('123451fd');
  });

  it('of superpages are those of FreeBSD, or have their attributes', () => {
    const pde = 0x5a80_0000_0040_1fe9n; // PAT, G, PS, A, D, PWT, software; read-only
    const large = page(0xc000_0000, 0x40_0000, {
      ...{ length: 0x20_0000, pageSize: 0x20_0000, entry: pde, level: 2 },
      ...{ protection: 'r-x', global: true, memoryType: 5 },
    });
    const last = (options: MinidumpOptions): string => {
      const core = open(write(sourceOf([large]), options));
      return entryOf(ask(core, 0xc01f_f000))!.toString(16);
    };
    expect(last({})).toBe('5ff063');
    expect(last({ superpages: 'freebsd' })).toBe('5ff063');
    expect(last({ superpages: 'attributes' })).toBe('5a800000005fffe9');
  });
});

describe('what entries cannot hold', () => {
  it('a PA from 4 GB on without PAE, also at the end of a mapping', () => {
    const whole = { length: 0x40_0000, pageSize: 0x40_0000 };
    for (const [mapping, fits] of [
      [page(0xc000_0000, FOUR_GB - 0x1000), true],
      [page(0xc000_0000, FOUR_GB), false],
      [page(0xc000_0000, FOUR_GB - 0x1000, { length: 0x2000 }), false],
      [page(0xc000_0000, FOUR_GB - 0x40_0000, whole), true],
      [page(0xc000_0000, 0x12_3400_0000, whole), false],
    ] as const) {
      const source = sourceOf([mapping], { pteFormat: 'nopae' });
      if (fits) {
        expect(ask(open(write(source)), 0xc000_0008)).toMatchObject({ outcome: 0, pa: mapping.pa + 8 });
        continue;
      }
      const error = expectCode('UNSUPPORTED', () => write(source));
      expect(error).toMatchObject({ address: 0xc000_0000n, physicalAddress: mapping.pa });
      expect(error.hint).toMatch(/--kva.*--leave-out.*portable/);
      expect(ask(open(write(source, { pteFormat: 'pae' })), 0xc000_0008).pa).toBe(mapping.pa + 8);
      const { report } = planMinidump(source, i386Minidump, { leaveOut: true, tolerateDamage: true });
      expect(report.lossList).toMatchObject([{ kind: 'mapping', bytes: mapping.length }]);
    }
  });

  it('an entry that denies execution without PAE', () => {
    const source = sourceOf([page(0xc000_0000, 0x1000, { protection: 'rw-' })], { pteFormat: 'nopae' });
    const { report } = planMinidump(source, i386Minidump);
    expect(report.lossList).toMatchObject([{ kind: 'protection', bytes: 0x1000 }]);
    expect(planMinidump(source, i386Minidump, { pteFormat: 'pae' }).report.lossList).toEqual([]);
  });

  it('pages of less than 4 KB, and a direct map', () => {
    const small = sourceOf([page(0xc000_0400, 0x1400, { length: 0x400, pageSize: 0x400 })]);
    expect(expectCode('UNSUPPORTED', () => write(small)).address).toBe(0xc000_0400n);
    const directMap = { base: 0xc000_0000n, end: 0xc080_0000n, phys: 0 };
    const { report } = planMinidump(sourceOf([page(0x1000, 0x1000)], { directMap }), i386Minidump);
    expect(report.lossList).toMatchObject([{ kind: 'directMap', bytes: 0x80_0000 }]);
  });
});

describe('physical memory', () => {
  it('in more ranges than one page of dump_avail has room for', () => {
    const ram = Array.from({ length: 300 }, (_, i) => ({ start: i * 0x4000, end: i * 0x4000 + 0x2000 }));
    const mappings = ram.map(({ start }, i) => page(0xc000_0000 + i * 0x2000, start + 0x1000));
    const bytes = write(sourceOf(mappings, {}, literalMemory([], ram)));
    expect(fieldsOf(bytes).dumpavailsize).toBe(2 * 4096);
    expect(open(bytes).memory.ranges.ranges).toEqual(ram);
    expect(open(bytes).memory.pages.dumped).toBe(300);
    const flat = write(sourceOf(mappings, {}, literalMemory([], ram)), { version: 1 });
    expect(fieldsOf(flat)).toMatchObject({ dumpavailsize: 0, bitmapsize: 4096 });
    expect(open(flat).memory.pages.dumped).toBe(300);
  });

  it('whose ranges end inside pages is described by whole pages', () => {
    const ranges = new PageRanges(
      [
        { start: 0x1234, end: 0x3001 },
        { start: 0x3800, end: 0x4800 },
      ],
      4096,
    );
    const memory = { ...literalMemory([], [{ start: 0x1000, end: 0x5000 }]), ranges };
    const core = open(write(sourceOf([page(0xc000_0000, 0x1000, { length: 0x4000 })], {}, memory)));
    expect(core.memory.ranges.ranges).toEqual([{ start: 0x1000, end: 0x5000 }]);
    expect(core.memory.pages.dumped).toBe(4);
  });

  it('that is gone, or mappings that changed, when the dump is written end it with IO', () => {
    const changing = (after: readonly LiteralMapping[]): (() => unknown) => {
      const source = sourceOf([page(0xc000_0000, 0x1000), page(0xc000_5000, 0x2000)]);
      let { addressSpace } = source;
      const plan = planMinidump(
        { ...source, addressSpace: { mappings: (from, to) => addressSpace.mappings(from, to) } },
        i386Minidump,
      );
      addressSpace = literalAddressSpace(after, 32);
      return () => dumpToBytes(plan);
    };
    expectCode('IO', changing([page(0xc000_0000, 0x1000)]));
    expectCode('IO', changing([page(0xc000_0000, 0x1000, { length: 0x3000 })]));
    expectCode('IO', changing([page(0x1000, 0x1000), page(0xc000_5000, 0x2000)]));
    expectCode('IO', changing([page(0xc000_0000, 0x1000), page(0xe000_5000, 0x2000)]));
    let there = true;
    const held = literalMemory([], RAM);
    const memory = {
      ...held,
      available: (pa: number, limit: number) => (there ? held.available(pa, limit) : 0),
    };
    const plan = planMinidump(sourceOf([page(0xc000_0000, 0x1000)], {}, memory), i386Minidump);
    there = false;
    expectCode('IO', () => dumpToBytes(plan));
  });

  it('too high for a bitmap from PA 0 on is refused before memory is taken for it', () => {
    const start = 2 ** 51;
    const source = sourceOf([], {}, literalMemory([], [{ start, end: start + 0x1000 }]));
    const options = { tolerateDamage: true, addPages: [start] };
    const error = expectCode('UNSUPPORTED', () =>
      planMinidump(source, i386Minidump, { ...options, version: 1 }),
    );
    expect(error.message).toContain('bitmap');
    expect(open(write(source, options)).memory.pages.dumped).toBe(1);
  });
});

describe('what is refused', () => {
  it.each([
    [{ architecture: 'amd64' }, 'UNSUPPORTED'],
    [{ bits: 64 }, 'UNSUPPORTED'],
    [{ byteOrder: 'big' }, 'UNSUPPORTED'],
    [{ pageSize: 0x4000 }, 'UNSUPPORTED'],
    [{ pteFormat: 'v6' }, 'INVALID_ARGUMENT'],
  ] as const)('a machine that is %o', (facts, code) => {
    expectCode(code, () => write(sourceOf([page(0x1000, 0x1000)], facts)));
  });

  it('formats and versions that there are not', () => {
    const source = sourceOf([page(0xc000_0000, 0x1000)]);
    expectCode('INVALID_ARGUMENT', () => write(source, { pteFormat: 'amd64' }));
    expectCode('UNSUPPORTED', () => write(source, { version: 3 }));
    expectCode('INVALID_ARGUMENT', () => write(source, { kernbase: 0xd000_0000n }));
  });
});

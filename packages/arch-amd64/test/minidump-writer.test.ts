import {
  GLOBAL,
  MAPPED,
  READ,
  UNMAPPED,
  USER,
  type DirectMap,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { literalSource, lossesOf, translate, write, type Range, type Written } from './written.js';

/** What is written for a mapping said outright: entries word by word, places, refusals. */

const BASE = 0xffff_fe00_0000_0000n;
const NX = 1n << 63n;
const MB2 = 0x20_0000;
const GB = 0x4000_0000;

const page = (over: Partial<LiteralMapping> = {}): LiteralMapping => ({
  ...{ kva: BASE, pa: 0x5000, length: 4096 },
  ...over,
});
const large = (over: Partial<LiteralMapping> = {}): LiteralMapping =>
  page({ pa: 0x40_0000, length: MB2, pageSize: MB2, ...over });

function writeMappings(mappings: readonly LiteralMapping[], options: MinidumpOptions = {}): Written {
  return write(literalSource(mappings), options);
}

const refusal = (source: DumpSource, options: MinidumpOptions = {}): string => {
  const error = expectCode('UNSUPPORTED', () => write(source, options));
  expect(error.hint).toBeTruthy();
  return error.message;
};

describe('entries without an exact one', () => {
  const rows: readonly (readonly [string, Partial<LiteralMapping>, bigint, bigint])[] = [
    ['rw-', {}, 0x63n | NX, 0xe3n | NX],
    ['r--', { protection: 'r--' }, 0x61n | NX, 0xe1n | NX],
    ['r-x', { protection: 'r-x' }, 0x61n, 0xe1n],
    ['rwx', { protection: 'rwx' }, 0x63n, 0xe3n],
    ['global', { protection: 'rwx', global: true }, 0x163n, 0x1e3n],
    ['user', { protection: 'rwx', user: true }, 0x67n, 0xe7n],
    ['write-through', { protection: 'rwx', memoryType: 1 }, 0x6bn, 0xebn],
    ['uncached', { protection: 'rwx', memoryType: 3 }, 0x7bn, 0xfbn],
    ['PAT', { protection: 'rwx', memoryType: 4 }, 0xe3n, 0x10e3n],
  ];

  it.each(rows)('%s', (_name, over, pte, pde) => {
    const made = writeMappings([page(over)]);
    const table = 0x100_0000; // behind all RAM
    expect(made.entry(0)).toBe(BigInt(table) | (over.user === true ? 0x67n : 0x63n));
    expect(made.word(table)).toBe(0x5000n | pte);
    expect(made.word(table + 8)).toBe(0n);
    expect(lossesOf(made)).toEqual({});
    expect(writeMappings([large(over)]).entry(0)).toBe(0x40_0000n | pde);
    const flat = writeMappings([page(over), large({ ...over, kva: BASE + 0x20_0000n })], {
      ...{ version: 1, superpages: 'attributes' },
    });
    expect(flat.entry(0)).toBe(0x5000n | pte);
    expect([512, 1023].map((i) => flat.entry(i))).toEqual([0x40_0000n | pte, 0x5f_f000n | pte]);
    expect(lossesOf(flat)).toEqual({ pageSize: MB2 });
  });

  it('of superpages are 0x63 in version 1, as FreeBSD makes them, and what that loses is said', () => {
    const flat = writeMappings([large({ protection: 'r--', user: true, global: true, memoryType: 2 })], {
      version: 1,
    });
    expect([0, 511].map((i) => flat.entry(i))).toEqual([0x40_0063n, 0x5f_f063n]);
    expect(lossesOf(flat)).toEqual({
      ...{ protection: MB2, user: MB2, global: MB2, memoryType: MB2, pageSize: MB2 },
    });
    expect(lossesOf(writeMappings([large({ protection: 'rwx' })], { version: 1 }))).toEqual({
      pageSize: MB2,
    });
  });

  it('lose what no entry can say', () => {
    expect(lossesOf(writeMappings([page({ protection: '-w-', memoryType: 8 })]))).toEqual({
      ...{ protection: 4096, memoryType: 4096 },
    });
  });

  it('of mixed tables leave each page its own rights of user mode', () => {
    const written = writeMappings([page({ user: true }), page({ kva: BASE + 0x1000n, pa: 0x9000 })]);
    expect(written.entry(0) & 0xfffn).toBe(0x67n);
    const flags = [0n, 0x1000n].map((at) => translate(written.core, BASE + at).flags & USER);
    expect(flags).toEqual([USER, 0]);
  });
});

describe('exact entries', () => {
  const odd = 0x5a70_0000_0000_0e3dn; // key, software bits, PCD, PWT, A; US; no RW

  it('are kept, of pages and of pages of 2 MB', () => {
    const flags = { protection: 'r-x', user: true, memoryType: 3 };
    const pte = odd | 0x5000n;
    const pde = odd | 0x80n | 0x40_0000n;
    const both = [
      page({ ...flags, entry: pte }),
      large({ ...flags, kva: BASE + 0x20_0000n, entry: pde, level: 2 }),
    ];
    const written = writeMappings(both);
    expect([written.word(0x100_0000), written.entry(1)]).toEqual([pte, pde]);
    expect(lossesOf(written)).toEqual({});
    const flat = writeMappings(both, { version: 1, superpages: 'attributes' });
    // The rule of freebsd-dumps.md 3.1: PS goes, all else stays.
    expect([flat.entry(0), flat.entry(512)]).toEqual([pte, odd | 0x40_0000n]);
  });

  it('with PAT have it where each level has it', () => {
    const entry = 0x40_10e3n;
    const mapping = large({ protection: 'rwx', memoryType: 4, entry, level: 2 });
    expect(writeMappings([mapping]).entry(0)).toBe(entry);
    const flat = writeMappings([mapping], { version: 1, superpages: 'attributes' });
    expect([flat.entry(0), flat.entry(1)]).toEqual([0x40_00e3n, 0x40_10e3n]);
    expect(lossesOf(flat)).toEqual({ pageSize: MB2 });
  });

  it('of 1 GB are 512 entries with the same attributes', () => {
    const entry = odd | 0x80n | BigInt(GB);
    const mapping = page({
      ...{ pa: GB, length: GB, pageSize: GB, protection: 'r-x', user: true, memoryType: 3, entry, level: 3 },
    });
    const written = writeMappings([mapping]);
    for (const j of [0, 1, 255, 511]) expect(written.entry(j)).toBe(entry + BigInt(j * MB2));
    expect(lossesOf(written)).toEqual({ pageSize: GB });
  });

  it('lose the rights that upper levels took away', () => {
    const written = writeMappings([
      page({ protection: 'r--', entry: 0x5067n }),
      large({ kva: BASE + 0x20_0000n, protection: 'r--', entry: 0x40_00e7n, level: 2 }),
    ]);
    expect([written.word(0x100_0000), written.entry(1)]).toEqual([0x5061n | NX, 0x40_00e1n | NX]);
    expect(lossesOf(written)).toEqual({ entry: 4096 + MB2 });
  });

  it('are made anew where they say less than the mapping, or are another format’s', () => {
    const less = writeMappings([page({ protection: 'rwx', entry: 0x5001n })]);
    expect(less.word(0x100_0000)).toBe(0x5063n);
    expect(lossesOf(less)).toEqual({ entry: 4096 });
    const elsewhere = writeMappings([page({ protection: 'rwx', entry: 0x9063n })]);
    expect(elsewhere.word(0x100_0000)).toBe(0x5063n);
    const source = literalSource([page({ protection: 'rwx', entry: 0x5023n })], { pteFormat: 'pae' });
    const other = write(source);
    expect(other.word(0x100_0000)).toBe(0x5063n);
    expect(lossesOf(other)).toEqual({ entry: 4096 });
  });
});

describe('superpages', () => {
  /** The directory's entries by sort: `2M`, `4K` (a table), `-`. */
  const kinds = (written: Written, count: number): string[] =>
    Array.from({ length: count }, (_, i) => written.entry(i)).map((entry) =>
      entry === 0n ? '-' : (entry & 0x80n) !== 0n ? '2M' : '4K',
    );
  const check = (written: Written, { kva, pa, length }: LiteralMapping): void => {
    for (let at = 0; at < length; at += 0x1000) {
      const { outcome, pa: found } = translate(written.core, BigInt(kva) + BigInt(at));
      expect([at, outcome, found]).toEqual([at, MAPPED, pa + at]);
    }
  };

  it('in long runs that start anywhere stay where they are whole', () => {
    const run = large({ kva: BASE + 0x1f_d000n, pa: 0x1f_d000, length: 3 * MB2 });
    const written = writeMappings([run]);
    expect(kinds(written, 5)).toEqual(['4K', '2M', '2M', '4K', '-']);
    check(written, run);
    expect(lossesOf(written)).toEqual({ pageSize: MB2 });
  });

  it('with a PA that is not aligned become pages of 4 KB', () => {
    const run = large({ pa: 0x40_1000, length: 2 * MB2 });
    const written = writeMappings([run]);
    expect(kinds(written, 3)).toEqual(['4K', '4K', '-']);
    check(written, run);
    expect(lossesOf(written)).toEqual({ pageSize: 2 * MB2 });
  });

  it('cut by the window become pages of 4 KB', () => {
    const run = large({ pa: 0, length: 3 * MB2 });
    const window = { from: BASE + 0x1000n, to: BASE + 0x5f_f000n };
    const written = writeMappings([run], { ...window, kernbase: BASE });
    expect(kinds(written, 4)).toEqual(['4K', '2M', '4K', '-']);
    expect(translate(written.core, BASE).outcome).toBe(UNMAPPED);
    expect(translate(written.core, BASE + 0x5f_f000n).outcome).toBe(UNMAPPED);
    expect(translate(written.core, BASE + 0x5f_efffn)).toMatchObject({ outcome: MAPPED, pa: 0x5f_efff });
    expect(lossesOf(written)).toEqual({ pageSize: 2 * MB2 - 0x2000 });
  });

  it('of sizes that amd64 does not have become those that it has', () => {
    const written = writeMappings([
      large({ length: MB2 / 2, pageSize: MB2 / 2 }),
      page({ kva: BASE + 0x40_0000n, length: 2 * MB2, pageSize: 2 * MB2, pa: 0 }),
    ]);
    expect(kinds(written, 5)).toEqual(['4K', '-', '2M', '2M', '-']);
    expect(lossesOf(written)).toEqual({ pageSize: MB2 / 2 + 2 * MB2 });
  });

  it('share nothing with the pages around them', () => {
    const written = writeMappings([
      page({ kva: BASE + 0x1f_f000n }),
      large({ kva: BASE + 0x20_0000n }),
      page({ kva: BASE + 0x40_0000n, pa: 0x7000 }),
      page({ kva: BASE + BigInt(GB), pa: 0x8000 }),
    ]);
    expect(kinds(written, 4)).toEqual(['4K', '2M', '4K', '-']);
    expect([0, 2, 512].map((i) => written.entry(i) & ~0xfffn)).toEqual([
      0x100_0000n,
      0x100_1000n,
      0x100_2000n,
    ]);
    expect(written.plan.report.tables).toEqual({ bytes: 0x2000, pages: 3 });
    expect(lossesOf(written)).toEqual({});
  });
});

describe('page tables that are made up', () => {
  const ram: readonly Range[] = [{ start: 0x1000, end: 0xe000_0000 }];
  const twoRegions = [page({ pa: 0xe000_0000 }), page({ kva: BASE + 0x20_0000n, pa: 0xe000_3000 })];

  it.each([2, 3])('lie where no device is mapped, in version %i', (version) => {
    const { core, plan, entry } = write(literalSource(twoRegions, { ram }), { version });
    expect([entry(0), entry(1)]).toEqual([0xe000_1063n, 0xe000_2063n]);
    expect(plan.report).toMatchObject({ pages: 2, dropped: { outsideRam: 2 } });
    for (const { kva, pa } of twoRegions) {
      expect(translate(core, BigInt(kva))).toMatchObject({ outcome: MAPPED, pa });
      expect(core.memory.locate(pa)).toBe(-1);
    }
    expect(core.memory.ranges.has(0xe000_1000)).toBe(true);
    if (version === 3) {
      expect(core.memory.ranges.ranges).toEqual([...ram, { start: 0xe000_1000, end: 0xe000_3000 }]);
    }
  });

  it('lie behind devices as high as these may be', () => {
    const device = page({ pa: 0xe000_0000, length: 0x10_0000_0000, pageSize: GB });
    const { entry, core } = write(literalSource([device, page({ kva: BASE + 0x20_0000_0000n })], { ram }));
    const table = entry(0x20_0000_0000 / MB2);
    expect(table & 0xfffn).toBe(0x63n);
    expect(Number(table >> 12n) * 4096).toBeGreaterThanOrEqual(0x10_e000_0000);
    expect(translate(core, BASE + 0x20_0000_0000n).pa).toBe(0x5000);
  });

  it('are refused where there is no room', () => {
    const top = 2 ** 52;
    const source = literalSource([page()], { ram: [{ start: top - 0x2000, end: top }] });
    expect(refusal(source)).toMatch(/no room for 1 page tables behind all RAM/);
    expect(
      lossesOf(
        write(literalSource([large({ pa: top - MB2 })], { ram: [{ start: top - 0x2000, end: top }] })),
      ),
    ).toEqual({});
  });

  it('are not there in version 1', () => {
    const { plan, core } = write(literalSource(twoRegions, { ram }), { version: 1 });
    expect(plan.report).toMatchObject({ pages: 0, tables: { bytes: 0x2000, pages: 0 } });
    expect(core.memory.ranges.ranges).toEqual([{ start: 0, end: 0xe000_0000 }]);
  });
});

describe('the header', () => {
  const headerOf = (
    facts: Partial<MachineFacts>,
    mappings = [page()],
    options: MinidumpOptions = {},
  ): DataView => {
    const { bytes } = write(literalSource(mappings, facts), options);
    return new DataView(bytes.buffer, bytes.byteOffset);
  };
  const dmapOf = (directMap: DirectMap, mappings = [page()]): [bigint, bigint, object] => {
    const written = write(literalSource(mappings, { directMap }));
    const view = new DataView(written.bytes.buffer, written.bytes.byteOffset);
    return [view.getBigUint64(48, true), view.getBigUint64(56, true), lossesOf(written)];
  };
  const base = 0xffff_f800_0000_0000n;
  const end = base + 0x100_0000_0000n;

  it('has no direct map where there is none', () => {
    expect(dmapOf({ base, end, phys: 0 })).toEqual([base, end, {}]);
    const view = headerOf({});
    expect([view.getBigUint64(48, true), view.getBigUint64(56, true)]).toEqual([0n, 0n]);
  });

  it('prolongs a direct map that starts with another PA, where that changes nothing', () => {
    const ram = [{ start: GB, end: GB + 0x100_0000 }];
    const source = literalSource([page()], { ram, directMap: { base, end, phys: GB } });
    const written = write(source);
    expect(written.core.directMap).toEqual({ base: base - BigInt(GB), end, phys: 0 });
    expect(lossesOf(written)).toEqual({});
    // Some RAM can be reached by it that could not.
    expect(dmapOf({ base, end, phys: 0x10_0000 })).toEqual([base - 0x10_0000n, end, { directMap: 0 }]);
    expect(dmapOf({ base: BASE - 0x100_0000n, end: BASE - 0x1000n, phys: 0x1000 })).toEqual([
      ...[BASE - 0x100_1000n, BASE - 0x1000n, { directMap: 0 }],
    ]);
  });

  it('has none where something else is mapped there, or nothing can be', () => {
    const lost = [0n, 0n, { directMap: 0x100_0000_0000 }];
    expect(dmapOf({ base, end, phys: 0x2000 }, [page({ kva: base - 0x1000n })])).toEqual(lost);
    expect(dmapOf({ base, end, phys: 0x1000 }, [page({ kva: base - 0x2000n })])[0]).toBe(base - 0x1000n);
    expect(dmapOf({ base: 0x1000n, end: 0x100_0000_1000n, phys: 0x2000 })).toEqual(lost);
    const upper = 1n << 63n;
    expect(dmapOf({ base: upper, end: upper + 0x100_0000_0000n, phys: 0x2000 })).toEqual(lost);
  });

  it('cannot say that a direct map ends at 2^64', () => {
    const top = 1n << 64n;
    const lower = [page({ kva: 0xffff_8000_0000_0000n })];
    expect(dmapOf({ base, end: top, phys: 0 }, lower)).toEqual([base, top - 0x1000n, { directMap: 4096 }]);
  });

  it('has the kernbase of the source, the one asked for, or where mappings begin', () => {
    const kernbaseOf = (facts: Partial<MachineFacts>, options: MinidumpOptions = {}): bigint =>
      headerOf(facts, [page({ kva: BASE + 0x5_4321_0000n })], options).getBigUint64(40, true);
    expect(kernbaseOf({})).toBe(BASE + 0x5_4000_0000n);
    expect(kernbaseOf({}, { version: 1 })).toBe(BASE + 0x5_4320_0000n);
    expect(kernbaseOf({ kernbase: BASE })).toBe(BASE);
    expect(kernbaseOf({ kernbase: BASE }, { version: 1 })).toBe(BASE);
    expect(kernbaseOf({ kernbase: BASE + 0x6_0000_0000n })).toBe(BASE + 0x5_4000_0000n);
    expect(kernbaseOf({}, { kernbase: BASE + 0x4_7654_3000n })).toBe(BASE + 0x4_4000_0000n);
    // One that leaves no room for the table was not asked for.
    const low = { kernbase: BASE - 0x200_0000_0000n };
    expect(kernbaseOf(low, { version: 1 })).toBe(BASE + 0x5_4320_0000n);
    expect(kernbaseOf(low, { version: 2 })).toBe(low.kernbase);
  });

  it('is a page, zeros behind the structure', () => {
    for (const version of [1, 2, 3]) {
      const view = headerOf({}, [page()], { version });
      expect(view.getUint32(24, true)).toBe(version);
      expect(view.getUint32(64, true)).toBe(version === 3 ? 4096 : 0);
      for (let at = 68; at < 4096; at += 4) expect([at, view.getUint32(at)]).toEqual([at, 0]);
    }
  });
});

describe('what has no room', () => {
  it('is refused with the reason', () => {
    const other = literalSource([page({ kva: 0x1000n })], { architecture: 'arm64' });
    expect(refusal(other)).toMatch(/cannot be of a machine that is arm64/);
    expect(refusal(literalSource([page()], { byteOrder: 'big' }))).toMatch(/big-endian/);
    expect(refusal(literalSource([page()]), { version: 4 })).toMatch(/no version 4/);
    expect(refusal(literalSource([page({ kva: 0x5000n }), page()]))).toBe(
      'a FreeBSD/amd64 minidump cannot hold the mapping at 0x5000 to 0x5000 and KVAs of the other canonical half too: ' +
        'there is one table, from kernbase on',
    );
    expect(refusal(literalSource([page({ kva: 0x0100_0000_0000_0000n })]))).toMatch(/KVAs that no amd64 has/);
    expect(refusal(literalSource([page({ kva: 0xfeff_ffff_ffff_f000n })]))).toMatch(/KVAs that no amd64 has/);
  });

  it('is a table of 4 GB or more', () => {
    const last = 0xffff_ffff_ffff_f000n;
    const first = (bytes: bigint): LiteralMapping[] => [
      page({ kva: last + 0x1000n - bytes }),
      page({ kva: last }),
    ];
    const TB = 1n << 40n;
    expect(refusal(literalSource(first(2n * TB)), { version: 1 })).toMatch(
      /for 0xfffffe0000000000 to 0xffffffffffffffff would have 0x100000000 bytes, 4 GB or more/,
    );
    // One page of entries less fits, and no more is held than a piece of it.
    const plan = write(literalSource([page({ kva: last })]), { version: 1 }).plan;
    expect(plan.report.tables.bytes).toBe(4096);
    for (const version of [2, 3]) {
      const error = expectCode('UNSUPPORTED', () => write(literalSource(first(1024n * TB)), { version }));
      expect(error.message).toMatch(/4 GB or more/);
      expect(error.hint).toMatch(/--kva/);
    }
  });

  it('are KVAs of 5-level paging that the header does not tell', () => {
    const both = [page({ kva: 0x7fff_c000_1000n }), page({ kva: 0x8000_0000_0000n })];
    expect(refusal(literalSource(both))).toMatch(/below and above 0x800000000000/);
    const directMap = { base: 0x10_0000_0000_0000n, end: 0x10_0000_0100_0000n, phys: 0 };
    const told = write(literalSource(both, { directMap }));
    for (const { kva } of both) expect(translate(told.core, BigInt(kva)).outcome).toBe(MAPPED);
    const above = write(literalSource([page({ kva: 0x8000_0000_0000n })]));
    expect(translate(above.core, 0x8000_0000_0000n).outcome).toBe(MAPPED);
    const upper = [page({ kva: 0xff80_0000_0000_0000n }), page({ kva: 0xff80_0000_4000_0000n })];
    const fiveLevels = write(literalSource(upper));
    for (const { kva } of upper) expect(translate(fiveLevels.core, BigInt(kva)).outcome).toBe(MAPPED);
  });

  it('are PAs that no entry can name', () => {
    const source = literalSource([page({ pa: 2 ** 52 })]);
    expectCode('INVALID_ARGUMENT', () => write(source));
    expect(write(literalSource([page({ pa: 2 ** 52 - 4096 })]), { version: 1 }).entry(0)).toBe(
      0x000f_ffff_ffff_f063n | NX,
    );
  });

  it('is a format of page tables that no amd64 has', () => {
    const source = literalSource([page({ protection: 'rwx' })], {});
    const error = expectCode('INVALID_ARGUMENT', () => write(source, { pteFormat: 'pae' }));
    expect(error).toMatchObject({ field: 'pteFormat', hint: 'it is amd64' });
    expect(write(source, { pteFormat: 'amd64' }).bytes).toEqual(write(source).bytes);
  });

  it('is what is mapped below the kernbase asked for', () => {
    const options = { kernbase: BASE + BigInt(GB) };
    const error = expectCode('INVALID_ARGUMENT', () => write(literalSource([page()]), options));
    expect(error).toMatchObject({ field: 'kernbase', address: BASE });
  });
});

describe('edges', () => {
  it.each([1, 2, 3])('nothing mapped: version %i is header, bitmap and the pages added', (version) => {
    const { core, plan } = writeMappings([], { version, addPages: [0x3000] });
    expect(core.memory.pages.dumped).toBe(1);
    expect(plan.report).toMatchObject({ mappings: 0, pages: 1, tables: { bytes: 0, pages: 0 } });
    expect(translate(core, BASE).outcome).toBe(UNMAPPED);
    const own = write(literalSource([], { kernbase: BASE }), { version });
    expect(own.core.kernbase).toBe(BASE);
  });

  it.each([1, 2, 3])('the last page and the last 2 MB of the address space, version %i', (version) => {
    const top = 1n << 64n;
    const last = writeMappings([page({ kva: top - 0x1000n })], { version });
    expect(translate(last.core, top - 1n)).toMatchObject({ outcome: MAPPED, pa: 0x5fff, length: 1 });
    const lastLarge = writeMappings([large({ kva: top - 0x20_0000n })], { version });
    expect(translate(lastLarge.core, top - 1n)).toMatchObject({ outcome: MAPPED, pa: 0x5f_ffff });
  });

  it.each([1, 2, 3])('KVA 0, PA 0, the last page of RAM, version %i', (version) => {
    const { core } = writeMappings([page({ kva: 0n, pa: 0 }), page({ kva: 0x1000n, pa: 0xff_f000 })], {
      version,
    });
    expect(translate(core, 0n)).toMatchObject({ outcome: MAPPED, pa: 0, flags: READ + 2 });
    expect(core.memory.locate(0)).toBeGreaterThan(0);
    expect(core.cache.bytes[core.memory.locate(0xff_f000)]).toBe(0xff);
  });

  it('ranges inside pages, and more than 255 of them', () => {
    const ram = Array.from({ length: 600 }, (_, i) => ({
      start: i * 0x4000 + 0x800,
      end: i * 0x4000 + 0x1800,
    }));
    const mappings = Array.from({ length: 600 }, (_, i) =>
      page({ kva: BASE + BigInt(i * 0x2000), pa: i * 0x4000, length: 0x2000 }),
    );
    const { core, plan } = write(literalSource(mappings, { ram }));
    expect(plan.sections.find(({ name }) => name === 'dumpAvail')!.length).toBe(602 * 16);
    // Two page tables behind them all.
    expect(core.memory.pages.dumped).toBe(1200 + 3);
    expect(core.memory.ranges.ranges.length).toBe(601);
    for (let i = 0; i < 600; i += 7) {
      const { pa } = translate(core, BASE + BigInt(i * 0x2000 + 0x1000));
      expect(core.cache.bytes[core.memory.locate(pa)]).toBe((i * 4 + 1) & 0xff);
    }
  });

  it('mappings of parts of pages are refused, or left out', () => {
    const part = [page({ length: 1024 }), page({ kva: BASE + 0x1000n })];
    expect(refusal(literalSource(part))).toMatch(/mapping at 0xfffffe0000000000 to 0x5000/);
    const written = writeMappings(part, { leaveOut: true });
    expect(lossesOf(written)).toEqual({ mapping: 1024 });
    expect(translate(written.core, BASE).outcome).toBe(UNMAPPED);
    expect(translate(written.core, BASE + 0x1000n).outcome).toBe(MAPPED);
    const joined = writeMappings(
      [0, 1, 2, 3].map((i) =>
        page({ kva: BASE + BigInt(i * 1024), pa: 0x5000 + i * 1024, length: 1024, pageSize: 1024 }),
      ),
    );
    expect(translate(joined.core, BASE + 0xc00n)).toMatchObject({ outcome: MAPPED, pa: 0x5c00 });
    expect(lossesOf(joined)).toEqual({ pageSize: 4096 });
  });

  it('global pages stay global', () => {
    expect(translate(writeMappings([page({ global: true })]).core, BASE).flags & GLOBAL).toBe(GLOBAL);
  });
});

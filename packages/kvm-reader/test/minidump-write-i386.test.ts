import { fc, test } from '@fast-check/vitest';
import { i386, i386Minidump } from '@libkvm/arch-i386';
import {
  i386Minidump as kernelDump,
  I386Machine,
  pagesOf,
  randomI386Machine,
  roundDown,
  type I386Mapping,
  type I386Paging,
} from '@libkvm/fixtures';
import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  EXECUTE,
  GLOBAL,
  MemorySource,
  planMinidump,
  planPortable,
  READ,
  USER,
  verifyCore,
  WRITE,
  type DumpPlan,
  type DumpSource,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import {
  addPages,
  checkAnswers,
  checkPages,
  firstDifference,
  lossesOf,
  sameAnswers,
  sums,
  walkedMachine,
  wholeRanges,
  type LossBytes,
  type Wanted,
} from './support/flat-writes.js';
import { runs } from './support/long.js';
import { asSource } from './support/open.js';

/** Machines walked through their page tables, written as FreeBSD/i386 minidumps, and opened again. */

const seeds = fc.integer();
const pagings = fc.constantFrom<I386Paging>('nopae', 'pae');
const versions = fc.constantFrom<1 | 2>(1, 2);
const superpages = fc.constantFrom<'freebsd' | 'attributes'>('freebsd', 'attributes');
const FOUR_GB = 2 ** 32;

const open = (bytes: Uint8Array): Kvm => openKvm(asSource(bytes), { architectures: [i386] });

/** A random machine whose RAM is in whole pages; its last page of KVA is mapped, so that tables end with it. */
function machineFor(seed: number, paging: I386Paging, plain: boolean, highBigPages = false): I386Machine {
  const { description } = randomI386Machine(seed, { paging, highBigPages }).machine;
  const { mappings, ram, tables = [], ...rest } = description;
  const unit = paging === 'pae' ? 0x20_0000n : 0x40_0000n;
  const kvaEnd = ((description.kvaEnd + unit - 1n) / unit) * unit;
  const last: I386Mapping = {
    kva: kvaEnd - 0x1000n,
    pa: 0x7f02_a000,
    pageSize: 0x1000,
    pages: 1,
    writable: true,
  };
  const taken = mappings.some(({ kva, pages, pageSize }) => kva + BigInt(pages * pageSize) > last.kva);
  // What FreeBSD's dumper does not do: it takes the entries of page tables as they are, whatever those above deny.
  const wishes = plain ? [] : tables;
  return new I386Machine({
    ...{ ...rest, kvaEnd, ram: wholeRanges(ram), tables: wishes },
    mappings: taken ? mappings : [...mappings, last],
  });
}

function sourceOf(machine: I386Machine): DumpSource {
  const { ram, messageRing: ring, registers, description } = machine;
  const image = { architecture: 'i386', registers };
  return walkedMachine({ ram, ring, architecture: i386, image, facts: { kernbase: description.kernbase } });
}

function pagesToAdd({ extraRanges }: I386Machine): number[] {
  return extraRanges.flatMap(({ start, end }) => pagesOf(roundDown(start), end));
}

/** The window, the pages added and dropped, by which the kernel's dumper and the planner look at the same things. */
function kernelOptions(machine: I386Machine): MinidumpOptions {
  const { kernbase, kvaEnd } = machine.description;
  return {
    ...{ from: kernbase, to: kvaEnd, kernbase, tolerateDamage: true },
    ...{ addPages: pagesToAdd(machine), dropPages: machine.noDump },
  };
}

const hexdump = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.subarray(from, to)).toString('hex');

/** A mapping without RAM, so that a table reaches so far. */
const device = (kva: bigint): I386Mapping => ({
  ...{ kva, pa: 0xfee0_0000, pageSize: 0x1000, pages: 1, writable: true },
});

describe('the worked examples of the format document', () => {
  it('7.3: without PAE, version 2', () => {
    const machine = new I386Machine({
      ...{ paging: 'nopae', kernbase: 0xc000_0000n, kvaEnd: 0xc400_0000n, patternSeed: 73 },
      ram: [
        { start: 0x1000, end: 0x9_f000 },
        { start: 0x10_0000, end: 0x1ff0_0000 },
      ],
      mappings: [
        { kva: 0xc040_0000n, pa: 0x40_0000, pageSize: 0x40_0000, pages: 1, writable: true },
        {
          ...{ kva: 0xc0c0_1000n, pa: 0x765_4000, pageSize: 0x1000, pages: 1, writable: false },
          ...{ global: true, modified: false },
        },
        device(0xc3ff_f000n),
      ],
      tablePool: pagesOf(0x500_0000, 0x501_0000),
      extraPages: [0x1000],
      noDumpPages: pagesOf(0x40_0000, 0x80_0000).filter((pa) => pa !== 0x41_2000),
      messageBuffer: { pa: 0x600_0000, kva: 0xc100_0000n, ringSize: 0xfff0, dumped: false },
    });
    const plan = planMinidump(sourceOf(machine), i386Minidump, kernelOptions(machine));
    const bytes = dumpToBytes(plan);
    expect(hexdump(bytes, 0, 0x34)).toBe(
      '6d696e6964756d7020467265654253442f6933383600000002000000f0ff00000040000000000100000000c00000000000100000',
    );
    expect(hexdump(bytes, 0x17048, 0x1704c)).toBe('63204100');
    expect(hexdump(bytes, 0x19004, 0x19008)).toBe('21416507');
    expect(bytes.length).toBe(0x29000);
    const dump = open(bytes);
    expect(dump.resolve(0xc041_2345n)).toMatchObject({ physicalAddress: 0x41_2345, fileOffset: 0x27345 });
    expect(dump.resolve(0xc0c0_1008n)).toMatchObject({ physicalAddress: 0x765_4008, fileOffset: 0x28008 });
    // With PAE the same mappings have entries of 8 bytes.
    const pae = dumpToBytes(
      planMinidump(sourceOf(machine), i386Minidump, { ...kernelOptions(machine), pteFormat: 'pae' }),
    );
    expect(hexdump(pae, 0x24, 0x34)).toBe('00000200000000c00100000000100000');
    const entry = 0x16000 + 0xc01 * 8;
    expect(hexdump(pae, entry, entry + 8)).toBe('6141650700000000');
  });

  it('7.4: with PAE, version 2, in the layout of 12.0 and later', () => {
    const machine = new I386Machine({
      ...{ paging: 'pae', kernbase: 0x80_0000n, kvaEnd: 0x480_0000n },
      ram: [
        { start: 0x1000, end: 0x9_f000 },
        { start: 0x10_0000, end: 0xbff0_0000 },
        { start: 0x1_0000_0000, end: 0x1_4000_0000 },
      ],
      mappings: [
        {
          ...{ kva: 0x234_5000n, pa: 0x1_2345_6000, pageSize: 0x1000, pages: 1, writable: true },
          ...{ executable: false, global: true },
        },
        device(0x47f_f000n),
      ],
      tablePool: pagesOf(0x500_0000, 0x501_0000),
      rootPa: 0x501_0060,
      extraPages: [0x1000, 0x80_0000],
      messageBuffer: { pa: 0x600_0000, kva: 0x100_0000n, ringSize: 0x1_8000, dumped: false },
    });
    const plan = planMinidump(sourceOf(machine), i386Minidump, kernelOptions(machine));
    const bytes = dumpToBytes(plan);
    expect(hexdump(bytes, 0, 0x34)).toBe(
      '6d696e6964756d7020467265654253442f6933383600000002000000008001000000020000000200000080000100000000100000',
    );
    expect(hexdump(bytes, 0x47a28, 0x47a30)).toBe('6361452301000080');
    expect(bytes.length).toBe(0x5d000);
    const { physicalAddress, fileOffset, protection } = open(bytes).resolve(0x234_5678n);
    expect([physicalAddress, fileOffset, protection]).toEqual([0x1_2345_6678, 0x5c678, 'rw-']);
  });
});

describe('minidumps of FreeBSD machines are those that the kernel writes', () => {
  test.prop([seeds, pagings, versions], runs(50))('byte by byte', (seed, paging, version) => {
    const machine = machineFor(seed, paging, true);
    const kernel = kernelDump(machine, { version });
    const plan = planMinidump(sourceOf(machine), i386Minidump, { ...kernelOptions(machine), version });
    const ours = dumpToBytes(plan);
    expect(firstDifference(ours, kernel.file.bytes(), kernel.header.msgbufsize)).toBe('');
    expect(plan.report).toMatchObject({ format: 'freebsd', version, pages: kernel.expected.pages.count });
  });

  test.prop([seeds, pagings, versions], runs(30))(
    'also from the kernel’s own dump',
    (seed, paging, version) => {
      const machine = machineFor(seed, paging, true);
      const kernel = kernelDump(machine, { version });
      const bytes = kernel.file.bytes();
      const source = dumpSourceOf(open(bytes).core);
      const plan = planMinidump(source, i386Minidump, { version, pages: 'all', tolerateDamage: true });
      expect(firstDifference(dumpToBytes(plan), bytes, kernel.header.msgbufsize)).toBe('');
      expect(lossesOf(plan)).toEqual({});
    },
  );
});

/** What the description says of a dump: answers, pages and losses. */
class Expected {
  constructor(
    readonly machine: I386Machine,
    readonly target: I386Paging,
    readonly parts: 'freebsd' | 'attributes',
    readonly from = 0n,
    readonly to = 1n << 32n,
  ) {}

  wanted(kva: bigint): Wanted | undefined {
    const found =
      kva >= this.from && kva < this.to && !this.isLost(kva) ? this.machine.translate(kva) : undefined;
    if (found === undefined || this.isLeftOut(found.pa)) return undefined;
    return { pa: found.pa, pageSize: 4096, flags: this.made(this.flags(kva), found.pageSize) };
  }

  /** Left out where entries of 4 bytes have no such PA. */
  isLeftOut(pa: number): boolean {
    return this.target === 'nopae' && pa >= FOUR_GB;
  }

  pages(): Set<number> {
    const pages = new Set<number>();
    this.eachPage(({ pa }) => addPages(pages, this.machine.ram, pa, pa + 1));
    return pages;
  }

  losses(): LossBytes {
    const counts = { mapping: 0, protection: 0, user: 0, global: 0, memoryType: 0, pageSize: 0, entry: 0 };
    this.eachPage(({ pa, flags, mapping, deniedAbove }) => {
      if (this.isLeftOut(pa)) {
        counts.mapping += 4096;
        return;
      }
      const large = mapping.pageSize > 4096;
      const differs = flags ^ this.made(flags, mapping.pageSize);
      if (differs & (READ | WRITE | EXECUTE)) counts.protection += 4096;
      if (differs & USER) counts.user += 4096;
      if (differs & GLOBAL) counts.global += 4096;
      if (differs & 0x1f00) counts.memoryType += 4096;
      if (large) counts.pageSize += 4096;
      if (!large && (deniedAbove || this.target !== this.machine.description.paging)) counts.entry += 4096;
    });
    return sums(counts);
  }

  private flags(kva: bigint): number {
    const { mapping, writable, executable } = this.machine.translate(kva)!;
    const { user, global, bits = 0n } = mapping;
    const rights = READ | (writable ? WRITE : 0) | (executable ? EXECUTE : 0) | (user ? USER : 0);
    return rights | (global ? GLOBAL : 0) | (((Number(bits & 0xffn) >> 3) & 3) << 8);
  }

  private made(flags: number, pageSize: number): number {
    if (pageSize > 4096 && this.parts === 'freebsd') return READ | WRITE | EXECUTE;
    return this.target === 'nopae' ? flags | EXECUTE : flags;
  }

  /** Under a table that is no RAM nobody knows. */
  private isLost(kva: bigint): boolean {
    const { tables = [], paging } = this.machine.description;
    const shift = paging === 'pae' ? 21n : 22n;
    const mapped = this.machine.translate(kva);
    return (
      mapped?.pageSize === 4096 &&
      tables.some((wish) => wish.pa !== undefined && wish.kva >> shift === kva >> shift)
    );
  }

  private eachPage(
    take: (page: { pa: number; flags: number; mapping: I386Mapping; deniedAbove: boolean }) => void,
  ): void {
    for (const mapping of this.machine.description.mappings) {
      const end = mapping.kva + BigInt(mapping.pages * mapping.pageSize);
      for (let kva = mapping.kva; kva < end; kva += 0x1000n) {
        if (kva < this.from || kva >= this.to || this.isLost(kva)) continue;
        const { pa, writable, executable } = this.machine.translate(kva)!;
        const deniedAbove =
          writable !== mapping.writable ||
          executable !== (this.machine.description.paging === 'nopae' || mapping.executable !== false);
        take({ pa, flags: this.flags(kva), mapping, deniedAbove });
      }
    }
  }
}

function verify(bytes: Uint8Array): void {
  const cache = new BlockCache(new MemorySource(bytes));
  expect(verifyCore(cache, () => open(bytes).core).problems).toEqual([]);
}

const ways = fc.record({ version: versions, pteFormat: pagings, superpages });

describe('minidumps of random machines', () => {
  test.prop([seeds, pagings, ways], runs(40))('hold what the machine was built from', (seed, paging, way) => {
    const machine = machineFor(seed, paging, false, true);
    const expected = new Expected(machine, way.pteFormat, way.superpages);
    const options = { ...way, tolerateDamage: true, leaveOut: true };
    const plan = planMinidump(sourceOf(machine), i386Minidump, options);
    const bytes = dumpToBytes(plan);
    expect(bytes.length).toBe(plan.size);
    expect(lossesOf(plan)).toEqual(expected.losses());
    const dump = open(bytes);
    expect(dump.core).toMatchObject({ version: way.version, pteFormat: way.pteFormat, warnings: [] });
    const { probes } = randomI386Machine(seed, { paging, highBigPages: true });
    checkAnswers(dump, probes, (kva) => expected.wanted(kva), machine.ram, expected.pages());
    checkPages(dump, machine.ram, expected.pages());
    verify(bytes);
    // A mapping that cannot be held is refused unless it may be left out.
    if (expected.losses().mapping !== undefined) {
      const strict = (): DumpPlan =>
        planMinidump(sourceOf(machine), i386Minidump, { ...options, leaveOut: false });
      const error = expectCode('UNSUPPORTED', strict);
      expect(error.message).toMatch(/0x[0-9a-f]+ to 0x[0-9a-f]{9,}: its PA is above 4 GB/);
      expect(error.hint).toMatch(/--kva/);
      expect(error.address).toBeDefined();
    }
  });

  test.prop([seeds, pagings, ways, fc.nat(), fc.nat()], runs(40))(
    'hold a window',
    (seed, paging, way, a, b) => {
      const machine = machineFor(seed, paging, false);
      const { probes } = randomI386Machine(seed, { paging });
      const pair = [probes[a % probes.length], probes[b % probes.length]];
      const [from, to] = pair.sort((x, y) => (x < y ? -1 : 1));
      const options = { ...way, from, to, tolerateDamage: true, leaveOut: true };
      const plan = planMinidump(sourceOf(machine), i386Minidump, options);
      const expected = new Expected(
        ...([machine, way.pteFormat, way.superpages] as const),
        ...([from & ~0xfffn, (to + 0xfffn) & ~0xfffn] as const),
      );
      expect(lossesOf(plan)).toEqual(expected.losses());
      const dump = open(dumpToBytes(plan));
      checkAnswers(dump, probes, (kva) => expected.wanted(kva), machine.ram, expected.pages());
      checkPages(dump, machine.ram, expected.pages());
    },
  );

  test.prop([seeds, pagings, ways, fc.array(fc.nat()), fc.array(fc.nat())], runs(25))(
    'hold the pages that were added, and not those that were dropped',
    (seed, paging, way, adds, drops) => {
      const machine = machineFor(seed, paging, false);
      const there = machine.ram.ranges.flatMap(({ start, end }) => pagesOf(start, end));
      const pick = (index: number): number => there[index % there.length] + (index % 4096);
      const plan = planMinidump(sourceOf(machine), i386Minidump, {
        ...{ ...way, addPages: adds.map(pick), dropPages: drops.map(pick) },
        ...{ tolerateDamage: true, leaveOut: true },
      });
      const expected = new Expected(machine, way.pteFormat, way.superpages);
      const pages = expected.pages();
      for (const index of adds) pages.add(roundDown(pick(index)));
      for (const index of drops) pages.delete(roundDown(pick(index)));
      const dump = open(dumpToBytes(plan));
      checkPages(dump, machine.ram, pages);
      const { probes } = randomI386Machine(seed, { paging });
      checkAnswers(dump, probes, (kva) => expected.wanted(kva), machine.ram, pages);
    },
  );
});

describe('minidumps written from other dumps', () => {
  const convert = (source: DumpSource, options: MinidumpOptions = {}): Uint8Array<ArrayBuffer> =>
    dumpToBytes(
      planMinidump(source, i386Minidump, { pages: 'all', tolerateDamage: true, leaveOut: true, ...options }),
    );

  test.prop([seeds, pagings, ways], runs(15))('are the same from one another', (seed, paging, way) => {
    const source = sourceOf(machineFor(seed, paging, false));
    const made = convert(source, { ...way, pages: 'mapped' });
    // The table of the first one reaches over mappings that were left out.
    const first = convert(dumpSourceOf(open(made).core), way);
    expect(firstDifference(convert(dumpSourceOf(open(first).core), way), first, 0)).toBe('');
    const { mapping } = lossesOf(
      planMinidump(source, i386Minidump, { ...way, tolerateDamage: true, leaveOut: true }),
    );
    if (mapping === undefined) expect(firstDifference(first, made, 0)).toBe('');
    // By way of the other version, which has the same pages and another bitmap.
    const other = convert(dumpSourceOf(open(first).core), { version: 3 - way.version });
    const back = convert(dumpSourceOf(open(other).core), way);
    if (way.version === 1) expect(firstDifference(back, first, 0)).toBe('');
  });

  test.prop([seeds, pagings, ways], runs(15))(
    'are the same by way of the portable format',
    (seed, paging, way) => {
      const source = sourceOf(machineFor(seed, paging, false));
      const direct = convert(source, { ...way, pages: 'mapped' });
      const portable = dumpToBytes(planPortable(source, { exact: true, tolerateDamage: true }));
      const opened = openKvm(portable, { architectures: [] });
      expect(firstDifference(convert(dumpSourceOf(opened.core), way), direct, 0)).toBe('');
    },
  );

  test.prop([seeds, pagings, fc.boolean(), ways], runs(20))(
    'say the same by way of the portable format without exact entries',
    (seed, paging, run, way) => {
      const source = sourceOf(machineFor(seed, paging, false));
      const direct = open(convert(source, { ...way, pages: 'mapped' }));
      const portable = dumpToBytes(planPortable(source, { run, tolerateDamage: true }));
      const opened = openKvm(portable, { architectures: [] });
      const { probes } = randomI386Machine(seed, { paging });
      sameAnswers(open(convert(dumpSourceOf(opened.core), way)), direct, probes);
    },
  );

  test.prop([seeds, pagings, versions, fc.double({ min: 0, max: 1, noNaN: true })], runs(25))(
    'leave out the pages that a cut file ends before',
    (seed, paging, version, share) => {
      const machine = machineFor(seed, paging, false);
      const whole = convert(sourceOf(machine), { version, pages: 'mapped' });
      const { offset, length } = open(whole).core.sections.at(-1)!;
      const cut = whole.slice(0, offset + Math.floor(length * share));
      const source = dumpSourceOf(open(cut).core);
      const plan = planMinidump(source, i386Minidump, { version, pages: 'all', tolerateDamage: true });
      const kept = Math.floor((cut.length - offset) / 4096);
      expect(plan.report.pages).toBe(kept);
      expect(plan.report.dropped.truncated).toBe(length / 4096 - kept);
      const expected = new Expected(machine, paging, 'freebsd');
      const pages = new Set([...expected.pages()].sort((a, b) => a - b).slice(0, kept));
      const dump = open(dumpToBytes(plan));
      checkPages(dump, machine.ram, pages);
      const { probes } = randomI386Machine(seed, { paging });
      checkAnswers(dump, probes, (kva) => expected.wanted(kva), machine.ram, pages);
    },
  );
});

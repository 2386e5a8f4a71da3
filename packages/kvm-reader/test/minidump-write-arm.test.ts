import { fc, test } from '@fast-check/vitest';
import { arm, armMinidump } from '@libkvm/arch-arm';
import {
  ArmMachine,
  armMinidump as kernelDump,
  pagesOf,
  randomArmMachine,
  roundDown,
  type ArmMapping,
  type ArmMinidump,
  type ArmTableFormat,
} from '@libkvm/fixtures';
import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  EXECUTE,
  MemorySource,
  planMinidump,
  planPortable,
  READ,
  verifyCore,
  WRITE,
  type DumpSource,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import {
  ArmExpectation,
  armSource,
  freebsdArm,
  pteFormatOf,
  type ArmTarget,
  type ArmWay,
} from './support/arm-writes.js';
import {
  checkAnswers,
  checkPages,
  firstDifference,
  lossesOf,
  sameAnswers,
  sums,
} from './support/flat-writes.js';
import { runs } from './support/long.js';
import { asSource } from './support/open.js';

/** Machines walked through their page tables, written as FreeBSD/arm minidumps, and opened again. */

const KERNBASE = 0xc000_0000;
const KVA_END = 0xc200_0000;
const seeds = fc.integer();
const versions = fc.constantFrom<1 | 2>(1, 2);
const formats = fc.constantFrom<ArmTableFormat>(
  'v4',
  'xscale',
  'xscale3',
  'v6-subpages',
  'v6',
  'v6-afe',
  'lpae',
);
const kernelFormats = fc.constantFrom<ArmTableFormat>('v4', 'xscale', 'v6-afe', 'lpae');
const targets = fc.constantFrom<ArmTarget>('v4', 'xscale', 'xscale3', 'v6-subpages', 'v6', 'lpae');
const superpages = fc.constantFrom<'freebsd' | 'attributes'>('freebsd', 'attributes');
const ways = fc.record({ pteFormat: targets, superpages });
const anyhow = { tolerateDamage: true, leaveOut: true } as const;

const open = (bytes: Uint8Array): Kvm => openKvm(asSource(bytes), { architectures: [arm] });

/** A dump of the fixtures' kernel; what it writes with mmuformat 3 has the version that this library gives it. */
function kernelBytes(dump: ArmMinidump, little: boolean): Uint8Array<ArrayBuffer> {
  const bytes = dump.file.bytes();
  const { version, mmuformat } = dump.header;
  if (mmuformat === 3) new DataView(bytes.buffer).setUint32(24, 0x100 + version, little);
  return bytes;
}

const hexdump = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.subarray(from, to)).toString('hex');

/** The entry in a dump for a page of KVA. */
function entryIn(bytes: Uint8Array, kva: number, entryBytes: 4 | 8 = 4): bigint {
  const { offset } = open(bytes).core.sections.find(({ name }) => name === 'table')!;
  const view = new DataView(bytes.buffer);
  const at = offset + ((kva - KERNBASE) / 4096) * entryBytes;
  return entryBytes === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
}

describe('the worked examples of the format document', () => {
  const RAM = [{ start: 0x1000_0000, end: 0x5000_0000 }];
  const common = { ram: RAM, roots: { ttbr0: 0x4000_0000 }, tablePool: pagesOf(0x4001_0000, 0x4002_0000) };
  const write = (machine: ArmMachine, options: MinidumpOptions = {}): Uint8Array<ArrayBuffer> =>
    dumpToBytes(
      planMinidump(armSource(machine, BigInt(KERNBASE)), armMinidump, { tolerateDamage: true, ...options }),
    );
  const device: ArmMapping = { kva: 0xc3ff_f000, pa: 0xfee0_0000, kind: 'small', pages: 1, ap: 1 };
  const section: ArmMapping = {
    ...{ kva: 0xc010_0000, pa: 0x1010_0000, kind: 'section', pages: 1, ap: 1, bits: 0x1100cn },
  };

  it('7.5: V6, sections expanded', () => {
    const machine = new ArmMachine({
      ...{ ...common, format: 'v6-afe', mappings: [section, device], patternSeed: 75 },
      messageBuffer: { pa: 0x4200_0000, kva: 0xc200_0000, ringSize: 0x1_7ff0, text: 'Copyright\n' },
    });
    const bytes = write(machine);
    expect(hexdump(bytes, 0, 0x38)).toBe(
      '6d696e6964756d7020467265654253442f61726d0000000002000000f07f01000080000000000100000000c0070000000200000000100000',
    );
    expect(entryIn(bytes, 0xc010_0000)).toBe(0x1010045en);
    expect(entryIn(bytes, 0xc012_3000)).toBe(0x1012345en);
    expect(entryIn(bytes, 0xc01f_f000)).toBe(0x101ff45en);
    const { physicalAddress, fileOffset } = open(bytes).resolve(0xc012_3abcn);
    expect([physicalAddress, fileOffset, bytes.length]).toEqual([0x1012_3abc, 0x55abc, 0x13_2000]);
  });

  it('7.5: a section that is read-only and never executed', () => {
    const readOnly: ArmMapping = {
      ...{ kva: 0xc020_0000, pa: 0x1020_0000, kind: 'section', pages: 1, ap: 5, xn: true, bits: 0x1300cn },
    };
    const bytes = write(new ArmMachine({ ...common, format: 'v6-afe', mappings: [readOnly] }));
    expect(entryIn(bytes, 0xc024_5000)).toBe(0x102456dfn);
    expect(open(bytes).resolve(0xc024_5678n).protection).toBe('r--');
    // One that privileged code never executes is no hole, as the kernel has it, but XN.
    const pxn = { ...section, pxn: true };
    const other = write(new ArmMachine({ ...common, format: 'v6-afe', mappings: [pxn] }));
    expect(entryIn(other, 0xc012_3000)).toBe(0x1012345fn);
  });

  it('7.6: V4, a large page as it is and a section rewritten', () => {
    const large: ArmMapping = {
      ...{ kva: 0xc123_0000, pa: 0x2045_0000, kind: 'large', pages: 1, ap: 1, bits: 0xcn },
    };
    const old: ArmMapping = {
      ...{ kva: 0xc010_0000, pa: 0x2010_0000, kind: 'section', pages: 1, ap: 3, bits: 0xcn },
    };
    const machine = new ArmMachine({ ...common, format: 'v4', mappings: [old, large] });
    for (const version of [1, 2]) {
      const bytes = write(machine, { version });
      expect(entryIn(bytes, 0xc123_7000)).toBe(0x2045055dn);
      expect(entryIn(bytes, 0xc012_3000)).toBe(0x20123552n);
      expect(open(bytes).resolve(0xc123_7abcn).physicalAddress).toBe(0x2045_7abc);
    }
    expect(entryIn(write(machine, { pteFormat: 'xscale' }), 0xc012_3000)).toBe(0x20123013n);
    // With its own access bits in all quarters, C and B.
    expect(entryIn(write(machine, { superpages: 'attributes' }), 0xc012_3000)).toBe(0x20123ffen);
  });

  it('7.6: XScale’s small pages, which libkvm does not read: kept, but for who asks for v4', () => {
    const small: ArmMapping = {
      ...{ kva: 0xc012_3000, pa: 0x2012_3000, kind: 'extended', pages: 1, ap: 1, bits: 0xcn },
    };
    const machine = new ArmMachine({ ...common, format: 'xscale', mappings: [small] });
    const kept = write(machine);
    expect(entryIn(kept, 0xc012_3000)).toBe(0x2012301fn);
    const convert = (options: MinidumpOptions): Uint8Array<ArrayBuffer> =>
      dumpToBytes(
        planMinidump(dumpSourceOf(open(kept).core), armMinidump, { tolerateDamage: true, ...options }),
      );
    expect(entryIn(convert({ version: 1 }), 0xc012_3000)).toBe(0x2012301fn);
    for (const bytes of [write(machine, { pteFormat: 'v4' }), convert({ pteFormat: 'v4' })])
      expect(entryIn(bytes, 0xc012_3000)).toBe(0x2012355en);
  });

  it('7.7: a supersection below 4 GB is expanded with its true PA, one above is refused', () => {
    const at = (pa: number): ArmMachine =>
      new ArmMachine({
        ...{ ...common, format: 'v6-afe' },
        mappings: [{ kva: 0xe500_0000, pa, kind: 'supersection', pages: 1, ap: 1, bits: 0xcn }],
      });
    const bytes = write(at(0x3400_0000));
    expect(entryIn(bytes, 0xe5ab_c000)).toBe(0x34abc01en);
    expect(entryIn(bytes, 0xe500_0000)).toBe(0x3400001en);
    expect(entryIn(bytes, 0xe5ff_f000)).toBe(0x34fff01en);
    const error = expectCode('UNSUPPORTED', () => write(at(0x12_3400_0000)));
    expect(error).toMatchObject({ address: 0xe500_0000n, physicalAddress: 0x12_3400_0000 });
    const wide = write(at(0x12_3400_0000), { pteFormat: 'lpae' });
    const found = expectCode('NOT_DUMPED', () => open(wide).resolve(0xe5ab_cdefn));
    expect(found.physicalAddress).toBe(0x12_34ab_cdef);
  });

  it('7.8: LPAE, a block expanded', () => {
    const block: ArmMapping = {
      ...{ kva: 0xc080_0000, pa: 0x2_4060_0000, kind: 'block2M', pages: 1, ap: 0, xn: true },
      bits: 0x30cn | (1n << 52n),
    };
    const bytes = write(new ArmMachine({ ...common, format: 'lpae', mappings: [block] }));
    expect(entryIn(bytes, 0xc081_2000, 8)).toBe(0x004000024061270fn);
    const dump = open(bytes);
    expect(dump.core).toMatchObject({ version: 2, pteFormat: 'lpae' });
    const error = expectCode('NOT_DUMPED', () => dump.resolve(0xc081_2345n));
    expect(error.physicalAddress).toBe(0x2_4061_2345);
  });
});

describe('minidumps of FreeBSD machines are those that the kernel writes', () => {
  const kernelOptions: MinidumpOptions = { from: KERNBASE, to: KVA_END, tolerateDamage: true };

  test.prop([seeds, kernelFormats, fc.boolean(), versions], runs(60))(
    'byte by byte',
    (seed, format, little, version) => {
      const machine = freebsdArm(seed, format, little, KVA_END);
      const window = { kernbase: KERNBASE, kvaEnd: KVA_END, xscale: format === 'xscale' };
      const kernel = kernelDump(machine, { ...window, version });
      const source = armSource(machine, BigInt(KERNBASE));
      const plan = planMinidump(source, armMinidump, { ...kernelOptions, version });
      const theirs = kernelBytes(kernel, little);
      expect(firstDifference(dumpToBytes(plan), theirs, kernel.header.msgbufsize)).toBe('');
      expect(plan.report).toMatchObject({ format: 'freebsd', version, pages: kernel.expected.pages.count });
    },
  );

  test.prop([seeds, kernelFormats, fc.boolean(), versions], runs(30))(
    'also from the kernel’s own dump',
    (seed, format, little, version) => {
      const machine = freebsdArm(seed, format, little, KVA_END);
      const window = { kernbase: KERNBASE, kvaEnd: KVA_END, xscale: format === 'xscale' };
      const kernel = kernelDump(machine, { ...window, version });
      const source = dumpSourceOf(open(kernel.file.bytes()).core);
      const plan = planMinidump(source, armMinidump, { version, pages: 'all', tolerateDamage: true });
      const theirs = kernelBytes(kernel, little);
      expect(firstDifference(dumpToBytes(plan), theirs, kernel.header.msgbufsize)).toBe('');
      expect(lossesOf(plan)).toEqual({});
    },
  );
});

function verify(bytes: Uint8Array): void {
  const cache = new BlockCache(new MemorySource(bytes));
  expect(verifyCore(cache, () => open(bytes).core).problems).toEqual([]);
}

describe('minidumps of random machines', () => {
  test.prop([seeds, formats, fc.boolean(), versions, superpages], runs(40))(
    'hold what the machine was built from, in the format of its own entries',
    (seed, format, littleEndian, version, parts) => {
      const way: ArmWay = { pteFormat: pteFormatOf(format), superpages: parts };
      checkDump(seed, format, littleEndian, version, way);
    },
  );

  test.prop([seeds, formats, fc.boolean(), versions, ways], runs(40))('hold it in other formats', checkDump);

  function checkDump(
    seed: number,
    format: ArmTableFormat,
    littleEndian: boolean,
    version: 1 | 2,
    way: ArmWay,
  ): void {
    const { machine, probes, lost } = randomArmMachine(seed, { format, littleEndian });
    const expected = new ArmExpectation(machine, lost, way);
    const options = { ...anyhow, ...way, version };
    const plan = planMinidump(armSource(machine), armMinidump, options);
    const bytes = dumpToBytes(plan);
    expect(bytes.length).toBe(plan.size);
    const { entry: made, ...found } = sums(lossesOf(plan));
    const { entry: wanted, ...losses } = expected.losses();
    expect(found).toEqual(losses);
    if (expected.sameFamily) expect(made).toBe(wanted);
    const kinds = plan.report.lossList!.map(({ kind }) => kind);
    const renumbered = (format === 'lpae') !== (way.pteFormat === 'lpae');
    if (renumbered && plan.report.mappings > 0) expect(kinds).toContain('memoryType');
    const dump = open(bytes);
    const byteOrder = littleEndian ? 'little' : 'big';
    expect(dump.core).toMatchObject({ version, byteOrder, warnings: [] });
    checkAnswers(dump, probes.map(BigInt), (kva) => expected.wanted(kva), machine.ram, expected.pages());
    checkPages(dump, machine.ram, expected.pages());
    verify(bytes);
    if (losses.mapping === undefined) return;
    const error = expectCode('UNSUPPORTED', () =>
      planMinidump(armSource(machine), armMinidump, { ...options, leaveOut: false }),
    );
    expect(error.message).toMatch(
      /0x[0-9a-f]+ to 0x[0-9a-f]+: (its PA is above 0x|1 KB pages that do not make up)/,
    );
    expect(error.hint).toMatch(/--kva/);
    expect(error.address).toBeDefined();
    expect(error.physicalAddress).toBeDefined();
  }

  test.prop([seeds, formats, fc.boolean(), ways, fc.nat(), fc.nat()], runs(40))(
    'hold a window',
    (seed, format, littleEndian, way, a, b) => {
      const { machine, probes, lost } = randomArmMachine(seed, { format, littleEndian });
      const pair = [probes[a % probes.length], probes[b % probes.length]];
      const [from, to] = pair.sort((x, y) => x - y);
      const plan = planMinidump(armSource(machine), armMinidump, { ...anyhow, ...way, from, to });
      const end = Math.ceil(to / 4096) * 4096;
      const expected = new ArmExpectation(machine, lost, way, roundDown(from), end);
      const { entry: made, ...found } = sums(lossesOf(plan));
      const { entry: wanted, ...losses } = expected.losses();
      expect(found).toEqual(losses);
      if (expected.sameFamily) expect(made).toBe(wanted);
      const dump = open(dumpToBytes(plan));
      checkAnswers(dump, probes.map(BigInt), (kva) => expected.wanted(kva), machine.ram, expected.pages());
      checkPages(dump, machine.ram, expected.pages());
    },
  );

  test.prop([seeds, formats, fc.boolean(), fc.array(fc.nat()), fc.array(fc.nat())], runs(20))(
    'hold the pages that were added, and not those that were dropped',
    (seed, format, littleEndian, adds, drops) => {
      const { machine, probes, lost } = randomArmMachine(seed, { format, littleEndian });
      const there = machine.ram.ranges.flatMap(({ start, end }) => pagesOf(start, end));
      const pick = (index: number): number => there[index % there.length] + (index % 4096);
      const added = { addPages: adds.map(pick), dropPages: drops.map(pick) };
      const plan = planMinidump(armSource(machine), armMinidump, { ...anyhow, ...added });
      const way = { pteFormat: pteFormatOf(format), superpages: 'freebsd' } as const;
      const expected = new ArmExpectation(machine, lost, way);
      const pages = expected.pages();
      for (const index of adds) pages.add(roundDown(pick(index)));
      for (const index of drops) pages.delete(roundDown(pick(index)));
      const dump = open(dumpToBytes(plan));
      checkPages(dump, machine.ram, pages);
      checkAnswers(dump, probes.map(BigInt), (kva) => expected.wanted(kva), machine.ram, pages);
    },
  );
});

describe('minidumps written from other dumps', () => {
  const convert = (source: DumpSource, options: MinidumpOptions = {}): Uint8Array<ArrayBuffer> =>
    dumpToBytes(planMinidump(source, armMinidump, { pages: 'all', ...anyhow, ...options }));

  test.prop([seeds, formats, fc.boolean(), versions, targets], runs(15))(
    'are the same from one another',
    (seed, format, littleEndian, version, pteFormat) => {
      const { machine } = randomArmMachine(seed, { format, littleEndian });
      const made = convert(armSource(machine), { version, pteFormat, pages: 'mapped' });
      // The table of the first one reaches over mappings that were left out.
      const first = convert(dumpSourceOf(open(made).core), { version });
      const again = dumpSourceOf(open(first).core);
      expect(firstDifference(convert(again, { version }), first, 0)).toBe('');
      expect(lossesOf(planMinidump(again, armMinidump, { ...anyhow, version, pages: 'all' }))).toEqual({});
      const { mapping } = lossesOf(planMinidump(armSource(machine), armMinidump, { ...anyhow, pteFormat }));
      if (mapping === undefined) expect(firstDifference(first, made, 0)).toBe('');
    },
  );

  test.prop([seeds, formats, fc.boolean(), versions, ways], runs(20))(
    'are the same by way of the portable format',
    (seed, format, littleEndian, version, way) => {
      const { machine } = randomArmMachine(seed, { format, littleEndian });
      const source = armSource(machine);
      const direct = convert(source, { version, ...way, pages: 'mapped' });
      const portable = dumpToBytes(planPortable(source, { exact: true, tolerateDamage: true }));
      const opened = openKvm(portable, { architectures: [] });
      expect(firstDifference(convert(dumpSourceOf(opened.core), { version, ...way }), direct, 0)).toBe('');
    },
  );

  test.prop([seeds, formats, fc.boolean(), fc.boolean(), superpages], runs(30))(
    'say the same by way of the portable format without exact entries',
    (seed, format, littleEndian, run, parts) => {
      const { machine, probes } = randomArmMachine(seed, { format, littleEndian });
      const source = armSource(machine);
      const direct = open(convert(source, { superpages: parts, pages: 'mapped' }));
      const portable = dumpToBytes(planPortable(source, { run, tolerateDamage: true }));
      const opened = openKvm(portable, { architectures: [] });
      const dump = open(convert(dumpSourceOf(opened.core), { superpages: parts }));
      // Old descriptors say more to this reader than they said to a processor without TEX.
      const old = ['v4', 'xscale', 'xscale3', 'v6-subpages'].includes(format);
      sameAnswers(dump, direct, probes.map(BigInt), old ? READ | WRITE | EXECUTE : -1);
    },
  );

  test.prop([seeds, formats, fc.boolean(), fc.double({ min: 0, max: 1, noNaN: true })], runs(20))(
    'leave out the pages that a cut file ends before',
    (seed, format, littleEndian, share) => {
      const { machine, probes, lost } = randomArmMachine(seed, { format, littleEndian });
      const whole = convert(armSource(machine), { pages: 'mapped' });
      const { offset, length } = open(whole).core.sections.at(-1)!;
      const cut = whole.slice(0, offset + Math.floor(length * share));
      const plan = planMinidump(dumpSourceOf(open(cut).core), armMinidump, { pages: 'all', ...anyhow });
      const kept = Math.floor((cut.length - offset) / 4096);
      expect(plan.report.pages).toBe(kept);
      expect(plan.report.dropped.truncated).toBe(length / 4096 - kept);
      const way = { pteFormat: pteFormatOf(format), superpages: 'freebsd' } as const;
      const expected = new ArmExpectation(machine, lost, way);
      const pages = new Set([...expected.pages()].sort((a, b) => a - b).slice(0, kept));
      const dump = open(dumpToBytes(plan));
      checkPages(dump, machine.ram, pages);
      checkAnswers(dump, probes.map(BigInt), (kva) => expected.wanted(kva), machine.ram, pages);
    },
  );
});

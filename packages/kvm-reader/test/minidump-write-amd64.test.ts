import { fc, test } from '@fast-check/vitest';
import { amd64, amd64Minidump } from '@libkvm/arch-amd64';
import { Amd64Machine, amd64Minidump as kernelDump, randomMachine, sampleMachine } from '@libkvm/fixtures';
import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  MemorySource,
  planMinidump,
  planPortable,
  protectionOf,
  Translation,
  verifyCore,
  type DumpPlan,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { same } from '../../minidump-core/test/same.js';
import { dumpSourceOfKvm, openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { checkAgreement } from './support/agree.js';
import { amd64World, asElf, sizeOf, type Amd64World, type Leaf } from './support/amd64-world.js';
import { freebsdLike, kernelOptions, unitOf, walkedSource } from './support/freebsd-like.js';
import { runs } from './support/long.js';
import { asSource, openAmd64 } from './support/open.js';

/** Machines walked through their page tables, written as FreeBSD/amd64 minidumps, and opened again. */

const TOP = 1n << 64n;
const VERSIONS = [1, 2, 3] as const;
const versions = fc.constantFrom(...VERSIONS);
const seeds = fc.integer();

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Where two files differ first, but for the padding behind the message buffer. */
function firstDifference(ours: Uint8Array, theirs: Uint8Array, ringBytes: number): string {
  const paddingEnd = 4096 + Math.ceil(ringBytes / 4096) * 4096;
  const mask = (bytes: Uint8Array): Buffer => Buffer.from(bytes).fill(0, 4096 + ringBytes, paddingEnd);
  const [a, b] = [mask(ours), mask(theirs)];
  if (a.equals(b)) return '';
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return `${ours.length} and ${theirs.length} bytes, at 0x${at.toString(16)}: ${hex(a.subarray(at, at + 8))}, ${hex(b.subarray(at, at + 8))}`;
}

/** Version 1 has 262144 entries for each: too many to be walked in most tests. */
function hasGigabytePages({ description }: Amd64Machine): boolean {
  return description.mappings.some(({ pageSize }) => pageSize === 0x4000_0000);
}

function planLike(machine: Amd64Machine, options: MinidumpOptions = {}): DumpPlan {
  return planMinidump(walkedSource(machine), amd64Minidump, {
    ...kernelOptions(machine),
    tolerateDamage: true,
    ...options,
  });
}

describe('minidumps of FreeBSD machines are those that the kernel writes', () => {
  it.each(VERSIONS)('version %i of the sample machine, byte by byte', (version) => {
    const { description } = sampleMachine(3).machine;
    // Version 1 has no room for 2 TB of KVA: of that, the last 2 GB, with the kernel image.
    const [kernbase, mappings] =
      version === 1
        ? [0xffff_ffff_8000_0000n, description.mappings.filter(({ kva }) => kva >= 0xffff_ffff_8000_0000n)]
        : [description.kernbase, description.mappings];
    const whole = new Amd64Machine({ ...description, kernbase, mappings, kvaEnd: TOP });
    const machine = freebsdLike(whole, unitOf(version));
    const kernel = kernelDump(machine, { version });
    const plan = planLike(machine, { version });
    expect(firstDifference(dumpToBytes(plan), kernel.file.bytes(), kernel.header.msgbufsize)).toBe('');
    expect(kernel.expected.pages.count).toBeGreaterThan(version === 1 ? 1000 : 5000);
    expect(Object.keys(lossesOf(plan))).toEqual(
      version === 1 ? ['protection', 'global', 'pageSize'] : ['pageSize'],
    );
  });

  test.prop([seeds, versions], runs(40))('version by version, of random machines', (seed, version) => {
    const machine = freebsdLike(randomMachine(seed).machine, unitOf(version));
    const kernel = kernelDump(machine, { version });
    const ours = dumpToBytes(planLike(machine, { version }));
    expect(firstDifference(ours, kernel.file.bytes(), kernel.header.msgbufsize)).toBe('');
  });

  test.prop([seeds, versions], runs(25))('also from the kernel’s own dump', (seed, version) => {
    const machine = freebsdLike(randomMachine(seed).machine, unitOf(version));
    fc.pre(version > 1 || !hasGigabytePages(machine));
    const kernel = kernelDump(machine, { version });
    const bytes = kernel.file.bytes();
    const source = dumpSourceOf(openAmd64(asSource(bytes)).core);
    const plan = planMinidump(source, amd64Minidump, { version, pages: 'all', tolerateDamage: true });
    expect(firstDifference(dumpToBytes(plan), bytes, kernel.header.msgbufsize)).toBe('');
    expect(plan.report.lossList).toEqual([]);
  });
});

describe('minidumps of one version written in another', () => {
  test.prop([seeds, versions, versions], runs(30))('answer as before', (seed, from, to) => {
    const { machine, probes } = randomMachine(seed);
    fc.pre(!hasGigabytePages(machine) || (from > 1 && to > 1));
    const before = openAmd64(kernelDump(machine, { version: from }).file.bytes());
    const plan = planMinidump(dumpSourceOf(before.core), amd64Minidump, {
      ...{ version: to, pages: 'all', superpages: 'attributes', tolerateDamage: true },
    });
    const after = openAmd64(dumpToBytes(plan));
    // In version 2 the direct map ends with RAM where page tables are made up behind it.
    const { base, end } = after.core.directMap!;
    const cut = to === 2 && plan.report.remarks !== undefined;
    const { dmap } = machine.description;
    if (end !== dmap.end) expect(Number(end - base)).toBeGreaterThanOrEqual(machine.ram.ranges.at(-1)!.end);
    for (const kva of probes) {
      const wanted = answerOf(before, kva, to);
      const beyond = cut && wanted.startsWith('absent') && kva >= end && kva < dmap.end;
      same(answerOf(after, kva, to), beyond ? 'nothing' : wanted, kva.toString(16));
    }
    const lost = Object.keys(lossesOf(plan));
    expect(lost.filter((kind) => kind !== 'pageSize' && kind !== 'entry')).toEqual([]);
    // Entries are made anew only where the PDE of a page table that is left out takes rights away.
    if (to > 1 && from > 1) expect(lost).toEqual([]);
  });
});

/** What is said of an address, but for the size of its page in version 1. Of a table that is not there, nothing is. */
function answerOf(kvm: Kvm, kva: bigint, version: number): string {
  try {
    const { physicalAddress, protection, pageSize } = kvm.resolve(kva);
    return [physicalAddress, protection, version > 1 && pageSize, kvm.readU8(kva)].join(' ');
  } catch (error) {
    if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL')) throw error;
    return error.code === 'NOT_DUMPED' && error.physicalAddress !== undefined
      ? `absent ${error.physicalAddress}`
      : 'nothing';
  }
}

/** A window of 4 GB or less that mappings of a world lie in. */
interface Window {
  readonly from: bigint;
  readonly to: bigint;
}

/** Four GB around a mapping, or one that cuts mappings. */
function windowOf({ leaves, levels }: Amd64World, pick: number, cut: number): Window {
  const { kva } = leaves[pick % leaves.length];
  const half = 1n << BigInt(11 + 9 * levels);
  const end = kva < half ? half : TOP;
  const base = kva - (kva % 0x1_0000_0000n);
  const from = cut === 0 ? base : kva + BigInt((cut % 700) * 4096);
  const to = base + 0x1_0000_0000n - BigInt(cut * 4096);
  return { from: from < to ? from : base, to: to < end ? to : end };
}

const later = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const earlier = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const endOf = ({ kva, level }: Leaf): bigint => kva + BigInt(sizeOf(level));

/** What the description says of a dump of a world: answers and losses. */
class Expected {
  constructor(
    readonly world: Amd64World,
    readonly version: number,
    readonly window: Window,
    readonly attributes: boolean,
  ) {}

  leafAt(kva: bigint): { leaf: Leaf; index: number; pa: number } | undefined {
    if (kva < this.window.from || kva >= this.window.to) return undefined;
    const { leaves } = this.world;
    const index = leaves.findLastIndex((leaf) => leaf.kva <= kva);
    if (index < 0 || kva >= endOf(leaves[index])) return undefined;
    return { leaf: leaves[index], index, pa: leaves[index].pa + Number(kva - leaves[index].kva) };
  }

  /** Whether the part of a superpage around an address stays a page of 2 MB. */
  isLarge(leaf: Leaf, kva: bigint): boolean {
    const start = kva - (kva % 0x20_0000n);
    const { from, to } = this.window;
    return this.version > 1 && leaf.level > 1 && start >= from && start + 0x20_0000n <= to;
  }

  protectionOf(leaf: Leaf): string {
    if (this.isFixed(leaf)) return 'rwx';
    return protectionOf(1 | (leaf.writable ? 2 : 0) | (leaf.executable ? 4 : 0));
  }

  flagsOf(leaf: Leaf): number {
    if (this.isFixed(leaf)) return 7;
    const { writable, executable, user, global, memoryType = 0 } = leaf;
    const rights = 1 + (writable ? 2 : 0) + (executable ? 4 : 0) + (user ? 8 : 0);
    return rights + (global ? 16 : 0) + memoryType * 256;
  }

  /** Version 1 gives parts of superpages the entry 0x63. */
  private isFixed(leaf: Leaf): boolean {
    return this.version === 1 && !this.attributes && leaf.level > 1;
  }

  /** Bytes of KVA by kind of loss. */
  losses(): Record<string, number> {
    const lost: Record<string, number> = {};
    const add = (kind: string, bytes: number): void => {
      if (bytes > 0) lost[kind] = (lost[kind] ?? 0) + bytes;
    };
    this.world.leaves.forEach((leaf, i) => {
      const from = later(leaf.kva, this.window.from);
      const to = earlier(endOf(leaf), this.window.to);
      if (from >= to) return;
      const bytes = Number(to - from);
      const fixed = this.isFixed(leaf);
      if (fixed && !(leaf.writable && leaf.executable)) add('protection', bytes);
      if (fixed && leaf.user) add('user', bytes);
      if (fixed && leaf.global) add('global', bytes);
      if (fixed && leaf.memoryType !== 0) add('memoryType', bytes);
      if (leaf.level === 3 || (leaf.level === 2 && !this.isWhole(leaf))) add('pageSize', bytes);
      // Rights that upper levels took away: in versions 2 and 3 those of a page table are taken away in its PDE.
      const kept = leaf.level === 1 ? this.version > 1 : !this.isWhole(leaf) || leaf.level === 3;
      if (!kept && ownRights(this.world.entries[i]) !== rightsOf(leaf)) add('entry', bytes);
    });
    return lost;
  }

  private isWhole({ kva, level }: Leaf): boolean {
    const { from, to } = this.window;
    return this.version > 1 && kva >= from && kva + BigInt(sizeOf(level)) <= to;
  }
}

const ownRights = (entry: bigint): string =>
  [(entry & 2n) !== 0n, entry >> 63n === 0n, (entry & 4n) !== 0n].map(Number).join('');
const rightsOf = ({ writable, executable, user }: Leaf): string =>
  [writable, executable, user].map(Number).join('');

function lossesOf(plan: DumpPlan): Record<string, number> {
  const lost: Record<string, number> = {};
  for (const { kind, bytes } of plan.report.lossList ?? []) {
    // Notes of an image, e.g. its registers, have no place in these files.
    if (kind !== 'note') lost[kind] = (lost[kind] ?? 0) + bytes;
  }
  return lost;
}

function openImage(world: Amd64World): Kvm {
  const image = { architecture: 'amd64', registers: world.registers };
  return openKvm(asSource(asElf(world)), { architectures: [amd64], image });
}

function probesOf({ leaves }: Amd64World, { from, to }: Window): bigint[] {
  const edges = [from, to];
  for (const leaf of leaves)
    edges.push(leaf.kva, endOf(leaf), (leaf.kva + endOf(leaf)) / 2n, leaf.kva + 0x20_0000n);
  const around = edges.flatMap((edge) => [edge - 1n, edge, edge + 0xabcn]);
  return [...new Set(around)].filter((kva) => kva >= 0n && kva < TOP);
}

function flagsAt(dump: Kvm, kva: bigint): number {
  const out = new Translation();
  dump.core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
  return out.flags;
}

/** Asks a dump about one address; `pages` are the PAs of the pages that are to be in it. */
function checkAddress(dump: Kvm, known: Expected, pages: ReadonlySet<number>, kva: bigint): void {
  const wanted = known.leafAt(kva);
  const where = kva.toString(16);
  let resolved;
  try {
    resolved = dump.resolve(kva);
  } catch (error) {
    if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL')) throw error;
    same(error.code === 'NOT_DUMPED', wanted !== undefined, where, error.code);
    same(error.physicalAddress, wanted?.pa, where);
    if (wanted) same(pages.has(wanted.pa - (wanted.pa % 4096)), false, where, 'is missing');
    return;
  }
  if (!wanted) throw new Error(`${where} is there, and should not be`);
  const { leaf, pa, index } = wanted;
  const large = known.isLarge(leaf, kva);
  same(resolved.physicalAddress, pa, where);
  same(resolved.protection, known.protectionOf(leaf), where);
  same(resolved.pageSize, large ? 0x20_0000 : 0x1000, where);
  same(flagsAt(dump, kva), known.flagsOf(leaf), where);
  const entry = known.world.entries[index];
  const sameLevel = large ? leaf.level === 2 : leaf.level === 1;
  if (sameLevel && ownRights(entry) === rightsOf(leaf)) same(resolved.entry, entry, where);
  const page = known.world.pages.get(pa - (pa % 4096))!;
  same(dump.readU8(kva), page[pa % 4096], where);
}

/** The pages of the image that mappings in a window reach. */
function mappedPages({ leaves, pages }: Amd64World, { from, to }: Window): Set<number> {
  const reached = leaves
    .map((leaf) => [later(leaf.kva, from), earlier(endOf(leaf), to), leaf] as const)
    .filter(([start, end]) => start < end)
    .map(([start, end, { kva, pa }]) => [pa + Number(start - kva), pa + Number(end - kva)]);
  return new Set([...pages.keys()].filter((pa) => reached.some(([start, end]) => pa >= start && pa < end)));
}

interface Way {
  readonly seed: number;
  readonly version: 1 | 2 | 3;
  readonly pick: number;
  readonly cut: number;
  readonly attributes: boolean;
}
const ways = fc.record({
  ...{ seed: seeds, version: versions, pick: fc.nat(), attributes: fc.boolean() },
  cut: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 5000 })),
});

function optionsOf({ version, attributes }: Way, { from, to }: Window): MinidumpOptions {
  const superpages = attributes ? 'attributes' : 'freebsd';
  return { version, superpages, from, to, tolerateDamage: true };
}

function expectedOf(world: Amd64World, way: Way): Expected {
  return new Expected(world, way.version, windowOf(world, way.pick, way.cut), way.attributes);
}

/** The pages in a dump without those made up, and the bytes of each compared with the world's. */
function dumpedPages(dump: Kvm, world: Amd64World): { held: Set<number>; made: number } {
  const { memory } = dump.core;
  const held = new Set<number>();
  let made = 0;
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
    const page = world.pages.get(pa);
    if (!page) made++;
    else same(Buffer.compare(dump.readPhysical(pa, 4096), page), 0, 'PA', pa);
    held.add(pa);
  }
  return { held, made };
}

function checkDump(bytes: Uint8Array, known: Expected, pages: ReadonlySet<number>): Kvm {
  const dump = openKvm(bytes, { architectures: [amd64] });
  expect(dump.core).toMatchObject({ format: 'freebsd', version: known.version, warnings: [] });
  for (const kva of probesOf(known.world, known.window)) checkAddress(dump, known, pages, kva);
  expect(verifyCore(new BlockCache(new MemorySource(bytes)), () => dump.core, crc32).problems).toEqual([]);
  return dump;
}

describe('minidumps of random machines with any rights on any level', () => {
  test.prop([ways], runs(40))('say what the machine was built from, and no more is lost than said', (way) => {
    const world = amd64World(way.seed);
    const known = expectedOf(world, way);
    const plan = planMinidump(
      dumpSourceOf(openImage(world).core),
      amd64Minidump,
      optionsOf(way, known.window),
    );
    const dump = checkDump(dumpToBytes(plan), known, mappedPages(world, known.window));
    const { held, made } = dumpedPages(dump, world);
    for (const pa of mappedPages(world, known.window)) same(held.has(pa), true, 'PA', pa);
    if (way.cut === 0) expect(made).toBe(0);
    if (way.version === 1) expect(held).toEqual(mappedPages(world, known.window));
    const lost = lossesOf(plan);
    // Where the window cuts a page table, a new one is made: entries too, where upper levels take rights away.
    if (way.cut > 0 && way.version > 1) {
      expect(lost.entry ?? 0).toBeGreaterThanOrEqual(known.losses().entry ?? 0);
      expect({ ...lost, entry: 0 }).toEqual({ ...known.losses(), entry: 0 });
    } else expect(lost).toEqual(known.losses());
  });

  test.prop([ways], runs(15))('are read by a reader that shares no code', (way) => {
    const world = amd64World(way.seed);
    const { window } = expectedOf(world, way);
    const plan = planMinidump(dumpSourceOf(openImage(world).core), amd64Minidump, optionsOf(way, window));
    expect(checkAgreement(dumpToBytes(plan), probesOf(world, window))).toBeUndefined();
  });

  test.prop([ways], runs(25))('are the same when written from one another', (way) => {
    const world = amd64World(way.seed);
    const { window } = expectedOf(world, way);
    const options = optionsOf(way, window);
    const first = dumpToBytes(planMinidump(dumpSourceOf(openImage(world).core), amd64Minidump, options));
    const again = planMinidump(
      dumpSourceOf(openKvm(asSource(first), { architectures: [amd64] }).core),
      amd64Minidump,
      {
        ...{ version: way.version, pages: 'all', tolerateDamage: true },
      },
    );
    expect(Buffer.compare(dumpToBytes(again), first)).toBe(0);
    expect(again.report.lossList).toEqual([]);
  });

  test.prop([ways, fc.boolean(), fc.boolean()], runs(30))(
    'come out of portable minidumps too',
    (way, exact, run) => {
      const world = amd64World(way.seed);
      const known = expectedOf(world, way);
      const { from, to } = known.window;
      const image = openImage(world);
      const portable = dumpToBytes(
        planPortable(dumpSourceOf(image.core), { from, to, exact, run, tolerateDamage: true }),
      );
      const core = openKvm(portable, { architectures: [] }).core;
      const plan = planMinidump(dumpSourceOf(core), amd64Minidump, optionsOf(way, known.window));
      const bytes = dumpToBytes(plan);
      if (way.version === 1 && exact) {
        // Nothing is said of page tables in version 1: both ways give the same file.
        const direct = planMinidump(dumpSourceOf(image.core), amd64Minidump, optionsOf(way, known.window));
        expect(Buffer.compare(bytes, dumpToBytes(direct))).toBe(0);
        return;
      }
      const withEntries = exact ? known : withoutEntries(known);
      const dump = checkDump(bytes, withEntries, mappedPages(world, known.window));
      const { held } = dumpedPages(dump, world);
      for (const pa of mappedPages(world, known.window)) same(held.has(pa), true, 'PA', pa);
      const { entry: _, ...lost } = lossesOf(plan);
      const { entry: __, ...expected } = known.losses();
      expect(lost).toEqual(expected);
    },
  );

  test.prop([ways, fc.array(fc.nat()), fc.array(fc.nat())], runs(25))(
    'hold the pages that were added, and not those that were dropped',
    (way, adds, drops) => {
      const world = amd64World(way.seed);
      const known = expectedOf(world, way);
      const there = [...world.pages.keys()];
      const pick = (index: number): number => there[index % there.length];
      const options = {
        ...optionsOf(way, known.window),
        ...{ addPages: adds.map(pick), dropPages: drops.map(pick) },
      };
      const plan = planMinidump(dumpSourceOf(openImage(world).core), amd64Minidump, options);
      const pages = mappedPages(world, known.window);
      for (const pa of options.addPages) pages.add(pa);
      for (const pa of options.dropPages) pages.delete(pa);
      const dump = checkDump(dumpToBytes(plan), known, pages);
      const { held } = dumpedPages(dump, world);
      for (const pa of options.dropPages) same(held.has(pa), false, 'dropped', pa);
      for (const pa of pages) same(held.has(pa), true, 'PA', pa);
      // Version 1 refers to no page tables.
      if (way.version === 1) expect(held).toEqual(pages);
    },
  );

  test.prop([seeds, versions, fc.nat(), fc.nat()], runs(30))(
    'of memory that is cut short say nothing wrong',
    (seed, version, pick, cut) => {
      const world = amd64World(seed);
      const known = expectedOf(world, { seed, version, pick, cut: 0, attributes: true });
      const elf = asElf(world);
      const kvm = openKvm(asSource(elf.subarray(0, elf.length - (cut % (elf.length - 8192)))), {
        ...{ architectures: [amd64], image: { architecture: 'amd64', registers: world.registers } },
      });
      const options = optionsOf({ seed, version, pick, cut, attributes: true }, known.window);
      const plan = planMinidump(dumpSourceOf(kvm.core), amd64Minidump, options);
      const dump = openKvm(dumpToBytes(plan), { architectures: [amd64] });
      for (const kva of probesOf(world, known.window)) {
        const wanted = known.leafAt(kva);
        try {
          const { physicalAddress } = dump.resolve(kva);
          same(physicalAddress, wanted?.pa, kva);
          same(
            dump.readU8(kva),
            world.pages.get(physicalAddress - (physicalAddress % 4096))?.[physicalAddress % 4096],
          );
        } catch (error) {
          if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL')) throw error;
          if (error.code === 'NOT_DUMPED') same(error.physicalAddress, wanted?.pa, kva);
        }
      }
    },
  );
});

/** The same without exact entries to compare: a portable minidump may lack them. */
function withoutEntries(known: Expected): Expected {
  // 0x8…6: rights that no leaf has together, so that no entry is taken for exact.
  const entries = known.world.leaves.map((leaf) => (rightsOf(leaf) === '101' ? 0n : 0x8000_0000_0000_0006n));
  return new Expected({ ...known.world, entries }, known.version, known.window, known.attributes);
}

describe('message buffers', () => {
  it.each(VERSIONS)('go over, with the place where they start, into version %i', (version) => {
    const machine = freebsdLike(randomMachine(7).machine, unitOf(version));
    const ring = machine.messageRing!;
    ring.write('x'.repeat(ring.size));
    ring.write('and on\n');
    const bytes = kernelDump(machine, { version }).file.bytes();
    const kvm = openAmd64(bytes);
    const options: MinidumpOptions = { version, pages: 'all', tolerateDamage: true };
    const again = openAmd64(dumpToBytes(planMinidump(dumpSourceOfKvm(kvm), amd64Minidump, options)));
    expect(again.messageBuffer()?.text).toBe(ring.text);
    expect(again.messageBuffer()?.order).toBe('struct');
    const third = planMinidump(dumpSourceOfKvm(again), amd64Minidump, options);
    expect(Buffer.compare(dumpToBytes(third), again.core.cache.bytes)).toBe(0);
  });
});

import { crc32 } from 'node:zlib';
import { fc, test } from '@fast-check/vitest';
import { amd64 } from '@libkvm/arch-amd64';
import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  MemorySource,
  planPortable,
  protectionOf,
  Translation,
  verifyCore,
  type PlanOptions,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { ModelDump } from '../../minidump-core/test/portable-model.js';
import { same } from '../../minidump-core/test/same.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { amd64World, asElf, asRaw, sizeOf, type Amd64World, type Leaf } from './support/amd64-world.js';
import { runs } from './support/long.js';
import { asSource } from './support/open.js';

/** Page tables in an image -> walker -> plan -> file -> reader without any architecture: what the description says. */

const TOP = 1n << 64n;
const seeds = fc.integer();
const kinds = fc.record({ run: fc.boolean(), exact: fc.boolean() });

function openImage(world: Amd64World, raw: boolean): Kvm {
  const image = { architecture: 'amd64', registers: world.registers };
  if (!raw) return openKvm(asSource(asElf(world)), { architectures: [amd64], image });
  const parts = asRaw(world);
  return openKvm(parts.bytes, { architectures: [amd64], image, raw: parts.raw });
}

function write(image: Kvm, options: PlanOptions): Uint8Array<ArrayBuffer> {
  return dumpToBytes(planPortable(dumpSourceOf(image.core), options));
}

const endOf = ({ kva, level }: Leaf): bigint => kva + BigInt(sizeOf(level));

/** What the description says of an address in the dump. */
interface Known {
  readonly leaf: Leaf;
  readonly index: number;
  readonly pa: number;
  readonly page: Uint8Array | undefined;
}

class Description {
  constructor(
    readonly world: Amd64World,
    /** PAs of the pages in the dump. */
    readonly pages: ReadonlySet<number>,
    readonly from = 0n,
    readonly to = TOP,
  ) {}

  at(kva: bigint): Known | undefined {
    const { leaves, pages } = this.world;
    if (kva < this.from || kva >= this.to) return undefined;
    const index = leaves.findLastIndex((leaf) => leaf.kva <= kva);
    if (index < 0 || kva >= endOf(leaves[index])) return undefined;
    const leaf = leaves[index];
    const pa = leaf.pa + Number(kva - leaf.kva);
    const frame = pa - (pa % 4096);
    return { leaf, index, pa, page: this.pages.has(frame) ? pages.get(frame) : undefined };
  }
}

/** The pages of the image that mappings in a window reach. */
function mappedPages({ leaves, pages }: Amd64World, from = 0n, to = TOP): Set<number> {
  const windows = leaves
    .map((leaf) => {
      const cut = leaf.kva < from ? Number(from - leaf.kva) : 0;
      const length = Number((endOf(leaf) < to ? endOf(leaf) : to) - leaf.kva);
      return [leaf.pa + cut, leaf.pa + length] as const;
    })
    .filter(([start, end]) => start < end);
  return new Set([...pages.keys()].filter((pa) => windows.some(([start, end]) => pa >= start && pa < end)));
}

function probesOf({ leaves, levels }: Amd64World): bigint[] {
  const half = 1n << BigInt(11 + 9 * levels);
  const edges = [0n, half, TOP - half, TOP, 1n << 63n];
  for (const leaf of leaves) edges.push(leaf.kva, endOf(leaf), (leaf.kva + endOf(leaf)) / 2n);
  const around = edges.flatMap((edge) => [edge - 1n, edge, edge + 0xabcn]);
  return [...new Set(around)].filter((kva) => kva >= 0n && kva < TOP);
}

const protection = ({ writable, executable }: Leaf): string =>
  protectionOf(1 | (writable ? 2 : 0) | (executable ? 4 : 0));

const flagsOf = ({ writable, executable, user, global, memoryType = 0 }: Leaf): number =>
  1 + (writable ? 2 : 0) + (executable ? 4 : 0) + (user ? 8 : 0) + (global ? 16 : 0) + memoryType * 256;

/** All flags of a mapping, of which `resolve` tells only the kernel's rights. */
function flagsAt(dump: Kvm, kva: bigint): number {
  const out = new Translation();
  dump.core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
  return out.flags;
}

/** Asks the dump about one address: the answer, or what is said of the failure. */
function checkAddress(dump: Kvm, known: Description, kva: bigint, exact: boolean): void {
  const wanted = known.at(kva);
  let resolved;
  try {
    resolved = dump.resolve(kva);
  } catch (error) {
    if (!isKvmError(error)) throw error;
    same(error.code, wanted ? 'NOT_DUMPED' : 'NOT_MAPPED', kva);
    same(error.physicalAddress, wanted?.pa, kva);
    same(wanted?.page, undefined, kva);
    return;
  }
  if (!wanted?.page) throw new Error(`${kva.toString(16)} is there, and should not be`);
  same(resolved.physicalAddress, wanted.pa, kva);
  same(resolved.protection, protection(wanted.leaf), kva);
  same(resolved.pageSize, sizeOf(wanted.leaf.level), kva);
  same(resolved.level, wanted.leaf.level, kva);
  same(resolved.entry, exact ? known.world.entries[wanted.index] : undefined, kva);
  same(flagsAt(dump, kva), flagsOf(wanted.leaf), kva);
  same(dump.readU8(kva), wanted.page[wanted.pa % 4096], kva);
  same(dump.core.cache.bytes[resolved.fileOffset!], wanted.page[wanted.pa % 4096], kva);
}

/** Reads across pages and mappings: the bytes up to the first that is not there. */
function checkRead(dump: Kvm, known: Description, kva: bigint, length: number): void {
  const { bytes, fault } = dump.readPartial(kva, length);
  for (let done = 0; done < bytes.length;) {
    const wanted = known.at(kva + BigInt(done));
    if (!wanted?.page) throw new Error(`${(kva + BigInt(done)).toString(16)} is there, and should not be`);
    const inPage = wanted.pa % 4096;
    const count = Math.min(bytes.length - done, 4096 - inPage);
    const part = wanted.page.subarray(inPage, inPage + count);
    same(Buffer.compare(bytes.subarray(done, done + count), part), 0, kva, done);
    done += count;
  }
  const end = kva + BigInt(bytes.length);
  same(fault === undefined, bytes.length === length, kva);
  if (fault) same(end < TOP && known.at(end)?.page !== undefined, false, end);
}

function checkDump(bytes: Uint8Array, known: Description, exact: boolean): Kvm {
  const dump = openKvm(bytes, { architectures: [] });
  expect(dump.core).toMatchObject({ format: 'portable', architecture: 'amd64', bits: 64, warnings: [] });
  const { memory } = dump.core;
  const found: number[] = [];
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
    found.push(pa);
    same(Buffer.compare(dump.readPhysical(pa, 4096), known.world.pages.get(pa)!), 0, 'PA', pa);
  }
  expect(found).toEqual([...known.pages].sort((a, b) => a - b));
  const probes = probesOf(known.world);
  for (const kva of probes) checkAddress(dump, known, kva, exact);
  for (const [i, kva] of probes.entries())
    if (i % 7 === 0) checkRead(dump, known, kva, [3, 5000, 40000][i % 3]);
  const cache = new BlockCache(new MemorySource(bytes));
  expect(verifyCore(cache, () => dump.core, crc32).problems).toEqual([]);
  return dump;
}

/** The rows of a page walk, but for the offsets: another file has other ones. */
function* rowsOf(kvm: Kvm): Generator<string> {
  for (const { kva, pa, protection: rights, length, pageSize, offset } of kvm.pages({ from: 0 })) {
    yield [kva?.toString(16), pa.toString(16), rights, length, pageSize, offset !== undefined].join(' ');
  }
}

describe('portable minidumps of random amd64 machines', () => {
  test.prop([seeds, kinds, fc.boolean()], runs(40))(
    'hold what the machine was built from',
    (seed, kind, raw) => {
      const world = amd64World(seed);
      const image = openImage(world, raw);
      const bytes = write(image, { ...kind, tolerateDamage: true });
      const known = new Description(world, mappedPages(world));
      const dump = checkDump(bytes, known, kind.exact && world.leaves.length > 0);
      expect(dump.core.elfMachine).toBe(62);
      // The walk over the file gives the rows of the walk over the page tables, superpages whole.
      const theirs = [...rowsOf(image)];
      expect(theirs.length).toBeGreaterThan(0);
      expect([...rowsOf(dump)]).toEqual(theirs);
      const report = planPortable(dumpSourceOf(image.core), { ...kind, tolerateDamage: true }).report;
      expect(report).toMatchObject({ mappings: world.leaves.length, pages: known.pages.size });
    },
  );

  test.prop([seeds, kinds, fc.nat(), fc.nat()], runs(25))('hold a window', (seed, kind, a, b) => {
    const world = amd64World(seed);
    const probes = probesOf(world);
    const pair = [probes[a % probes.length], probes[b % probes.length]];
    const [from, to] = pair.sort((x, y) => (x < y ? -1 : 1));
    const bytes = write(openImage(world, false), { ...kind, from, to, tolerateDamage: true });
    const [first, end] = [from & ~0xfffn, (to + 0xfffn) & ~0xfffn];
    const known = new Description(world, mappedPages(world, first, end), first, end);
    checkDump(bytes, known, kind.exact && new ModelDump(bytes).segments.length > 0);
  });

  test.prop([seeds, kinds, fc.array(fc.nat()), fc.array(fc.nat())], runs(25))(
    'hold the pages that were added, and not those that were dropped',
    (seed, kind, adds, drops) => {
      const world = amd64World(seed);
      const there = [...world.pages.keys()];
      const pick = (index: number): number => there[index % there.length] + (index % 4096);
      const frame = (pa: number): number => pa - (pa % 4096);
      const options = { ...kind, addPages: adds.map(pick), dropPages: drops.map(pick), tolerateDamage: true };
      const bytes = write(openImage(world, false), options);
      const pages = mappedPages(world);
      for (const index of adds) pages.add(frame(pick(index)));
      for (const index of drops) pages.delete(frame(pick(index)));
      checkDump(bytes, new Description(world, pages), kind.exact && world.leaves.length > 0);
    },
  );

  test.prop([seeds, fc.nat()], runs(25))('go on over a table that is lost', (seed, index) => {
    const world = amd64World(seed);
    const tables = [...world.pages.keys()].filter((pa) => pa >= 0x10_0000 && pa < 0x1000_0000);
    const lost = tables[index % tables.length];
    const pages = new Map(world.pages);
    pages.delete(lost);
    const damaged = { ...world, pages };
    const image = openImage(damaged, false);
    const plan = planPortable(dumpSourceOf(image.core), { tolerateDamage: true });
    expect(plan.report.damage.tablesAbsent).toBeGreaterThanOrEqual(1);
    const dump = openKvm(dumpToBytes(plan), { architectures: [] });
    expect([...rowsOf(dump)]).toEqual([...rowsOf(image)]);
    for (const leaf of world.leaves) {
      const known = new Description(damaged, new Set()).at(leaf.kva)!;
      try {
        const { physicalAddress } = dump.resolve(leaf.kva);
        same(physicalAddress, known.pa, leaf.kva);
      } catch (error) {
        if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED')) throw error;
      }
    }
  });

  test.prop([seeds, kinds], runs(20))('are the same when written from one another', (seed, kind) => {
    const world = amd64World(seed);
    const image = openImage(world, false);
    const first = write(image, { ...kind, tolerateDamage: true });
    const again = write(openKvm(asSource(first), { architectures: [] }), { ...kind, tolerateDamage: true });
    expect(Buffer.compare(again, first)).toBe(0);
    // By way of the other kind of segments too.
    const other = write(openKvm(first, { architectures: [] }), {
      ...kind,
      run: !kind.run,
      tolerateDamage: true,
    });
    const back = write(openKvm(other, { architectures: [] }), { ...kind, tolerateDamage: true });
    expect(Buffer.compare(back, first)).toBe(0);
  });
});

describe('page tables that nothing can be planned from', () => {
  const world = amd64World(1);
  const openWith = (CR3: bigint): Kvm =>
    openKvm(asElf(world), {
      architectures: [amd64],
      image: { architecture: 'amd64', registers: { ...world.registers, CR3 } },
    });

  it.each([
    ['no page of RAM', 0xdead000n],
    [
      'a page without tables',
      BigInt([...world.pages.keys()].find((pa) => pa >= 0x1000_0000 || pa < 0x8_0000)!),
    ],
  ])('are refused where CR3 names %s, and a full dump is pointed at', (_name, CR3) => {
    let error: unknown;
    try {
      planPortable(dumpSourceOf(openWith(CR3).core));
    } catch (thrown) {
      error = thrown;
    }
    if (!isKvmError(error, 'CORRUPT')) throw new Error(`not refused: ${String(error)}`);
    expect(error.message).toMatch(/too damaged .*: \d+ mappings to \d+ pages found, \d+ tables missing/);
    expect(error.hint).toMatch(/--format elf/);
  });

  it('are refused where they refer to each other without end', () => {
    const page = new Uint8Array(4096);
    for (let i = 0; i < 41; i++) new DataView(page.buffer).setBigUint64(i * 8, 0x1063n, true);
    const kvm = openKvm(page, {
      ...{ architectures: [amd64], raw: [{ pa: 0x1000 }] },
      image: { architecture: 'amd64', registers: { CR3: 0x1000n } },
    });
    const plan = (options: PlanOptions): unknown => planPortable(dumpSourceOf(kvm.core), options);
    expect(() => plan({ from: 0, to: 1n << 47n })).toThrow(/without end/);
  });

  it('leave a window that can be planned', () => {
    const { leaves } = world;
    const kvm = openImage(world, false);
    const plan = planPortable(dumpSourceOf(kvm.core), {
      from: leaves[0].kva,
      to: endOf(leaves[0]),
      tolerateDamage: true,
    });
    expect(plan.report.mappings).toBe(1);
  });
});

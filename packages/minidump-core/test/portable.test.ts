import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import {
  BlockCache,
  dumpToBytes,
  KvaParts,
  kvaOf,
  MAPPED,
  Mapping,
  MemorySource,
  planPortable,
  portableFormat,
  Translation,
  UNMAPPED,
  verifyCore,
  type AddressSpace,
  type Core,
  type PlanOptions,
} from '../src/index.js';
import { ModelDump, type ModelLeaf } from './portable-model.js';
import {
  max,
  min,
  pagesOf,
  ramByte,
  randomWorld,
  sourceOf,
  topOf,
  type ToyMapping,
  type ToyWorld,
} from './portable-world.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { PlainSource } from './sources.js';

/** Random machines that have nothing of any real one: written, and read by the library and by the literal model. */

const seeds = fc.integer();

const kinds = fc.record({ run: fc.boolean(), exact: fc.boolean() });

/** What the description says of an address within a window. */
function expected(
  mappings: readonly ToyMapping[],
  kva: bigint,
): { mapping: ToyMapping; pa: number } | undefined {
  let low = 0;
  let high = mappings.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (mappings[middle].kva <= kva) low = middle + 1;
    else high = middle;
  }
  const mapping = mappings[low - 1];
  if (low === 0 || kva >= mapping.kva + BigInt(mapping.length)) return undefined;
  return { mapping, pa: mapping.pa + Number(kva - mapping.kva) };
}

/** The mappings cut to a window in pages, as `planPortable` takes it. */
function cut({ mappings }: ToyWorld, from: bigint, to: bigint): ToyMapping[] {
  return mappings
    .map((mapping) => {
      const start = max(mapping.kva, from);
      const end = min(mapping.kva + BigInt(mapping.length), to);
      const pa = mapping.pa + Number(start - mapping.kva);
      return { ...mapping, kva: start, pa, length: Number(end - start) };
    })
    .filter(({ length }) => length > 0);
}

/** The pages that the description wants in the dump. */
function expectedPages(world: ToyWorld, mappings: readonly ToyMapping[]): Set<number> {
  const { ranges, ramPage, absent } = world;
  return new Set(
    pagesOf(ranges, ramPage).filter(
      (page) =>
        !absent.has(page) && mappings.some(({ pa, length }) => pa < page + ramPage && page < pa + length),
    ),
  );
}

function probes(mappings: readonly ToyMapping[], bits: 32 | 64): bigint[] {
  const edges = mappings.flatMap(({ kva, length }) => [
    ...[kva, kva + BigInt(length), kva + BigInt(length >> 1)],
  ]);
  const around = [0n, topOf(bits) - 1n, ...edges.flatMap((kva) => [kva - 1n, kva, kva + 0x3ffn])];
  return [...new Set(around)].filter((kva) => kva >= 0n && kva < topOf(bits));
}

function open(bytes: Uint8Array): Core {
  return portableFormat.open(new BlockCache(new MemorySource(bytes)), { architectures: [] });
}

function ask(space: AddressSpace, bits: 32 | 64, kva: bigint, out: Translation): Translation {
  const parts = new KvaParts(bits);
  parts.set(kva);
  space.translate(parts.page, parts.offset, out);
  return out;
}

/** What a translation says of a mapped address, in the words of the model. */
function told(out: Translation): ModelLeaf {
  const entry = (BigInt(out.entryHigh >>> 0) << 32n) | BigInt(out.entryLow >>> 0);
  return {
    pa: BigInt(out.pa),
    ...flagsOf(out.flags),
    ...{ level: out.level, size: BigInt(out.pageSize) },
    ...(out.entryBits > 0 && { entry }),
  };
}

function flagsOf(flags: number): Omit<ModelLeaf, 'pa' | 'level' | 'size'> {
  const bit = (n: number): boolean => (flags & (1 << n)) !== 0;
  return {
    ...{ read: bit(0), write: bit(1), execute: bit(2), user: bit(3), global: bit(4), synthesised: bit(5) },
    type: flags >> 8,
  };
}

/** Checks every probe against both readers. */
function checkAnswers(core: Core, model: ModelDump, mappings: readonly ToyMapping[], exact: boolean): void {
  const out = new Translation();
  const list = probes(mappings, core.bits).sort((a, b) => (a < b ? -1 : 1));
  for (const [i, kva] of list.entries()) {
    const wanted = expected(mappings, kva);
    ask(core.addressSpace!, core.bits, kva, out);
    same(out.outcome, wanted ? MAPPED : UNMAPPED, kva);
    // The length has to hold: every probe in it gets the same answer.
    const end = kva + BigInt(out.length);
    same(end <= topOf(core.bits), true, kva);
    for (let next = i + 1; next < list.length && list[next] < end; next++) {
      same(expected(mappings, list[next])?.pa, wanted && wanted.pa + Number(list[next] - kva), kva);
    }
    if (!wanted) {
      same(model.translate(kva), undefined, kva);
      continue;
    }
    const { mapping, pa } = wanted;
    const leaf: ModelLeaf = {
      ...{ pa: BigInt(pa), ...flagsOf(mapping.flags), level: mapping.level, size: BigInt(mapping.pageSize) },
      ...(exact && { entry: mapping.entry }),
    };
    expect([kva, told(out)]).toEqual([kva, leaf]);
    expect([kva, model.translate(kva)]).toEqual([kva, leaf]);
  }
}

interface Row {
  readonly kva: bigint;
  readonly pa: number;
  readonly length: number;
  readonly pageSize: number;
  readonly flags: number;
  readonly level: number;
}

function walk(core: Core, from: bigint, to: bigint): Row[] {
  const cursor = core.addressSpace!.mappings(Number(from >> 12n), Number(to >> 12n));
  const mapping = new Mapping();
  const rows: Row[] = [];
  while (cursor.next(mapping)) {
    expect(mapping.outcome).toBe(MAPPED);
    const { pa, length, pageSize, flags, level } = mapping;
    rows.push({ kva: kvaOf(mapping.page, mapping.offset), pa, length, pageSize, flags, level });
  }
  return joined(rows);
}

/** Parts of one hardware page that lie one behind the other, put together. */
function joined(rows: readonly Row[]): Row[] {
  const result: Row[] = [];
  for (const row of rows) {
    const last = result.at(-1);
    const follows =
      last !== undefined &&
      last.kva + BigInt(last.length) === row.kva &&
      last.pa + last.length === row.pa &&
      last.kva / BigInt(row.pageSize) === row.kva / BigInt(row.pageSize) &&
      last.pageSize === row.pageSize &&
      last.flags === row.flags &&
      last.level === row.level;
    if (follows) result[result.length - 1] = { ...last, length: last.length + row.length };
    else result.push(row);
  }
  return result;
}

const rowOf = ({ kva, pa, length, pageSize, flags, level }: ToyMapping): Row => ({
  ...{ kva, pa, length, pageSize, flags, level },
});

/** Page contents: those of the file, all of them, and no others. */
function checkPages(core: Core, model: ModelDump, pages: ReadonlySet<number>): void {
  expect([...model.pages.keys()].map(Number)).toEqual([...pages].sort((a, b) => a - b));
  const { memory } = core;
  const found: number[] = [];
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + memory.pageSize)) found.push(pa);
  expect(found).toEqual([...pages].sort((a, b) => a - b));
  for (const pa of pages) {
    const stored = model.pages.get(BigInt(pa))!;
    for (const at of [0, 1, 2, 3, 1022, 1023, 1024, 1025, memory.pageSize - 1]) {
      same(stored[at], ramByte(pa + at), 'PA', pa + at);
      same(memory.cache.bytes[memory.locate(pa + at)], ramByte(pa + at), 'PA', pa + at);
    }
  }
}

function checkSound(bytes: Uint8Array): void {
  const cache = new BlockCache(new PlainSource(bytes));
  const report = verifyCore(cache, () => portableFormat.open(cache, { architectures: [] }));
  expect(report.problems).toEqual([]);
  expect(report.sound).toBe(true);
}

describe('portable minidumps of random machines', () => {
  test.prop([seeds, kinds], runs(60))('say what the machine is', (seed, kind) => {
    const world = randomWorld(seed);
    const plan = planPortable(sourceOf(world), { ...kind, tolerateDamage: true });
    const bytes = dumpToBytes(plan);
    expect(plan.size).toBe(bytes.length);
    const core = open(bytes);
    const model = new ModelDump(bytes);
    const exact = kind.exact && world.mappings.length > 0;
    checkAnswers(core, model, world.mappings, exact);
    expect(walk(core, 0n, topOf(core.bits))).toEqual(joined(world.mappings.map(rowOf)));
    const pages = expectedPages(world, world.mappings);
    checkPages(core, model, pages);
    checkSound(bytes);
    expect(core).toMatchObject({ ...world.machine, format: 'portable', version: 1, warnings: [] });
    expect(plan.report).toMatchObject({
      ...{ format: 'portable', architecture: world.machine.architecture, size: bytes.length },
      ...{ pages: pages.size, added: 0, mappings: world.mappings.length },
      mappedBytes: world.mappings.reduce((sum, { length }) => sum + length, 0),
      metadataBytes: bytes.length - pages.size * world.ramPage,
      damage: { tablesAbsent: world.lost.length, tablesTruncated: 0, loops: 0, unsupportedEntries: 0 },
      losses: kind.exact && !exact ? ['exact entries were asked for; the source has none'] : [],
    });
    const { segments, leaves } = plan.report.tables;
    expect([segments, leaves]).toEqual([model.segments.length, model.leaves]);
    expect(plan.report.tables.bytes).toBe(segments * 32 + leaves * (exact ? 16 : 8));
    if (!kind.run) {
      expect(plan.report.tables.flatBytes).toBe(plan.report.tables.bytes);
      expect(model.segments.filter(({ kind }) => kind !== 1)).toEqual([]);
    } else expect(plan.report.tables.flatBytes).toBeGreaterThanOrEqual(plan.report.tables.bytes - 72);
  });

  test.prop([seeds, kinds, fc.nat(), fc.nat()], runs(40))('hold the window asked for', (seed, kind, a, b) => {
    const world = randomWorld(seed);
    const { bits } = world.machine;
    const edges = probes(world.mappings, bits);
    const [from, to] = [edges[a % edges.length], edges[b % edges.length]].sort((x, y) => (x < y ? -1 : 1));
    const window: PlanOptions = { from, to, tolerateDamage: true, ...kind };
    const bytes = dumpToBytes(planPortable(sourceOf(world), window));
    const mappings = cut(world, from & ~0xfffn, ((to + 0xfffn) >> 12n) << 12n);
    const core = open(bytes);
    const model = new ModelDump(bytes);
    checkAnswers(core, model, mappings, kind.exact && mappings.length > 0);
    checkPages(core, model, expectedPages(world, mappings));
    expect(walk(core, 0n, topOf(bits))).toEqual(joined(mappings.map(rowOf)));
    checkSound(bytes);
  });

  test.prop([seeds, kinds, fc.nat(), fc.nat()], runs(40))('are walked in windows', (seed, kind, a, b) => {
    const world = randomWorld(seed);
    const { bits } = world.machine;
    const edges = probes(world.mappings, bits).map((kva) => kva & ~0xfffn);
    const [from, to] = [edges[a % edges.length], edges[b % edges.length]].sort((x, y) => (x < y ? -1 : 1));
    const core = open(dumpToBytes(planPortable(sourceOf(world), { ...kind, tolerateDamage: true })));
    expect(walk(core, from, to)).toEqual(joined(cut(world, from, to).map(rowOf)));
  });

  test.prop([seeds, kinds, fc.array(fc.nat()), fc.array(fc.nat())], runs(40))(
    'hold the pages that were added and none that was dropped',
    (seed, kind, adds, drops) => {
      const world = randomWorld(seed);
      const { ranges, ramPage, absent, mappings } = world;
      const ram = pagesOf(ranges, ramPage);
      const pick = (index: number): number => ram[index % ram.length] + (index % ramPage);
      const outside = 2 ** 45;
      const options = { ...kind, addPages: [...adds.map(pick), outside], dropPages: drops.map(pick) };
      const plan = planPortable(sourceOf(world), { ...options, tolerateDamage: true });
      const pageOf = (pa: number): number => Math.floor(pa / ramPage) * ramPage;
      const dropped = new Set(drops.map(pick).map(pageOf));
      const mapped = expectedPages(world, mappings);
      const added = new Set(adds.map(pick).map(pageOf));
      const pages = new Set([...mapped, ...added].filter((pa) => !absent.has(pa) && !dropped.has(pa)));
      const bytes = dumpToBytes(plan);
      checkPages(open(bytes), new ModelDump(bytes), pages);
      checkSound(bytes);
      expect(plan.report.pages).toBe(pages.size);
      expect(plan.report.added).toBe([...pages].filter((pa) => !mapped.has(pa)).length);
      expect(plan.report.dropped.byHand).toBe([...dropped].filter((pa) => mapped.has(pa)).length);
      expect(plan.report.dropped.outsideRam).toBeGreaterThan(0);
    },
  );

  test.prop([seeds, kinds], runs(60))('are written from themselves, byte by byte the same', (seed, kind) => {
    const world = randomWorld(seed);
    const first = dumpToBytes(planPortable(sourceOf(world), { ...kind, tolerateDamage: true }));
    const core = open(first);
    const again = planPortable(
      {
        machine: world.machine,
        memory: {
          ranges: core.memory.ranges,
          available: (pa, limit) => (core.memory.locate(pa) < 0 ? 0 : core.memory.run(pa, limit)),
          readSync: (pa, target, at, length) =>
            target.set(first.subarray(core.memory.locate(pa), core.memory.locate(pa) + length), at),
        },
        addressSpace: core.addressSpace!,
      },
      { ...kind, tolerateDamage: true },
    );
    expect(Buffer.compare(dumpToBytes(again), first)).toBe(0);
  });
});

import { fc, test } from '@fast-check/vitest';
import { Prng } from '@libkvm/fixtures';
import {
  BlockCache,
  dumpToBytes,
  isKvmError,
  Mapping,
  MemorySource,
  planPortable,
  verifyCore,
  type KvmError,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import {
  buildPortable,
  leafOf,
  ModelDump,
  segmentBytes,
  u64s,
} from '../../minidump-core/test/portable-model.js';
import { randomWorld, sourceOf } from '../../minidump-core/test/portable-world.js';
import { openKvm, openKvmAsync, type AsyncByteSource } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { caught, checkError } from './support/faults.js';
import { runs } from './support/long.js';
import { asSource } from './support/open.js';
import { checkReads, checkWalks } from './support/portable-checks.js';

/** Damaged and hostile portable minidumps: they open or fail with a KvmError, and never answer with another page. */

const VALUES = [
  0n,
  1n,
  7n,
  0xfffn,
  1n << 20n,
  1n << 32n,
  1n << 52n,
  (1n << 53n) + 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** Where metadata is: everything but the pages, most of all what is not zero. */
function spots(bytes: Uint8Array): number[] {
  const model = new ModelDump(bytes);
  const pages = model.sections.find(({ name }) => name === 'pages')!;
  const places = [];
  for (let at = 0; at < bytes.length; at++) {
    if (at === pages.offset) at += pages.bytes.length;
    if (bytes[at] !== 0 || (bytes[at - 1] ?? 0) !== 0) places.push(at);
  }
  return places;
}

/** One to four wrongs: a byte, a word of eight, two words exchanged, a cut. */
function mutate(original: Uint8Array, prng: Prng): Uint8Array {
  let bytes = original.slice();
  const places = spots(original);
  for (let i = prng.between(1, 4); i > 0; i--) {
    const at = prng.pick(places);
    const word = Math.min(at - (at % 8), bytes.length - 8);
    const view = new DataView(bytes.buffer);
    const what = prng.below(10);
    if (what < 4) bytes[Math.min(at, bytes.length - 1)] ^= 1 << prng.below(8);
    else if (what < 6 && word >= 0) view.setBigUint64(word, prng.pick(VALUES), true);
    else if (what < 8 && word >= 0) {
      const value = view.getBigUint64(word, true) + prng.pick([1n, -1n, 0x1000n, -0x1000n, 0x400n, 32n, 8n]);
      view.setBigUint64(word, BigInt.asUintN(64, value), true);
    } else if (what < 9) {
      const other = Math.max(0, Math.min(prng.pick(places) & ~7, bytes.length - 8));
      if (word >= 0) swapWords(view, word, other);
    } else if (prng.chance(50)) bytes = bytes.slice(0, prng.below(bytes.length));
    if (bytes.length < 8) return bytes;
  }
  return bytes;
}

function swapWords(view: DataView, a: number, b: number): void {
  const kept = view.getBigUint64(a, true);
  view.setBigUint64(a, view.getBigUint64(b, true), true);
  view.setBigUint64(b, kept, true);
}

/** Opens in place, or through a cache as a file would be; undefined when it fails, as it may. */
function tryOpen(bytes: Uint8Array, throughCache: boolean): Kvm | undefined {
  try {
    return openKvm(throughCache ? asSource(bytes) : bytes, { architectures: [] });
  } catch (error) {
    if (!isKvmError(error)) throw error;
    checkError(error);
    return undefined;
  }
}

describe('random damage', () => {
  const seeds = fc.integer();
  test.prop([seeds, fc.boolean(), fc.boolean()], runs(250))(
    'is an error, or is read as it stands',
    (seed, run, throughCache) => {
      const prng = new Prng(seed);
      const plan = planPortable(sourceOf(randomWorld(seed)), {
        run,
        exact: prng.chance(50),
        tolerateDamage: true,
      });
      if (plan.size > 2 ** 20) return;
      const bytes = mutate(dumpToBytes(plan), prng);
      const kvm = tryOpen(bytes, throughCache);
      if (kvm) {
        checkReads(kvm, new ModelDump(bytes), prng);
        checkWalks(kvm);
      }
      const cache = new BlockCache(new MemorySource(bytes));
      const report = verifyCore(cache, () => openKvm(bytes, { architectures: [] }).core);
      if (Buffer.compare(bytes, dumpToBytes(plan)) !== 0) expect(report.sound).toBe(false);
    },
  );

  it('opens a good part of the damaged files, or this would prove nothing', () => {
    let opened = 0;
    for (let seed = 0; seed < 60; seed++) {
      const plan = planPortable(sourceOf(randomWorld(seed)), { tolerateDamage: true });
      if (plan.size < 2 ** 20 && tryOpen(mutate(dumpToBytes(plan), new Prng(seed)), false)) opened++;
    }
    expect(opened).toBeGreaterThan(15);
  });
});

describe('files made to mislead', () => {
  const KVA = 0xffffffff80000000n;
  const FLAT = { kva: KVA, count: 2n, firstLeaf: 0n, granuleShift: 12, kind: 1 };
  const leaves = [leafOf(0x1000, 3, 4096), leafOf(0x2000, 3, 4096)];
  const sections = {
    ranges: u64s([0x1000, 0x9000, 0, 0]),
    bitmap: u64s([0b11]),
    segments: segmentBytes([FLAT]),
    leaves: u64s(leaves),
    pages: new Uint8Array(0x2000).map((_, i) => (i < 0x1000 ? 1 : 2)),
  };
  const file = (
    replaced: Partial<typeof sections> = {},
    header: Parameters<typeof buildPortable>[0] = {},
  ): Uint8Array =>
    buildPortable(
      header,
      Object.entries({ ...sections, ...replaced }).map(([name, bytes]) => ({ name, bytes })),
    );
  const refused = (bytes: Uint8Array, ...codes: Parameters<typeof caught>[1][]): KvmError =>
    caught(() => openKvm(bytes, { architectures: [] }), ...codes);

  it('starts from a sound one', () => {
    const kvm = openKvm(file(), { architectures: [] });
    expect([...kvm.read(KVA + 0xfffn, 2)]).toEqual([1, 2]);
  });

  it.each([
    ['of another kind', { ...FLAT, kind: 3 }],
    ['without granules', { ...FLAT, count: 0n }],
    ['of too many granules', { ...FLAT, count: 3n }],
    ['of 2^64 - 1 granules', { ...FLAT, kind: 2, count: (1n << 64n) - 1n }],
    ['past the end of the address space', { ...FLAT, kind: 2, kva: 0xfffffffffffff000n }],
    ['longer than all physical memory', { ...FLAT, kind: 2, kva: 0n, count: (1n << 40n) + 1n }],
    ['of an unknown granule', { ...FLAT, granuleShift: 11 }],
    ['of a granule of no machine', { ...FLAT, granuleShift: 31 }],
    ['of a huge granule', { ...FLAT, granuleShift: 255 }],
    ['that starts inside a granule', { ...FLAT, kva: KVA + 0x400n }],
    ['that starts inside a large granule', { ...FLAT, kva: KVA + 0x1000n, granuleShift: 14 }],
    ['behind the leaves', { ...FLAT, firstLeaf: 1n }],
    ['far behind the leaves', { ...FLAT, firstLeaf: (1n << 64n) - 1n }],
  ])('refuses a segment %s', (_name, segment) => {
    expect(refused(file({ segments: segmentBytes([segment]) }), 'CORRUPT').field).toBe('segments[0]');
  });

  it('refuses segments that overlap, go back, or share leaves', () => {
    const two = (kva: bigint, firstLeaf: bigint): Uint8Array =>
      file({
        segments: segmentBytes([
          { ...FLAT, count: 1n },
          { ...FLAT, count: 1n, kva, firstLeaf },
        ]),
      });
    expect(openKvm(two(KVA + 0x1000n, 1n), { architectures: [] })).toBeDefined();
    for (const bytes of [two(KVA, 1n), two(KVA - 0x1000n, 1n), two(KVA + 0x1000n, 0n)]) {
      expect(refused(bytes, 'CORRUPT').field).toBe('segments[1]');
    }
  });

  it.each<[string, Parameters<typeof buildPortable>[0], string]>([
    ['a version to come', { version: 2 }, 'version'],
    ['no class', { elfClass: 3 }, 'elfClass'],
    ['no byte order', { elfData: 0 }, 'elfData'],
    ['small pages', { pageSize: 2048 }, 'pageSize'],
    ['odd pages', { pageSize: 5000 }, 'pageSize'],
    ['pages of 4 GB', { basePageSize: 2 ** 31 }, 'basePageSize'],
    ['odd entries', { entryBits: 48 }, 'entryBits'],
    ['a direct map inside a page', { flags: 2, dmapBase: 0x100n, dmapEnd: 0x10000n }, 'dmapBase'],
    ['a direct map that ends before it starts', { flags: 2, dmapBase: 0x9000n, dmapEnd: 0x1000n }, 'dmapEnd'],
    ['a direct map of nothing', { flags: 2, dmapBase: 0x9000n, dmapEnd: 0x9000n }, 'dmapEnd'],
    ['a direct map to no memory', { flags: 2, dmapEnd: 0x1000n, dmapPhys: 1n << 52n }, 'dmapPhys'],
    ['a direct map beyond exact numbers', { flags: 2, dmapEnd: 1n << 60n }, 'dmapEnd'],
    ['a 64-bit direct map of 32 bits', { flags: 2, elfClass: 1, dmapEnd: 1n << 33n }, 'dmapEnd'],
  ])('refuses a header with %s', (_name, header, field) => {
    expect(refused(file({}, header), 'CORRUPT', 'UNSUPPORTED').field).toBe(field);
  });

  it('refuses a start of the message buffer outside of it', () => {
    const bytes = buildPortable({ msgbufStart: 4n }, [
      { name: 'msgbuf', bytes: Uint8Array.of(1, 2, 3, 4) },
      ...Object.entries(sections).map(([name, part]) => ({ name, bytes: part })),
    ]);
    expect(refused(bytes, 'CORRUPT').field).toBe('msgbufStart');
  });

  it('skips sections that it does not know', () => {
    const bytes = buildPortable({}, [
      { name: 'from a later day', bytes: new Uint8Array(5000).fill(9) },
      ...Object.entries(sections).map(([name, part]) => ({ name, bytes: part })),
    ]);
    expect([...openKvm(bytes, { architectures: [] }).read(KVA + 0xfffn, 2)]).toEqual([1, 2]);
  });

  it.each(['ranges', 'bitmap', 'segments', 'leaves', 'pages'])('refuses a file without %s', (missing) => {
    const kept = Object.entries(sections).filter(([name]) => name !== missing);
    const bytes = buildPortable(
      {},
      kept.map(([name, part]) => ({ name, bytes: part })),
    );
    expect(refused(bytes, 'CORRUPT').field).toBe(missing);
  });

  it('does not run away with a segment that stands for four thousand billion pages', () => {
    const run = { kva: 0n, count: 1n << 42n, firstLeaf: 0n, granuleShift: 10, kind: 2 };
    const bytes = file({ segments: segmentBytes([run]), leaves: u64s([leafOf(0, 3, 1024)]) });
    const kvm = openKvm(bytes, { architectures: [] });
    expect(kvm.readU8(0x2fff)).toBe(2);
    const mapping = new Mapping();
    // The bound on a walk is 2^26 rows and 16 for each page and leaf: from there on it is given up.
    Object.defineProperty(kvm.core.addressSpace, 'walkLimit', { get: () => 1000 });
    const cursor = kvm.core.addressSpace!.mappings(0, 2 ** 52);
    let rows = 0;
    while (cursor.next(mapping)) rows++;
    expect([rows, mapping.outcome]).toEqual([1001, 6]);
  });

  it('passes over as many pages that are not mapped in one step', () => {
    const run = { kva: 0n, count: 1n << 42n, firstLeaf: 0n, granuleShift: 10, kind: 2 };
    const bytes = file({ segments: segmentBytes([run]), leaves: u64s([0n]) });
    const kvm = openKvm(bytes, { architectures: [] });
    expect([...kvm.pages({ from: 0n, to: 1n << 52n })]).toEqual([]);
    expect(caught(() => kvm.readU8(0x1000), 'NOT_MAPPED').address).toBe(0x1000n);
  });

  it('puts a large page together from leaves that no cache holds all of', async () => {
    const count = 100_000;
    const flat = Array.from({ length: count }, (_, i) => leafOf(0x4000_0000 + i * 4096, 3, 2 ** 30));
    const bytes = file({
      segments: segmentBytes([{ ...FLAT, count: BigInt(count) }]),
      leaves: u64s(flat),
    });
    const source: AsyncByteSource = {
      size: bytes.length,
      read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
    };
    const kvm = await openKvmAsync(source, { architectures: [], cacheBytes: 0, blockBytes: 4096 });
    const rows = [];
    for await (const row of kvm.pages({ from: KVA, to: KVA + 0x4000_0000n })) rows.push(row);
    expect(rows).toMatchObject([{ kva: KVA, length: count * 4096, pageSize: 2 ** 30 }]);
    // Each leaf is asked for about once, and nothing over and over.
    expect(kvm.fetched.bytes).toBeLessThan(2 * bytes.length);
  });

  it('looks for where a walk begins as part of the walk', async () => {
    const many = Array.from({ length: 60_000 }, (_, i) => ({
      ...FLAT,
      kva: KVA + BigInt(i * 0x4000),
      count: 1n,
    }));
    const bytes = file({
      segments: segmentBytes(many.map((segment, i) => ({ ...segment, firstLeaf: BigInt(i) }))),
      leaves: u64s(many.map((_, i) => leafOf(0x1000 * (1 + (i % 2)), 3, 4096))),
    });
    const source: AsyncByteSource = {
      size: bytes.length,
      read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
    };
    const kvm = await openKvmAsync(source, { architectures: [], cacheBytes: 0, blockBytes: 512 });
    const from = KVA + 0x4000n * 41_234n;
    const rows = [];
    for await (const row of kvm.pages({ from, to: from + 0x8000n })) rows.push(row.kva);
    expect(rows).toEqual([from, from + 0x4000n]);
  });

  it('reads a page by what the leaf says of each quarter, whatever size it claims', () => {
    const quarters = [0x1000, 0x2400, 0x1800, 0x2c00].map((pa) => leafOf(pa, 3, 4096));
    const bytes = file({
      segments: segmentBytes([{ ...FLAT, count: 4n, granuleShift: 10 }]),
      leaves: u64s(quarters),
    });
    const read = openKvm(bytes, { architectures: [] }).read(KVA, 4096);
    expect([0, 0x400, 0x800, 0xc00].map((at) => read[at])).toEqual([1, 2, 1, 2]);
  });
});

import { Prng } from '@libkvm/fixtures';
import {
  MAPPED,
  PageRanges,
  TABLE_ABSENT,
  type ByteRange,
  type DumpMemory,
  type DumpSource,
  type MachineFacts,
  type Mapping,
  type MappingCursor,
} from '../src/index.js';
import { mix } from './sources.js';

/** One hardware mapping, said outright. `flags` as in `Translation`, the memory type in bits 12:8. */
export interface ToyMapping {
  readonly kva: bigint;
  readonly pa: number;
  readonly length: number;
  readonly pageSize: number;
  readonly flags: number;
  readonly level: number;
  readonly entry: bigint;
}

/** A machine said outright: no page tables, no library code. */
export interface ToyWorld {
  readonly machine: MachineFacts;
  readonly entryBits: 32 | 64;
  readonly ranges: readonly ByteRange[];
  /** Bytes of a page of RAM in the dump. */
  readonly ramPage: number;
  /** Pages of RAM that the source does not hold, by PA. */
  readonly absent: ReadonlySet<number>;
  readonly mappings: readonly ToyMapping[];
  /** First KVAs of stretches whose page table is lost: 2 MB each. */
  readonly lost: readonly bigint[];
}

/** Mapping sizes in the first place, with the level of their entries. The first one is that of ARM's subpages. */
const SIZES: readonly (readonly [size: number, level: number])[] = [
  [1024, 1],
  [4096, 1],
  [4096, 1],
  [0x10000, 1],
  [0x100000, 2],
  [0x200000, 2],
  [0x40000000, 3],
];

export function randomWorld(seed: number): ToyWorld {
  const prng = new Prng(seed);
  const bits = prng.pick([64, 32] as const);
  const pageSize = bits === 64 && prng.chance(25) ? 0x4000 : 4096;
  const ramPage = prng.chance(50) ? pageSize : 4096;
  const ranges = randomRanges(prng, ramPage);
  const absent = new Set<number>();
  for (const pa of pagesOf(ranges, ramPage)) if (prng.chance(8)) absent.add(pa);
  const machine: MachineFacts = {
    ...{ architecture: prng.pick(['arm', 'mips64', 'a name of 16 bts']), elfMachine: prng.below(0x10000) },
    ...{ bits, byteOrder: prng.pick(['big', 'little'] as const), pageSize, pteFormat: prng.pick(['v4', '']) },
    ...(prng.chance(50) && { kernbase: bits === 64 ? 0xffffffff80000000n : 0xc0000000n }),
  };
  const entryBits = bits === 64 ? 64 : prng.pick([32, 64] as const);
  const mappings = randomMappings(prng, bits, pageSize, ranges, entryBits);
  const lost = prng.chance(30) ? [lostAfter(mappings)] : [];
  return {
    ...{ machine, entryBits, ranges, ramPage, absent, mappings },
    lost: lost.filter((kva) => kva + 0x200000n <= topOf(bits)),
  };
}

export const topOf = (bits: 32 | 64): bigint => 1n << BigInt(bits);

function lostAfter(mappings: readonly ToyMapping[]): bigint {
  const last = mappings.at(-1);
  return last ? ((last.kva + BigInt(last.length)) / 0x200000n + 1n) * 0x200000n : 0n;
}

/** Up to four ranges of up to 40 pages, in steps of pages or not, below and above 4 GB; neighbours may share a page. */
function randomRanges(prng: Prng, unit: number): ByteRange[] {
  const ranges: ByteRange[] = [];
  let at = prng.pick([0x10000, 0, 0x100000]);
  for (let i = prng.between(1, 4); i > 0; i--) {
    const start = at + (prng.chance(25) ? prng.below(unit) : 0);
    const end =
      Math.floor(start / unit) * unit + prng.between(1, 40) * unit - (prng.chance(25) ? prng.below(unit) : 0);
    if (end > start) ranges.push({ start, end });
    at = Math.max(start, end) + prng.pick([0, 1, unit, 0x80000, 0x123456000, 2 ** 40]);
  }
  return ranges.length > 0 ? ranges : [{ start: 0x10000, end: 0x10000 + unit }];
}

/** Every page that a range touches, once. */
export function pagesOf(ranges: readonly ByteRange[], pageSize: number): number[] {
  const pages = new Set<number>();
  for (const { start, end } of ranges) {
    for (let pa = Math.floor(start / pageSize) * pageSize; pa < end; pa += pageSize) pages.add(pa);
  }
  return [...pages];
}

function randomMappings(
  prng: Prng,
  bits: 32 | 64,
  basePage: number,
  ranges: readonly ByteRange[],
  entryBits: 32 | 64,
): ToyMapping[] {
  const mappings: ToyMapping[] = [];
  const starts =
    bits === 32
      ? [0xc0000000n, 0n, 0xfff00000n]
      : [0xfffffe0000000000n, 0n, 0x7fffffff0000n, 0xffffffffffe00000n];
  let kva = prng.pick(starts);
  for (let group = prng.between(0, 14); group > 0; group--) {
    // A gigabyte is a quarter of a million leaves in a FLAT segment: not too many of them.
    const most = prng.chance(10) ? 2 ** 30 : 0x200000;
    const fitting = SIZES.filter(([bytes]) => (bytes >= basePage || bytes < 4096) && bytes <= most);
    const [size, level] = prng.pick(fitting);
    const count = prng.pick([1, 1, 2, 5, 15, 16, 17, 40]);
    kva += BigInt(prng.pick([0, 0, 1, 2, 4, 5, 600]) * 4096);
    kva = ((kva + BigInt(size) - 1n) / BigInt(size)) * BigInt(size);
    let pa = randomPa(prng, ranges, mappings, size);
    let flags = prng.below(64) | (prng.below(32) << 8);
    for (let i = 0; i < (size === 2 ** 30 ? 1 : size > 4096 ? Math.min(count, 4) : count); i++) {
      if (kva + BigInt(size) > topOf(bits) || pa + size > 2 ** 52) return mappings;
      // Quarters of a page differ in their rights, or they would be a page.
      const pageSize = size < 4096 && prng.chance(50) ? 4096 : size;
      if (pageSize !== size) flags ^= 2;
      const entry = (BigInt(prng.u32()) << 32n) | BigInt(prng.u32()) | 1n;
      mappings.push({
        ...{ kva, pa, length: size, pageSize, flags, level },
        entry: BigInt.asUintN(entryBits, entry),
      });
      kva += BigInt(size);
      pa += size;
      if (prng.chance(10)) pa = randomPa(prng, ranges, mappings, size);
      if (prng.chance(10)) flags = prng.below(64);
    }
  }
  return mappings;
}

/** In RAM mostly, an alias of an earlier mapping, or a device. */
function randomPa(
  prng: Prng,
  ranges: readonly ByteRange[],
  earlier: readonly ToyMapping[],
  unit: number,
): number {
  const { start, end } = prng.pick(ranges);
  const pa = prng.pick([
    start + prng.below(end - start),
    start,
    earlier.length > 0 ? prng.pick(earlier).pa : start,
    prng.pick([0xfe000000, 2 ** 52 - 2 ** 30]),
  ]);
  return Math.floor(pa / unit) * unit;
}

/** The world as a kernel author would offer it. */
export function sourceOf(world: ToyWorld, extra: Partial<DumpSource> = {}): DumpSource {
  return {
    machine: world.machine,
    memory: memoryOf(world),
    addressSpace: { mappings: (fromPage, toPage) => cursorOf(world, fromPage, toPage) },
    ...extra,
  };
}

function memoryOf({ ranges, ramPage, absent }: ToyWorld): DumpMemory {
  const there = new Set(pagesOf(ranges, ramPage).filter((pa) => !absent.has(pa)));
  return {
    ranges: new PageRanges(ranges, ramPage),
    available(pa, limit) {
      let length = 0;
      while (length < limit && there.has(Math.floor((pa + length) / ramPage) * ramPage)) {
        length = (Math.floor((pa + length) / ramPage) + 1) * ramPage - pa;
      }
      return Math.min(limit, length);
    },
    readSync(pa, target, at, length) {
      for (let done = 0; done < length;) {
        const count = Math.min(length - done, 1024 - ((pa + done) % 1024));
        fillBlock(target.subarray(at + done, at + done + count), pa + done);
        done += count;
      }
    },
  };
}

/** The byte of RAM at a PA: four in a row name their block of 1 KB. */
export function ramByte(pa: number): number {
  return ((mix(Math.floor(pa / 1024)) >>> ((pa & 3) * 8)) ^ (pa >>> 2)) & 0xff;
}

function fillBlock(target: Uint8Array, pa: number): void {
  const word = mix(Math.floor(pa / 1024));
  for (let i = 0; i < target.length; i++) {
    const at = pa + i;
    target[i] = (word >>> ((at & 3) * 8)) ^ (at >>> 2);
  }
}

function cursorOf({ mappings, lost, entryBits }: ToyWorld, fromPage: number, toPage: number): MappingCursor {
  const from = BigInt(fromPage) << 12n;
  const to = BigInt(toPage) << 12n;
  const rows = [
    ...mappings.map((mapping) => ({
      start: mapping.kva,
      end: mapping.kva + BigInt(mapping.length),
      mapping,
    })),
    ...lost.map((start) => ({ start, end: start + 0x200000n, mapping: undefined })),
  ]
    .map((row) => ({ ...row, first: row.start, start: max(row.start, from), end: min(row.end, to) }))
    .filter(({ start, end }) => start < end);
  let i = 0;
  return {
    next(out: Mapping): boolean {
      if (i === rows.length) return false;
      const { start, end, first, mapping } = rows[i++];
      out.page = Number(start >> 12n);
      out.offset = Number(start & 0xfffn);
      out.setEntry(mapping?.level ?? 2, 0, 0, 0);
      if (mapping === undefined) {
        out.miss(TABLE_ABSENT, Number(end - start), 0xdead000);
        return true;
      }
      out.setEntry(
        mapping.level,
        Number(mapping.entry & 0xffffffffn),
        Number(mapping.entry >> 32n),
        entryBits,
      );
      out.outcome = MAPPED;
      out.pa = mapping.pa + Number(start - first);
      out.length = Number(end - start);
      out.flags = mapping.flags;
      out.pageSize = mapping.pageSize;
      return true;
    },
  };
}

export const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
export const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);

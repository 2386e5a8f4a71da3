import { Prng } from '@libkvm/fixtures';
import type { Leaf, LeafLevel } from '../../../arch-amd64/test/walker-tables.js';
import { indexOf, sizeOf, TestTables } from '../../../arch-amd64/test/walker-tables.js';
import { mix } from '../../../minidump-core/test/sources.js';
import type { RawRange } from '../../src/index.js';
import { elfCore } from './elf-bytes.js';

const TOP = 1n << 64n;
/** Page tables lie from here on; all other RAM elsewhere. */
const TABLES = 0x10_0000;

/** A machine of which everything is said twice: as page tables in an image, and as a list. */
export interface Amd64World {
  readonly levels: 4 | 5;
  /** What the tables say, ascending by KVA, rights as the upper levels leave them. */
  readonly leaves: readonly Leaf[];
  /** Exact entries of the leaves, in their order. */
  readonly entries: readonly bigint[];
  readonly registers: Readonly<Record<string, bigint>>;
  /** Content of every page that the image holds, by PA. */
  readonly pages: ReadonlyMap<number, Uint8Array>;
  /** Pages of RAM that the image has no bytes of. */
  readonly absent: readonly number[];
}

/**
 * Random page tables over a few hundred pages of RAM: pages of all sizes in both canonical halves, runs and single
 * pages, frames that are aliased, that are no RAM, that the image lacks; rights taken away by upper levels.
 */
export function amd64World(seed: number): Amd64World {
  const prng = new Prng(seed);
  const levels = prng.pick([4, 4, 5] as const);
  const tables = new TestTables(levels, prng, TABLES);
  const ram = randomRam(prng);
  const half = 1n << BigInt(11 + 9 * levels);
  const bases = [0n, half / 2n, half - 0x8000_0000n, TOP - half, TOP - half / 4n, TOP - 0x8000_0000n];
  for (let i = prng.below(3); i > 0; i--) {
    const bits = prng.pick(['write', 'execute', 'user'] as const);
    tables.deny(prng.pick(bases), prng.between(1, levels - 1), bits);
  }
  for (let i = prng.between(1, 14); i > 0; i--) addRun(tables, prng, ram, prng.pick(bases), half);
  const pages = tables.pages();
  const absent: number[] = [];
  for (const pa of ram) {
    if (prng.chance(10)) absent.push(pa);
    else pages.set(pa, ramPage(pa));
  }
  const leaves = [...tables.leaves].sort((a, b) => (a.kva < b.kva ? -1 : 1));
  const CR4 = levels === 5 ? 0x16f0n : 0x6f0n;
  const registers = { CR0: 0x80050033n, CR3: BigInt(tables.root), CR4, EFER: 0xd01n };
  return {
    levels,
    leaves,
    entries: leaves.map((leaf) => entryOf(tables, pages, leaf)),
    registers,
    pages,
    absent,
  };
}

/** A page that says where it belongs, in every 4 bytes. */
export function ramPage(pa: number): Uint8Array {
  const words = new Uint32Array(1024);
  for (let i = 0; i < 1024; i++) words[i] = mix(pa + i * 4);
  return new Uint8Array(words.buffer);
}

function randomRam(prng: Prng): number[] {
  const pages: number[] = [];
  let at = prng.pick([0, 0x1000, 0x9000]);
  for (let i = prng.between(1, 4); i > 0; i--) {
    for (let count = prng.between(1, 40); count > 0; count--, at += 4096) pages.push(at);
    at += prng.pick([0x1000, 0x5000, 0x1_0000_0000, 0x40_0000_0000]);
    // Never where the tables are.
    if (at > TABLES / 2 && at < 0x1000_0000) at = 0x1000_0000;
  }
  return pages.filter((pa) => pa < TABLES / 2 || pa >= 0x1000_0000);
}

/** Up to 40 pages of one kind behind each other, frames in a row or not. */
function addRun(tables: TestTables, prng: Prng, ram: readonly number[], base: bigint, half: bigint): void {
  const level = prng.pick([1, 1, 1, 1, 2, 2, 2, 3] as const);
  const size = sizeOf(level);
  const place = BigInt(prng.pick([0, 0, 0x1ff000, 0x200000, 0x3ffff000, prng.below(0x7ffff000)]));
  let kva = ((base + place) / BigInt(size)) * BigInt(size);
  const [writable, executable, user, global] = [50, 50, 20, 50].map((percent) => prng.chance(percent));
  let pa = randomPa(tables, prng, ram, size);
  for (
    let count = level === 1 ? prng.pick([1, 3, 16, 40]) : level === 2 ? prng.pick([1, 2]) : 1;
    count > 0;
    count--
  ) {
    addLeaf(tables, { kva, level, pa, writable, executable, user, global });
    kva += BigInt(size);
    pa = prng.chance(10) ? randomPa(tables, prng, ram, size) : pa + size;
    if (pa + size > 2 ** 52 || kva === half) return;
  }
}

function randomPa(tables: TestTables, prng: Prng, ram: readonly number[], size: number): number {
  const pa = prng.pick([
    ...[prng.pick(ram), prng.pick(ram), TABLES, 0xfe00_0000, 2 ** 52 - size],
    ...(tables.leaves.length > 0 ? [prng.pick(tables.leaves).pa] : []),
  ]);
  return Math.floor(pa / size) * size;
}

function addLeaf(tables: TestTables, leaf: Leaf): void {
  const end = leaf.kva + BigInt(sizeOf(leaf.level));
  const overlaps = (one: Leaf): boolean => one.kva < end && leaf.kva < one.kva + BigInt(sizeOf(one.level));
  if (end <= TOP && !tables.leaves.some(overlaps)) tables.map(leaf);
}

function entryOf(tables: TestTables, pages: Map<number, Uint8Array>, { kva, level }: Leaf): bigint {
  const table = pages.get(tables.tableFor(kva, level)!)!;
  return new DataView(table.buffer).getBigUint64(indexOf(kva, level) * 8, true);
}

/** Runs of the pages that the image holds: neighbours are one segment. Those of absent pages have a length of 0. */
function segmentsOf({ pages, absent }: Amd64World): { pa: number; bytes: Uint8Array; memory: number }[] {
  const runs: number[][] = [];
  for (const pa of [...pages.keys()].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last?.at(-1) === pa - 4096) last.push(pa);
    else runs.push([pa]);
  }
  const held = runs.map((run) => ({
    pa: run[0],
    bytes: Buffer.concat(run.map((pa) => pages.get(pa)!)),
    memory: run.length * 4096,
  }));
  return [...held, ...absent.map((pa) => ({ pa, bytes: new Uint8Array(0), memory: 4096 }))];
}

/** The machine as an ELF core with physical segments, as emulators write it. */
export function asElf(world: Amd64World): Uint8Array {
  const segments = segmentsOf(world).map(({ pa, bytes, memory }) => ({
    ...{ paddr: BigInt(pa), vaddr: BigInt(pa), bytes, memsz: BigInt(memory) },
  }));
  return elfCore({ segments });
}

/** The machine as a file of raw memory, and where its parts belong. */
export function asRaw(world: Amd64World): { bytes: Uint8Array; raw: RawRange[] } {
  const segments = segmentsOf(world).filter(({ bytes }) => bytes.length > 0);
  let offset = 0;
  const raw = segments.map(({ pa, bytes }) => {
    const range = { pa, offset, length: bytes.length };
    offset += bytes.length;
    return range;
  });
  return { bytes: Buffer.concat(segments.map(({ bytes }) => bytes)), raw };
}

export { sizeOf, type Leaf, type LeafLevel };

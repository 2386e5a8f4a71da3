import { BlockCache, MemorySource, SegmentMemory } from '@libkvm/minidump-core';
import type { PhysicalMemory } from '@libkvm/minidump-core';
import type { Prng } from '@libkvm/fixtures';

/**
 * 4-level and 5-level page tables built in the open, and what they mean said literally: nothing here is shared with the
 * walker. KVAs are unsigned 64-bit bigints.
 */

export type LeafLevel = 1 | 2 | 3;

/** One leaf entry and the rights that the tables above leave it. */
export interface Leaf {
  readonly kva: bigint;
  readonly level: LeafLevel;
  readonly pa: number;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly user: boolean;
  readonly global: boolean;
  /** Index into the page attribute table: PAT * 4 + PCD * 2 + PWT. Set when the leaf is built. */
  readonly memoryType?: number;
}

export const sizeOf = (level: number): number => 2 ** (12 + 9 * (level - 1));
const shiftOf = (level: number): bigint => BigInt(12 + 9 * (level - 1));
const NX = 1n << 63n;

/** What a table-naming entry may carry without a meaning: PWT, PCD, A, D, G, software bits, protection key. */
const TABLE_NOISE = 0x7ff0_0000_0000_0f78n;
/** The same for leaves; bits 20:13 of superpages are reserved, bit 12 (bit 7 of a PTE) is PAT. */
const LEAF_NOISE = 0x7ff0_0000_0000_0e78n;

/** SDM volume 3, table 12-12 with figure 5-11: PWT is bit 3, PCD bit 4, PAT bit 7 of a PTE and bit 12 of a superpage. */
function memoryTypeOf(entry: bigint, level: LeafLevel): number {
  const bit = (at: bigint): number => Number((entry >> at) & 1n);
  return bit(level === 1 ? 7n : 12n) * 4 + bit(4n) * 2 + bit(3n);
}

export class TestTables {
  readonly leaves: Leaf[] = [];
  /** Tables by level and first KVA: their PA. */
  readonly #tables = new Map<string, number>();
  readonly #entries = new Map<number, bigint>();
  readonly #denied: { level: number; kva: bigint; bits: bigint }[] = [];
  readonly root: number;
  #nextTable: number;

  constructor(
    readonly levels: 4 | 5,
    readonly prng: Prng,
    firstTable = 0x10_0000,
  ) {
    this.#nextTable = firstTable;
    this.root = this.#newTable(levels, 0n);
  }

  /** Takes rights away in the entry that names the table of `level` on the way to `kva`. Before the leaves below it. */
  deny(kva: bigint, level: number, bits: 'write' | 'execute' | 'user'): void {
    this.#denied.push({ kva, level, bits: bits === 'execute' ? NX : bits === 'write' ? 2n : 4n });
  }

  map(leaf: Leaf): void {
    let table = this.root;
    for (let level: number = this.levels; level > leaf.level; level--)
      table = this.#descend(table, level, leaf.kva);
    let entry = BigInt(leaf.pa) | 1n | (this.prng.chance(50) ? LEAF_NOISE & this.#random() : 0n);
    if (leaf.writable) entry |= 2n;
    if (leaf.user) entry |= 4n;
    if (leaf.global) entry |= 0x100n;
    if (!leaf.executable) entry |= NX;
    if (leaf.level > 1) entry |= 0x80n | (this.prng.chance(50) ? 0x1f_f000n & this.#random() : 0n);
    else if (this.prng.chance(50)) entry |= 0x80n;
    this.#entries.set(table + indexOf(leaf.kva, leaf.level) * 8, entry);
    const lost = this.#denied.filter(
      ({ kva, level }) => level >= leaf.level && sameTable(kva, leaf.kva, level),
    );
    const takes = (bit: bigint): boolean => lost.some(({ bits }) => bits === bit);
    this.leaves.push({
      ...leaf,
      memoryType: memoryTypeOf(entry, leaf.level),
      writable: leaf.writable && !takes(2n),
      user: leaf.user && !takes(4n),
      executable: leaf.executable && !takes(NX),
    });
  }

  /** Puts any value into the entry of `level` on the way to `kva`; the tables above it are made. */
  poke(kva: bigint, level: number, entry: bigint): void {
    let table = this.root;
    for (let at: number = this.levels; at > level; at--) table = this.#descend(table, at, kva);
    this.#entries.set(table + indexOf(kva, level) * 8, entry);
  }

  /** PA of the table of `level` on the way to a KVA. */
  tableFor(kva: bigint, level: number): number | undefined {
    return level === this.levels ? this.root : this.#tables.get(keyOf(kva, level));
  }

  /** The pages of all tables. */
  pages(): Map<number, Uint8Array> {
    const pages = new Map<number, Uint8Array>();
    for (const pa of this.#tables.values()) pages.set(pa, new Uint8Array(4096));
    for (const [pa, entry] of this.#entries) {
      const page = pages.get(pa - (pa % 4096))!;
      new DataView(page.buffer).setBigUint64(pa % 4096, entry, true);
    }
    return pages;
  }

  #descend(table: number, level: number, kva: bigint): number {
    const known = this.tableFor(kva, level - 1);
    if (known !== undefined) return known;
    const child = this.#newTable(level - 1, kva);
    const denied = this.#denied.filter(
      (one) => one.level === level - 1 && sameTable(one.kva, kva, level - 1),
    );
    let entry = BigInt(child) | 0x67n | (this.prng.chance(50) ? TABLE_NOISE & this.#random() : 0n);
    for (const { bits } of denied) entry = bits === NX ? entry | NX : entry & ~bits;
    this.#entries.set(table + indexOf(kva, level) * 8, entry);
    return child;
  }

  #newTable(level: number, kva: bigint): number {
    const pa = this.#nextTable;
    this.#nextTable += 4096 * this.prng.between(1, 3);
    this.#tables.set(keyOf(kva, level), pa);
    return pa;
  }

  #random(): bigint {
    return (BigInt(this.prng.u32()) << 32n) | BigInt(this.prng.u32());
  }
}

/** Index of an address in a table whose entries have this level. */
export function indexOf(kva: bigint, level: number): number {
  return Number((kva >> shiftOf(level)) & 511n);
}

function keyOf(kva: bigint, level: number): string {
  return `${level}:${kva >> shiftOf(level + 1)}`;
}

function sameTable(a: bigint, b: bigint, level: number): boolean {
  return a >> shiftOf(level + 1) === b >> shiftOf(level + 1);
}

/** Physical memory that holds these pages and nothing else; the file is cut short by `cut` bytes. */
export function memoryOf(pages: ReadonlyMap<number, Uint8Array>, cut = 0): PhysicalMemory {
  const addresses = [...pages.keys()].sort((a, b) => a - b);
  const bytes = new Uint8Array(addresses.length * 4096);
  addresses.forEach((pa, i) => bytes.set(pages.get(pa)!, i * 4096));
  const segments = addresses.map((pa, i) => ({ pa, offset: i * 4096, length: 4096 }));
  return new SegmentMemory(new BlockCache(new MemorySource(bytes.slice(0, bytes.length - cut))), segments);
}

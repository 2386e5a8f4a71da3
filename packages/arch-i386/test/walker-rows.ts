import {
  BlockCache,
  EXECUTE,
  GLOBAL,
  MAPPED,
  Mapping,
  MemorySource,
  NOT_CANONICAL,
  READ,
  SegmentMemory,
  TABLE_ABSENT,
  Translation,
  UNMAPPED,
  USER,
  WRITE,
} from '@libkvm/minidump-core';
import type { AddressSpace, PhysicalMemory } from '@libkvm/minidump-core';

/** One answer or one mapping, in words. KVAs are numbers below 2^32. */
export interface Row {
  readonly kva: number;
  readonly outcome: 'mapped' | 'unmapped' | 'no table' | 'not canonical' | number;
  readonly pa?: number;
  readonly rights?: string;
  readonly pageSize?: number;
}

const NAMES: Readonly<Record<number, Row['outcome']>> = {
  [MAPPED]: 'mapped',
  [UNMAPPED]: 'unmapped',
  [TABLE_ABSENT]: 'no table',
  [NOT_CANONICAL]: 'not canonical',
};

/** What a space answers for an address. */
export function ask(space: AddressSpace, kva: number, out = new Translation()): Row {
  space.translate(Math.floor(kva / 4096), kva % 4096, out);
  return rowOf(kva, out);
}

/** The rows of a walk over `[from, to)`, with their lengths; all of them unless there is a limit. */
export function walk(
  space: AddressSpace,
  from = 0,
  to = 2 ** 32,
  limit = Infinity,
): (Row & { length: number })[] {
  const cursor = space.mappings(from / 4096, to / 4096);
  const mapping = new Mapping();
  const rows = [];
  while (rows.length < limit && cursor.next(mapping)) {
    rows.push({ ...rowOf(mapping.page * 4096 + mapping.offset, mapping), length: mapping.length });
  }
  return rows;
}

function rowOf(kva: number, { outcome, pa, flags, pageSize }: Translation): Row {
  const name = NAMES[outcome] ?? outcome;
  if (outcome === MAPPED) return { kva, outcome: name, pa, rights: rightsOf(flags), pageSize };
  return { kva, outcome: name, ...(outcome === TABLE_ABSENT ? { pa } : {}) };
}

/** `rwxug`, with `-` for what is not so. */
function rightsOf(flags: number): string {
  const letters = ['r', 'w', 'x', 'u', 'g'];
  return [READ, WRITE, EXECUTE, USER, GLOBAL].map((flag, i) => (flags & flag ? letters[i] : '-')).join('');
}

/** Physical memory that holds these pages and nothing else; the file is cut short by `cut` bytes. */
export function memoryOf(pages: ReadonlyMap<number, Uint8Array>, cut = 0): PhysicalMemory {
  const addresses = [...pages.keys()].sort((a, b) => a - b);
  const bytes = new Uint8Array(addresses.length * 4096);
  addresses.forEach((pa, i) => bytes.set(pages.get(pa)!, i * 4096));
  const segments = addresses.map((pa, i) => ({ pa, offset: i * 4096, length: 4096 }));
  return new SegmentMemory(new BlockCache(new MemorySource(bytes.slice(0, bytes.length - cut))), segments);
}

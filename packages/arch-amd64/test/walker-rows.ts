import {
  EXECUTE,
  GLOBAL,
  KvaParts,
  MAPPED,
  Mapping,
  NOT_CANONICAL,
  READ,
  TABLE_ABSENT,
  Translation,
  UNMAPPED,
  USER,
  WRITE,
  kvaOf,
} from '@libkvm/minidump-core';
import type { AddressSpace } from '@libkvm/minidump-core';
import type { Leaf } from './walker-tables.js';
import { sizeOf } from './walker-tables.js';

/** One answer or one mapping, in the words of the literal description. */
export interface Row {
  readonly kva: bigint;
  readonly outcome: 'mapped' | 'unmapped' | 'no table' | 'not canonical' | number;
  readonly pa?: number;
  readonly flags?: number;
  readonly pageSize?: number;
}

/** A part of the address space whose page table is lost. */
export interface LostPart {
  readonly start: bigint;
  readonly end: bigint;
  /** Address of the missing table, and how much KVA 8 bytes of it stand for. */
  readonly table: number;
  readonly span: bigint;
}

const NAMES: Readonly<Record<number, Row['outcome']>> = {
  [MAPPED]: 'mapped',
  [UNMAPPED]: 'unmapped',
  [TABLE_ABSENT]: 'no table',
  [NOT_CANONICAL]: 'not canonical',
};

/** What a space answers for an address. */
export function ask(space: AddressSpace, kva: bigint, out = new Translation()): Row {
  const parts = new KvaParts(64);
  parts.set(kva);
  space.translate(parts.page, parts.offset, out);
  return rowOf(kva, out);
}

/** All rows of a walk over pages `[from, to)` (as KVAs), with their lengths. */
export function walk(space: AddressSpace, from: bigint, to: bigint): (Row & { length: number })[] {
  const cursor = space.mappings(Number(from >> 12n), Number(to >> 12n));
  const mapping = new Mapping();
  const rows = [];
  while (cursor.next(mapping)) {
    rows.push({ ...rowOf(kvaOf(mapping.page, mapping.offset), mapping), length: mapping.length });
  }
  return rows;
}

function rowOf(kva: bigint, { outcome, pa, flags, pageSize }: Translation): Row {
  const name = NAMES[outcome] ?? outcome;
  if (outcome === MAPPED) return { kva, outcome: name, pa, flags, pageSize };
  return { kva, outcome: name, ...(outcome === TABLE_ABSENT ? { pa } : {}) };
}

export function flagsOf({ writable, executable, user, global, memoryType = 0 }: Leaf): number {
  return (
    READ |
    (writable ? WRITE : 0) |
    (executable ? EXECUTE : 0) |
    (user ? USER : 0) |
    (global ? GLOBAL : 0) |
    (memoryType << 8)
  );
}

/** The answer to expect for an address. */
export function expectedRow(
  leaves: readonly Leaf[],
  lost: readonly LostPart[],
  bits: 48n | 57n,
  kva: bigint,
): Row {
  const high = kva >> (bits - 1n);
  if (high !== 0n && high !== (1n << (65n - bits)) - 1n) return { kva, outcome: 'not canonical' };
  const hole = lost.find(({ start, end }) => kva >= start && kva < end);
  if (hole) return { kva, outcome: 'no table', pa: hole.table };
  const leaf = leaves.find((one) => kva >= one.kva && kva < one.kva + BigInt(sizeOf(one.level)));
  if (!leaf) return { kva, outcome: 'unmapped' };
  const pa = leaf.pa + Number(kva - leaf.kva);
  return { kva, outcome: 'mapped', pa, flags: flagsOf(leaf), pageSize: sizeOf(leaf.level) };
}

/** The rows to expect from a walk, cut to its window. */
export function expectedWalk(
  leaves: readonly Leaf[],
  lost: readonly LostPart[],
  from: bigint,
  to: bigint,
): (Row & { length: number })[] {
  const inLost = (kva: bigint): boolean => lost.some(({ start, end }) => kva >= start && kva < end);
  const rows = [
    ...leaves
      .filter(({ kva }) => !inLost(kva))
      .map((leaf) => ({ start: leaf.kva, end: leaf.kva + BigInt(sizeOf(leaf.level)) })),
    ...lost,
  ];
  return rows
    .map(({ start, end }) => ({ start: start > from ? start : from, end: end < to ? end : to }))
    .filter(({ start, end }) => start < end)
    .sort((a, b) => (a.start < b.start ? -1 : 1))
    .map(({ start, end }) => ({ ...expectedRow(leaves, lost, 57n, start), length: Number(end - start) }));
}

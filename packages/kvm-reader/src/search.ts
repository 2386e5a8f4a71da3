import { KVA_PAGE, KvmError, MAPPED, Mapping, kvaOf } from '@libkvm/minidump-core';
import type { MemoryReader } from './memory-reader.js';
import { pageWindow, type WalkRange } from './page-walk.js';

/** A window of KVAs to search, half-open; the direct map is searched when it lies in the window. */
export type SearchRange = WalkRange;

/** Bytes looked at in one go. */
const STEP = 256 * 1024;

/**
 * Finds a byte string in a sequence of pieces. A match may span pieces that follow each other without a gap.
 */
class Matcher {
  private readonly buffer: Uint8Array;
  /** Bytes kept from the piece before: one fewer than the needle has. */
  private kept = 0;

  constructor(private readonly needle: Uint8Array) {
    this.buffer = new Uint8Array(STEP + needle.length);
  }

  /** Forgets what came before: the next piece does not follow it. */
  reset(): void {
    this.kept = 0;
  }

  /** Where the next piece of up to STEP bytes belongs. */
  target(): Uint8Array {
    return this.buffer.subarray(this.kept, this.kept + STEP);
  }

  /** Positions of matches, counted from the start of the piece just put in (negative: begun in the piece before). */
  *matches(length: number): Generator<number> {
    const { buffer, needle, kept } = this;
    const end = kept + length;
    const bytes = buffer.subarray(0, end);
    const last = end - needle.length;
    for (let i = bytes.indexOf(needle[0]); i >= 0 && i <= last; i = bytes.indexOf(needle[0], i + 1)) {
      let same = 1;
      while (same < needle.length && bytes[i + same] === needle[same]) same++;
      if (same === needle.length) yield i - kept;
    }
    this.kept = Math.min(end, needle.length - 1);
    buffer.copyWithin(0, end - this.kept, end);
  }
}

/** See `Kvm.search`. */
export function* searchVirtual(
  reader: MemoryReader,
  needle: Uint8Array | string,
  range: SearchRange = {},
): Generator<bigint, void, undefined> {
  const matcher = new Matcher(toNeedle(needle));
  const [from, to] = pageWindow(reader.translator, range);
  const cursor = reader.core.addressSpace?.mappings(from, to);
  const mapping = new Mapping();
  let nextPage = -1;
  while (cursor?.next(mapping) === true) {
    if (mapping.outcome !== MAPPED || mapping.offset !== 0) continue;
    if (mapping.page !== nextPage) matcher.reset();
    for (const at of searchMemory(reader, matcher, mapping.pa, mapping.length)) {
      yield kvaAt(mapping.page, at);
    }
    nextPage = mapping.page + mapping.length / KVA_PAGE;
  }
  yield* searchDirectMap(reader, matcher, from, to);
}

/** See `Kvm.searchPhysical`. */
export function* searchPhysical(
  reader: MemoryReader,
  needle: Uint8Array | string,
): Generator<number, void, undefined> {
  const matcher = new Matcher(toNeedle(needle));
  for (const { pa, length, follows } of dumpedRuns(reader, 0, 2 ** 52)) {
    if (!follows) matcher.reset();
    for (const at of searchMemory(reader, matcher, pa, length)) yield pa + at;
  }
}

function* searchDirectMap(
  reader: MemoryReader,
  matcher: Matcher,
  from: number,
  to: number,
): Generator<bigint> {
  const { directMap } = reader.core;
  if (directMap === undefined) return;
  const first = Math.max(from, Number(directMap.base / BigInt(KVA_PAGE)));
  const end = Math.min(to, Number(directMap.end / BigInt(KVA_PAGE)));
  if (first >= end) return;
  const base = directMap.phys + (first - Number(directMap.base / BigInt(KVA_PAGE))) * KVA_PAGE;
  for (const { pa, length, follows } of dumpedRuns(reader, base, base + (end - first) * KVA_PAGE)) {
    if (!follows) matcher.reset();
    for (const at of searchMemory(reader, matcher, pa, length)) yield kvaAt(first, pa - base + at);
  }
}

/** The runs of pages that the core holds within `[from, to)`, ascending. */
function* dumpedRuns(
  reader: MemoryReader,
  from: number,
  to: number,
): Generator<{ pa: number; length: number; follows: boolean }> {
  const { memory } = reader.core;
  let previousEnd = -1;
  for (let pa = memory.nextDumped(from); pa >= 0 && pa < to;) {
    const end = memory.dumpedEnd(pa);
    const start = Math.max(pa, from);
    yield { pa: start, length: Math.min(end, to) - start, follows: start === previousEnd };
    previousEnd = end;
    pa = memory.nextDumped(end);
  }
}

/** Matches in the present parts of a physically contiguous stretch, as offsets from its start. */
function* searchMemory(
  reader: MemoryReader,
  matcher: Matcher,
  pa: number,
  length: number,
): Generator<number> {
  const { memory } = reader.core;
  let done = 0;
  while (done < length) {
    if (memory.locate(pa + done) < 0) {
      matcher.reset();
      done += memory.hole(pa + done, length - done);
      continue;
    }
    const count = reader.copyPhysical(pa + done, matcher.target(), 0, Math.min(STEP, length - done));
    // Offsets, not positions, outlive the piece: a match may begin before it.
    for (const at of matcher.matches(count)) yield done + at;
    done += count;
  }
}

function kvaAt(page: number, offset: number): bigint {
  return kvaOf(page + Math.floor(offset / KVA_PAGE), ((offset % KVA_PAGE) + KVA_PAGE) % KVA_PAGE);
}

function toNeedle(needle: Uint8Array | string): Uint8Array {
  const bytes = typeof needle === 'string' ? new TextEncoder().encode(needle) : needle;
  if (bytes.length > 0 && bytes.length <= STEP) return bytes;
  throw new KvmError('INVALID_ARGUMENT', `search takes 1 to ${STEP} bytes, not ${bytes.length}`, {
    field: 'needle',
  });
}

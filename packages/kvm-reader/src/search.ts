import { KVA_PAGE, KvmError, MAPPED, Mapping, kvaOf, type MappingCursor } from '@libkvm/minidump-core';
import { Matcher, SEARCH_STEP } from './matcher.js';
import type { MemoryReader } from './memory-reader.js';
import { pageWindow, type WalkRange } from './page-walk.js';

/** A window of KVAs to search, half-open; the direct map is searched when it lies in the window. */
export type SearchRange = WalkRange;

/** A stretch of memory that is contiguous in PA. */
interface Stretch {
  pa: number;
  length: number;
  /** Whether it goes on where the one before it ended. */
  follows: boolean;
}

/** Gives stretches in order. Nothing changes when the source throws: it can be asked again. */
interface Stretches {
  next(): Stretch | undefined;
}

/**
 * A search under way, to be taken up again at any time: matches one by one, in order. Nothing is lost when the source
 * throws in the middle.
 */
export class SearchCursor<T> {
  private readonly matcher: Matcher;
  private stretch: Stretch | undefined;
  private done = 0;
  private readonly found: T[] = [];

  constructor(
    private readonly reader: MemoryReader,
    needle: Uint8Array,
    private readonly stretches: Stretches,
    /** What a match is called that starts so many bytes behind the start of the last stretch, or before it. */
    private readonly nameOf: (offset: number) => T,
    /** Whether a match counts. */
    private readonly inWindow: (name: T) => boolean = () => true,
  ) {
    this.matcher = new Matcher(needle);
  }

  /** The next match, or undefined at the end. */
  next(): T | undefined {
    while (this.found.length === 0) {
      if (!this.stretch && !this.enter()) return undefined;
      this.searchPiece(this.stretch!);
    }
    return this.found.shift();
  }

  private add(name: T): void {
    if (this.inWindow(name)) this.found.push(name);
  }

  private enter(): boolean {
    const stretch = this.stretches.next();
    if (stretch === undefined) return false;
    if (!stretch.follows) this.matcher.reset();
    this.stretch = stretch;
    this.done = 0;
    return true;
  }

  private searchPiece({ pa, length }: Stretch): void {
    const { memory } = this.reader.core;
    const at = this.done;
    if (at >= length) this.stretch = undefined;
    else if (memory.locate(pa + at) < 0) {
      const hole = memory.hole(pa + at, length - at);
      this.matcher.reset();
      this.done += hole;
    } else {
      const wanted = Math.min(SEARCH_STEP, length - at);
      const count = this.reader.copyPhysical(pa + at, this.matcher.target(), 0, wanted);
      for (const match of this.matcher.accept(count)) this.add(this.nameOf(at + match));
      this.done += count;
    }
  }
}

/** See `Kvm.search`. */
export function searchVirtual(
  reader: MemoryReader,
  needle: Uint8Array | string,
  range: SearchRange = {},
): SearchCursor<bigint> {
  const stretches = new VirtualStretches(reader, range);
  const bytes = toNeedle(needle);
  const from = range.from === undefined ? 0n : addressOf(reader, range.from);
  const last = endOf(reader, range.to) - BigInt(bytes.length);
  const inWindow = (kva: bigint): boolean => kva >= from && kva <= last;
  return new SearchCursor(reader, bytes, stretches, (offset) => kvaAt(stretches.page, offset), inWindow);
}

/** See `Kvm.searchPhysical`. */
export function searchPhysical(reader: MemoryReader, needle: Uint8Array | string): SearchCursor<number> {
  const stretches = new DumpedStretches(reader, 0, 2 ** 52);
  return new SearchCursor(reader, toNeedle(needle), stretches, (offset) => stretches.pa + offset);
}

/** The runs of pages that the core holds within `[from, to)` of physical memory, ascending. */
class DumpedStretches implements Stretches {
  /** PA of the last stretch. */
  pa = 0;
  private end: number;
  /** The first stretch follows nothing, wherever it starts: what was searched before lies elsewhere. */
  private begun = false;

  constructor(
    private readonly reader: MemoryReader,
    from: number,
    private readonly to: number,
  ) {
    this.end = from;
  }

  next(): Stretch | undefined {
    const { memory } = this.reader.core;
    const next = memory.nextDumped(this.end);
    const pa = Math.max(next, this.end);
    if (next < 0 || pa >= this.to) return undefined;
    const end = Math.min(this.to, memory.dumpedEnd(pa));
    const follows = this.begun && pa === this.end;
    this.begun = true;
    this.pa = pa;
    this.end = end;
    return { pa, length: end - pa, follows };
  }
}

/** The mappings of a window, ascending, then what of the direct map lies in it. */
class VirtualStretches implements Stretches {
  /** Page number at which the last stretch starts. */
  page = 0;
  private readonly cursor: MappingCursor | undefined;
  private readonly mapping = new Mapping();
  private nextPage = -1;
  private readonly direct: DumpedStretches | undefined;
  private directPage = 0;
  private directPa = 0;

  constructor(reader: MemoryReader, range: SearchRange) {
    const [from, to] = pageWindow(reader.translator, range);
    const { addressSpace, directMap } = reader.core;
    this.cursor = addressSpace?.mappings(from, to);
    if (directMap === undefined) return;
    const base = Number(directMap.base / BigInt(KVA_PAGE));
    this.directPage = Math.max(from, base);
    const pages = Math.min(to, Number(directMap.end / BigInt(KVA_PAGE))) - this.directPage;
    this.directPa = directMap.phys + (this.directPage - base) * KVA_PAGE;
    if (pages > 0) this.direct = new DumpedStretches(reader, this.directPa, this.directPa + pages * KVA_PAGE);
  }

  next(): Stretch | undefined {
    const { mapping } = this;
    while (this.cursor?.next(mapping) === true) {
      if (mapping.outcome !== MAPPED) continue;
      this.page = mapping.page + mapping.offset / KVA_PAGE;
      const follows = this.page === this.nextPage;
      this.nextPage = this.page + mapping.length / KVA_PAGE;
      return { pa: mapping.pa, length: mapping.length, follows };
    }
    const stretch = this.direct?.next();
    if (stretch) this.page = this.directPage + (stretch.pa - this.directPa) / KVA_PAGE;
    return stretch;
  }
}

/** A KVA as the machine has it: on a 32-bit one a sign-extended address is the same as without. */
function addressOf(reader: MemoryReader, kva: number | bigint): bigint {
  const { page, offset } = reader.split(kva);
  return kvaOf(page, offset);
}

/** The end of a window: an address, or the end of the address space. */
function endOf(reader: MemoryReader, to: number | bigint | undefined): bigint {
  const end = BigInt(reader.translator.endPage) * BigInt(KVA_PAGE);
  return to === undefined || BigInt(to) === end || BigInt(to) > 0xffff_ffff_ffff_ffffn
    ? end
    : addressOf(reader, to);
}

/** The KVA so many bytes from the start of a page, which may be a fraction of one. */
function kvaAt(page: number, offset: number): bigint {
  const first = Math.floor(page);
  const bytes = (page - first) * KVA_PAGE + offset;
  return kvaOf(first + Math.floor(bytes / KVA_PAGE), ((bytes % KVA_PAGE) + KVA_PAGE) % KVA_PAGE);
}

function toNeedle(needle: Uint8Array | string): Uint8Array {
  const bytes = typeof needle === 'string' ? new TextEncoder().encode(needle) : needle;
  if (bytes.length > 0 && bytes.length <= SEARCH_STEP) return bytes;
  throw new KvmError('INVALID_ARGUMENT', `search takes 1 to ${SEARCH_STEP} bytes, not ${bytes.length}`, {
    field: 'needle',
    hint: 'search for a part of it, and compare the rest',
  });
}

import {
  KVA_PAGE,
  KvaParts,
  MAPPED,
  Mapping,
  READ,
  WRITE,
  kvaOf,
  protectionOf,
  type PhysicalMemory,
} from '@libkvm/minidump-core';
import { PageMarks } from './page-marks.js';
import type { Translator } from './translator.js';

/** One row of the page walk. Addresses of what does not exist are undefined. */
export interface PageEntry {
  /** KVA in the kernel's map; undefined for a dumped page that no page table maps. */
  kva: bigint | undefined;
  pa: number;
  /** KVA in the direct map. */
  dmap: bigint | undefined;
  /** `rwx` with `-` for what is not allowed. */
  protection: string;
  /** Offset in the core file; undefined when the page is not in the core, past its end, or compressed. */
  offset: number | undefined;
  /** Bytes of this row: a whole mapping, or the part of it that is present or absent alike and in one piece. */
  length: number;
  /** Bytes of the hardware mapping; for pages without a KVA, of the base page. */
  pageSize: number;
}

/** A window of KVAs, half-open. */
export interface WalkRange {
  readonly from?: number | bigint;
  readonly to?: number | bigint;
}

/** See `Kvm.pages`. */
export function* walkPages(
  translator: Translator,
  range: WalkRange = {},
): Generator<PageEntry, void, undefined> {
  const { core } = translator;
  const marks = new PageMarks(core.memory.pages.dumped);
  const [from, to] = pageWindow(translator, range);
  const cursor = core.addressSpace?.mappings(from, to);
  const mapping = new Mapping();
  while (cursor?.next(mapping) === true) {
    if (mapping.outcome === MAPPED) yield* splitMapping(translator, mapping, marks);
  }
  if (range.from === undefined && range.to === undefined) yield* unmappedPages(translator, marks);
}

/** The window in pages: partial pages at its edges count whole. */
export function pageWindow(translator: Translator, { from, to }: WalkRange): [number, number] {
  const parts = new KvaParts(translator.core.bits);
  const first = from === undefined ? 0 : (parts.set(from), parts.page);
  if (to === undefined) return [first, translator.endPage];
  // `to` may be the end of the address space, which is no address itself.
  const end = BigInt(translator.endPage) * BigInt(KVA_PAGE);
  if (to === end || to === Number(end)) return [first, translator.endPage];
  parts.set(to);
  return [first, parts.page + (parts.offset > 0 ? 1 : 0)];
}

/** The rows of one mapping: one, unless presence or contiguity in the file changes inside it. */
function* splitMapping(translator: Translator, mapping: Mapping, marks: PageMarks): Generator<PageEntry> {
  const { memory } = translator.core;
  let done = 0;
  while (done < mapping.length) {
    const pa = mapping.pa + done;
    const located = memory.locate(pa);
    const rest = mapping.length - done;
    const length =
      located >= 0 ? wholePages(memory, pa, memory.run(pa, rest), rest) : absentLength(memory, pa, rest);
    const at = mapping.offset + done;
    yield {
      kva: kvaOf(mapping.page + Math.floor(at / KVA_PAGE), at % KVA_PAGE),
      pa,
      dmap: translator.directMapKva(pa),
      protection: protectionOf(mapping.flags),
      offset: located >= 0 && memory.fileOffsets ? located : undefined,
      length,
      pageSize: mapping.pageSize,
    };
    mark(memory, marks, pa, length);
    done += length;
  }
}

/** A run in the file, with the page that the end of the file cuts counted whole. */
function wholePages(memory: PhysicalMemory, pa: number, run: number, limit: number): number {
  const end = Math.ceil((pa + run) / memory.pageSize) * memory.pageSize;
  return Math.min(limit, memory.dumpedEnd(pa + run - 1) >= end ? end - pa : run);
}

/** Bytes from an absent byte on that are absent: not dumped, or past the end of the file. */
function absentLength(memory: PhysicalMemory, pa: number, limit: number): number {
  let length = 0;
  while (length < limit && memory.locate(pa + length) < 0) length += memory.hole(pa + length, limit - length);
  return length;
}

function mark(memory: PhysicalMemory, marks: PageMarks, pa: number, length: number): void {
  let at = pa;
  while (at < pa + length) {
    const index = memory.pageIndex(at);
    if (index < 0) {
      const next = memory.nextDumped(at);
      if (next < 0) return;
      at = next;
    } else {
      const end = Math.min(pa + length, memory.dumpedEnd(at));
      const first = Math.floor(at / memory.pageSize);
      marks.add(index, Math.ceil(end / memory.pageSize) - first);
      at = end;
    }
  }
}

/** Dumped pages that were not marked, a page at a time, by ascending PA. */
function* unmappedPages(translator: Translator, marks: PageMarks): Generator<PageEntry> {
  const { memory } = translator.core;
  const { pageSize } = memory;
  for (let pa = memory.nextDumped(0); pa >= 0;) {
    const end = memory.dumpedEnd(pa);
    const index = memory.pageIndex(pa);
    const last = index + (end - pa) / pageSize;
    for (let i = marks.nextClear(index, last); i < last; i = marks.nextClear(i + 1, last)) {
      yield unmappedPage(translator, pa + (i - index) * pageSize);
    }
    pa = memory.nextDumped(end);
  }
}

function unmappedPage(translator: Translator, pa: number): PageEntry {
  const { memory } = translator.core;
  const located = memory.locate(pa);
  return {
    kva: undefined,
    pa,
    dmap: translator.directMapKva(pa),
    protection: protectionOf(READ | WRITE),
    offset: located >= 0 && memory.fileOffsets ? located : undefined,
    length: memory.pageSize,
    pageSize: memory.pageSize,
  };
}

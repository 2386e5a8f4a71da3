import {
  KVA_PAGE,
  KvaParts,
  MAPPED,
  Mapping,
  type MappingCursor,
  type PhysicalMemory,
} from '@libkvm/minidump-core';
import { PageRows, type PageEntry } from './page-rows.js';
import type { Translator } from './translator.js';

export type { PageEntry } from './page-rows.js';

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
  const walk = new PageWalk(translator, range);
  for (let row = walk.next(); row !== undefined; row = walk.next()) yield row;
}

/** A page walk that can be left and taken up again: when the source throws, `next` may be called again. */
export class PageWalk {
  private readonly rows: PageRows;
  private readonly memory: PhysicalMemory;
  private readonly mapping = new Mapping();
  private cursor: MappingCursor | undefined;
  /** Bytes of the mapping at hand of which there have been rows; all of them when there is none at hand. */
  private done = 0;
  /** Pages without a KVA: the run at hand, by indices of pages, the PA of index 0 if it went on so far, and its end. */
  private index = 0;
  private endIndex = 0;
  private basePa = 0;
  private nextPa: number;

  constructor(translator: Translator, range: WalkRange = {}) {
    const { core } = translator;
    const [from, to] = pageWindow(translator, range);
    this.rows = new PageRows(translator);
    this.memory = core.memory;
    this.cursor = core.addressSpace?.mappings(from, to);
    this.nextPa = range.from === undefined && range.to === undefined ? 0 : -1;
  }

  /** The next row; undefined at the end. */
  next(): PageEntry | undefined {
    return this.cursor !== undefined && this.findMapped() ? this.mappedRow() : this.unmappedRow();
  }

  /** Whether there is, or comes, a mapping of which there are rows to make. */
  private findMapped(): boolean {
    const { mapping } = this;
    while (this.done >= mapping.length) {
      this.done = Infinity;
      if (this.cursor?.next(mapping) !== true) {
        this.cursor = undefined;
        return false;
      }
      if (mapping.outcome === MAPPED) this.done = 0;
    }
    return true;
  }

  private mappedRow(): PageEntry {
    const row = this.rows.mapped(this.mapping, this.done);
    this.done += row.length;
    return row;
  }

  /** Dumped pages that were not marked, a page at a time, by ascending PA. */
  private unmappedRow(): PageEntry | undefined {
    const { memory, rows } = this;
    for (;;) {
      const index = rows.marks.nextClear(this.index, this.endIndex);
      if (index < this.endIndex) {
        const row = rows.unmapped(this.basePa + index * memory.pageSize);
        this.index = index + 1;
        return row;
      }
      if (!this.nextRun()) return undefined;
    }
  }

  private nextRun(): boolean {
    const { memory } = this;
    const pa = this.nextPa < 0 ? -1 : memory.nextDumped(this.nextPa);
    if (pa < 0) return false;
    const end = memory.dumpedEnd(pa);
    this.index = memory.pageIndex(pa);
    this.endIndex = this.index + (end - pa) / memory.pageSize;
    this.basePa = pa - this.index * memory.pageSize;
    this.nextPa = end;
    return true;
  }
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

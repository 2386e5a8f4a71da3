import {
  KVA_PAGE,
  READ,
  WRITE,
  kvaOf,
  protectionOf,
  type Mapping,
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

/** Strings for every combination of READ, WRITE and EXECUTE, made once. */
const PROTECTIONS = Array.from({ length: 8 }, (_, flags) => protectionOf(flags));
/** How far behind a row the core is looked at in one go: neighbours in physical memory come soon. */
const LOOK_AHEAD = 256 * 1024;

/** Makes the rows of a page walk, and knows of which pages there have been rows. */
export class PageRows {
  readonly marks: PageMarks;
  private readonly memory: PhysicalMemory;
  /** A run of bytes that lie one behind the other in the core: PA from and to, offset, and page index of the first. */
  private runFrom = 0;
  private runTo = 0;
  private runOffset = 0;
  private runIndex = 0;

  constructor(private readonly translator: Translator) {
    this.memory = translator.core.memory;
    this.marks = new PageMarks(this.memory.pages.dumped);
  }

  /** The row of a mapping from so many bytes on: all of it, or up to where presence or contiguity in the file changes. */
  mapped(mapping: Mapping, done: number): PageEntry {
    const pa = mapping.pa + done;
    const rest = mapping.length - done;
    const known = pa >= this.runFrom && pa + rest <= this.runTo;
    const offset = known ? this.runOffset + (pa - this.runFrom) : this.memory.locate(pa);
    const length = known ? rest : offset < 0 ? this.absentLength(pa, rest) : this.findRun(pa, offset, rest);
    if (known || (pa >= this.runFrom && pa + length <= this.runTo)) this.markRun(pa, length);
    else this.mark(pa, length);
    const at = mapping.offset + done;
    const pages = Math.floor(at / KVA_PAGE);
    const kva = kvaOf(mapping.page + pages, at - pages * KVA_PAGE);
    return this.row(kva, pa, mapping.flags, offset, length, mapping.pageSize);
  }

  /** The row of a page that no mapping shows. */
  unmapped(pa: number): PageEntry {
    const { pageSize } = this.memory;
    return this.row(undefined, pa, READ | WRITE, this.memory.locate(pa), pageSize, pageSize);
  }

  private row(
    kva: bigint | undefined,
    pa: number,
    flags: number,
    located: number,
    length: number,
    pageSize: number,
  ): PageEntry {
    return {
      kva,
      pa,
      dmap: this.translator.directMapKva(pa),
      protection: PROTECTIONS[flags & 7],
      offset: located >= 0 && this.memory.fileOffsets ? located : undefined,
      length,
      pageSize,
    };
  }

  /**
   * Remembers the run that starts at a located byte, and says how many bytes of it, at most `limit`, make a row. The
   * page that the end of the file cuts counts whole.
   */
  private findRun(pa: number, offset: number, limit: number): number {
    const { memory } = this;
    const run = memory.run(pa, Math.max(limit, LOOK_AHEAD));
    const index = memory.pageIndex(pa);
    this.runFrom = pa;
    this.runTo = pa + run;
    this.runOffset = offset;
    this.runIndex = index;
    if (run >= limit) return limit;
    const end = Math.ceil((pa + run) / memory.pageSize) * memory.pageSize;
    return Math.min(limit, memory.dumpedEnd(pa + run - 1, end) >= end ? end - pa : run);
  }

  /** Bytes from an absent byte on that are absent: not dumped, or past the end of the file. */
  private absentLength(pa: number, limit: number): number {
    const { memory } = this;
    let length = 0;
    while (length < limit && memory.locate(pa + length) < 0)
      length += memory.hole(pa + length, limit - length);
    return length;
  }

  /** Marks the pages of a part of the run at hand. */
  private markRun(pa: number, length: number): void {
    const { pageSize } = this.memory;
    const first = Math.floor(pa / pageSize);
    const before = first - Math.floor(this.runFrom / pageSize);
    this.marks.add(this.runIndex + before, Math.ceil((pa + length) / pageSize) - first);
  }

  /** Marks the pages of any stretch that the core says it holds, whether the file has them or not. */
  private mark(pa: number, length: number): void {
    const { memory, marks } = this;
    const to = pa + length;
    for (let at = memory.nextDumped(pa, to); at >= 0 && at < to;) {
      const end = Math.min(to, memory.dumpedEnd(at, to));
      const first = Math.floor(at / memory.pageSize);
      marks.add(memory.pageIndex(at), Math.ceil(end / memory.pageSize) - first);
      at = end < to ? memory.nextDumped(end, to) : to;
    }
  }
}

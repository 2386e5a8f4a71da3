import { KVA_PAGE, MAPPED, type Mapping } from './address-space.js';
import type { DumpSource } from './dump-source.js';
import { KvmError } from './errors.js';
import { PageBitmap } from './page-bitmap.js';
import { dumpRanges } from './source-check.js';
import { countDamage, noDamage, SourceWalk, type KvaWindow, type WalkDamage } from './source-walk.js';

/** Which pages and which part of the address space a dump holds. */
export interface Selection extends KvaWindow {
  /**
   * Which pages go in: those that a mapping reaches (`mapped`, unless told otherwise), or every page of RAM that the source
   * holds (`all`): a dump is converted with all of its pages, for those who chose them knew why.
   */
  readonly pages?: 'mapped' | 'all';
  /** PAs of pages to add, whether mapped or not (FreeBSD's dump_add_page). */
  readonly addPages?: Iterable<number>;
  /** PAs of pages to leave out, whatever maps them (dump_drop_page). */
  readonly dropPages?: Iterable<number>;
}

/** What the walk of the address space found, in numbers. */
export interface SelectionReport {
  /** Bytes of KVA that are mapped, and the hardware mappings that do it. */
  mappedBytes: number;
  mappings: number;
  /** Pages in the dump. */
  pages: number;
  /** Of these, added by hand. */
  added: number;
  /**
   * Pages left out: no RAM (devices), RAM that the source does not hold, dropped by hand. Those of the first two kinds
   * count once for each mapping that reaches them. `truncated`: pages of the source that its file ends before, mapped or
   * not.
   */
  dropped: { outsideRam: number; absent: number; byHand: number; truncated: number };
  damage: WalkDamage;
}

/** The pages of a dump and the mappings it describes, decided before a byte is written. */
export class PageSelection {
  readonly bitmap: PageBitmap;
  /** The pages (KVA >> 12) from the first mapping on and behind the last; both 0 when nothing is mapped. */
  mappedFrom = 0;
  mappedTo = 0;
  readonly report: SelectionReport = {
    mappedBytes: 0,
    mappings: 0,
    pages: 0,
    added: 0,
    dropped: { outsideRam: 0, absent: 0, byHand: 0, truncated: 0 },
    damage: noDamage(),
  };
  /** The walk over the source that it was made by. */
  readonly walk: SourceWalk;
  /** Page frames dropped by hand. */
  private readonly dropped = new Set<number>();

  constructor(
    readonly source: DumpSource,
    selection: Selection = {},
  ) {
    this.walk = new SourceWalk(source, selection);
    this.bitmap = new PageBitmap(dumpRanges(source.memory.ranges));
    for (const mapping of this.walk.all()) {
      if (mapping.outcome !== MAPPED) {
        countDamage(this.report.damage, mapping.outcome);
        continue;
      }
      if (this.mappedTo === 0) this.mappedFrom = mapping.page;
      this.mappedTo = mapping.page + Math.ceil((mapping.offset + mapping.length) / KVA_PAGE);
      this.selectMapping(mapping.pa, mapping.length);
    }
    if (selection.pages === 'all') this.selectAll();
    this.report.dropped.truncated = source.memory.missingPages ?? 0;
    for (const pa of selection.dropPages ?? []) this.drop(pa);
    for (const pa of selection.addPages ?? []) this.add(pa);
    this.report.pages = this.bitmap.count;
  }

  /** The mappings that the dump describes, ascending, each time anew: those in the window and not in the direct map. */
  mappings(): Generator<Mapping, void, undefined> {
    return this.walk.mappings();
  }

  /** Whether the page at `pa` lies in RAM, the source holds all of it, and it was not dropped by hand. */
  holdsPage(pa: number): boolean {
    const { ranges } = this.bitmap;
    if (!ranges.has(pa) || this.dropped.has(Math.floor(pa / ranges.pageSize))) return false;
    return this.wholePages(pa, ranges.pageSize) > 0;
  }

  /** Every page of RAM that the source holds whole. */
  private selectAll(): void {
    const { ranges } = this.bitmap;
    for (const range of ranges.ranges) {
      const end = Math.ceil(range.end / ranges.pageSize) * ranges.pageSize;
      for (let at = Math.floor(range.start / ranges.pageSize) * ranges.pageSize; at < end;) {
        const there = this.wholePages(at, end - at);
        if (there > 0) this.bitmap.addRun(at, there);
        at += there > 0 ? there : this.absentBytes(at, end - at);
      }
    }
  }

  private selectMapping(pa: number, length: number): void {
    const { report, bitmap } = this;
    const { ranges } = bitmap;
    const { pageSize } = ranges;
    report.mappings++;
    report.mappedBytes += length;
    let at = pa;
    const end = pa + length;
    while (at < end) {
      const next = ranges.nextPage(Math.floor(at / pageSize));
      const ramAt = next < 0 ? end : Math.min(end, Math.max(at, next * pageSize));
      report.dropped.outsideRam += Math.ceil((ramAt - at) / pageSize);
      at = ramAt;
      if (at >= end) return;
      const there = this.wholePages(at, end - at);
      if (there === 0) {
        const absent = this.absentBytes(at, end - at);
        report.dropped.absent += Math.ceil(absent / pageSize);
        at += absent;
      } else {
        bitmap.addRun(at, there);
        at += there;
      }
    }
  }

  /** Bytes from `pa` on, at most `limit`, whose pages the source holds whole. */
  private wholePages(pa: number, limit: number): number {
    const { pageSize } = this.bitmap.ranges;
    const first = Math.floor(pa / pageSize) * pageSize;
    const wanted = Math.ceil((pa + limit) / pageSize) * pageSize - first;
    const pages = Math.floor(this.source.memory.available(first, wanted) / pageSize);
    return pages === 0 ? 0 : Math.min(limit, first + pages * pageSize - pa);
  }

  /** Bytes from `pa` on, at most `limit`, of the page that holds it, which is not there whole, and of absent ones behind. */
  private absentBytes(pa: number, limit: number): number {
    const { memory } = this.source;
    const { ranges } = this.bitmap;
    const pfn = Math.floor(pa / ranges.pageSize);
    const next = (pfn + 1) * ranges.pageSize;
    const inRam = (pfn + ranges.endBitOf(pfn) - ranges.bitOf(pfn)) * ranges.pageSize;
    const room = Math.min(pa + limit, inRam) - next;
    if (memory.hole === undefined || room <= 0 || memory.available(next, 1) > 0)
      return Math.min(limit, next - pa);
    const pages = Math.floor(memory.hole(next, room) / ranges.pageSize);
    return Math.min(limit, next + pages * ranges.pageSize - pa);
  }

  private add(pa: number): void {
    const { ranges } = this.bitmap;
    const { pageSize } = ranges;
    if (!Number.isSafeInteger(pa) || pa < 0) throw badPage(pa);
    if (this.dropped.has(Math.floor(pa / pageSize))) return;
    if (!ranges.has(pa)) this.report.dropped.outsideRam++;
    else if (this.wholePages(Math.floor(pa / pageSize) * pageSize, pageSize) === 0)
      this.report.dropped.absent++;
    else if (this.bitmap.addPage(pa)) this.report.added++;
  }

  private drop(pa: number): void {
    if (!Number.isSafeInteger(pa) || pa < 0) throw badPage(pa);
    const pfn = Math.floor(pa / this.bitmap.ranges.pageSize);
    if (this.dropped.has(pfn)) return;
    this.dropped.add(pfn);
    if (this.bitmap.dropPage(pa)) this.report.dropped.byHand++;
  }
}

/**
 * Refuses a plan over page tables that are too damaged to be trusted: none of the mapped pages is there, the walk had to
 * be given up, or more tables are missing than mappings were found.
 *
 * @throws KvmError `CORRUPT` with the counts
 */
export function requireSoundTables({ report }: PageSelection): void {
  const { damage, mappings, pages } = report;
  const missing = damage.tablesAbsent + damage.tablesTruncated;
  if (pages > 0 && damage.loops === 0 && missing <= mappings) return;
  throw new KvmError(
    'CORRUPT',
    `the page tables are too damaged to plan a minidump from: ${mappings} mappings to ${pages} pages found, ` +
      `${missing} tables missing, ${damage.unsupportedEntries} entries not understood` +
      (damage.loops > 0 ? ', and tables that refer to each other without end' : ''),
    {
      field: 'registers',
      hint:
        'check the registers, the window and the image; a full dump (--format elf) needs no page tables; to write ' +
        'what there is, tolerate the damage (--tolerate-damage)',
    },
  );
}

function badPage(pa: number): KvmError {
  return new KvmError('INVALID_ARGUMENT', `not a physical address: ${pa}`, {
    field: 'page',
  });
}

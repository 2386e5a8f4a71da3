import type { Mapping } from './address-space.js';
import type { DumpSource } from './dump-source.js';
import type { SectionPlan } from './dump-sections.js';
import type { Losses } from './losses.js';
import type { SectionSizes } from './minidump-layout.js';
import type { SparePages } from './plan-sections.js';
import type { BitOrder } from './stored-bitmap.js';

/** What may be chosen of a minidump in a dialect. */
export interface DialectOptions {
  /** Version of the header; the newest unless given. */
  readonly version?: number;
  /** First KVA of the page-table section, rounded down to what the dialect can start at. */
  readonly kernbase?: bigint;
  /** Format of the page-table entries, where the dialect has several; the source's own unless given. */
  readonly pteFormat?: string;
  /**
   * How superpages become 4 KB entries in dialects that have no others: as FreeBSD's kernels make them (`freebsd`), or
   * with the attributes that the entries have room for (`attributes`).
   */
  readonly superpages?: 'freebsd' | 'attributes';
}

/** What a dialect is shown of the dump to be: the mappings that it has to describe, and nothing of their pages. */
export interface TableSource {
  readonly source: DumpSource;
  /** The pages (KVA >> 12) from the first mapping on and behind the last; both 0 when nothing is mapped. */
  readonly fromPage: number;
  readonly toPage: number;
  /** First PA behind all RAM, a multiple of 4096. */
  readonly sparePa: number;
  /**
   * The lowest PA with so many bytes that no mapping leads to, from {@link TableSource.sparePa} on, and from `from` on;
   * undefined when there is no room for them.
   */
  sparePlace(bytes: number, from?: number): number | undefined;
  /** Where to say what cannot be held. */
  readonly losses: Losses;
  /** The mappings, ascending, each time anew; the object is reused. */
  mappings(): Iterable<Mapping>;
  /** Whether the source's RAM holds the whole page at `pa`, so that a page-table page can be dumped as it is. */
  holdsPage(pa: number): boolean;
}

/** The part of a minidump that a dialect decides: its page-table section and its header. */
export interface TablePlan {
  readonly version: number;
  /** First KVA of the table section. */
  readonly kernbase: bigint;
  /** Whether this version has a dump_avail section; without it the bitmap counts from PA 0. */
  readonly dumpAvail: boolean;
  /** Width of the words that the kernel keeps its bitmap in, and their order in the file. */
  readonly wordBits: 8 | 32 | 64;
  readonly bitOrder: BitOrder;
  /** The table section, a multiple of 4096 bytes. */
  readonly table: SectionPlan;
  /** PAs of page-table pages of the source that the table section refers to: they are dumped as well. */
  readonly tablePages?: Iterable<number>;
  /** Page-table pages that are made up, at {@link TableSource.sparePlace}. */
  readonly spare?: SparePages;
  /** The header structure. */
  header(sizes: SectionSizes): Uint8Array;
}

/** How a dialect is written. */
export interface MinidumpWriter {
  /** Versions, oldest first. */
  readonly versions: readonly number[];
  /**
   * Plans header and table section.
   *
   * @throws KvmError `UNSUPPORTED` for what the dialect cannot hold, `INVALID_ARGUMENT`
   */
  plan(source: TableSource, options: DialectOptions): TablePlan;
}

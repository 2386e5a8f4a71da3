import { crc32 as portableCrc32, type Crc32 } from './crc32.js';
import type { Section } from './core.js';
import type { DumpSource } from './dump-source.js';
import { PageSelection, requireSoundTables, type Selection, type SelectionReport } from './page-selection.js';
import { portableDump } from './portable-write.js';
import type { Loss } from './losses.js';
import type { PortableOptions, SegmentReport } from './portable-plan.js';

/** The part of a dump that maps KVA to PA, in numbers. */
export interface TableReport {
  /** Bytes of the table section; in portable minidumps of segments, leaves and exact entries. */
  readonly bytes: number;
  /**
   * Portable minidumps: segments and leaves, and the bytes they would have with FLAT segments alone. ELF cores: program
   * headers, and pages mapped by tables that were made.
   */
  readonly segments?: number;
  readonly leaves?: number;
  readonly flatBytes?: number;
  /** Page-table pages among the dumped pages, where the format refers to them. */
  readonly pages?: number;
}

/** What a plan says of the dump to be: everything but its bytes. */
export interface DumpReport extends SelectionReport {
  readonly format: string;
  /** Version of the format, where it has several. */
  readonly version?: number;
  readonly architecture: string;
  /** Bytes of the file. */
  readonly size: number;
  /** Bytes that are not pages, and their share of the file. */
  readonly metadataBytes: number;
  readonly metadataShare: number;
  readonly tables: TableReport;
  /** What the format cannot hold of the source, a sentence each. */
  readonly losses: readonly string[];
  /** The same in kinds and numbers, for the formats that count it. */
  readonly lossList?: readonly Loss[];
  /** How it was written where there was a choice, a sentence each. */
  readonly remarks?: readonly string[];
}

/** A dump that is planned and not yet written: all sizes are known and will not change. */
export interface DumpPlan {
  /** Bytes of the file. */
  readonly size: number;
  readonly sections: readonly Section[];
  readonly report: DumpReport;
  /**
   * The file's bytes from first to last, in pieces; a piece is good until the next but one is asked for.
   *
   * @param crc32 a faster checksum than the portable one, e.g. `zlib.crc32` of Node
   * @throws KvmError `IO` when the source fails, or changed since it was planned
   */
  bytes(crc32?: Crc32): Generator<Uint8Array, void, undefined>;
}

/** The plan of a portable minidump. */
export interface PortablePlan extends DumpPlan {
  readonly report: DumpReport & { readonly tables: SegmentReport };
}

/** How a portable minidump is planned. */
export interface PlanOptions extends Selection, PortableOptions {
  /** Plan even over page tables that are too damaged to be trusted. Off unless asked for. */
  readonly tolerateDamage?: boolean;
}

/**
 * Plans a portable minidump of a source: walks its page tables once, decides which pages go in, and knows every size.
 *
 * Pages in the dump: those that a mapping in the window reaches and that the source's memory holds, and those added by
 * hand; without those dropped by hand. Pages that only the direct map reaches go in by hand alone.
 *
 * @throws KvmError `CORRUPT` when the page tables are too damaged, `INVALID_ARGUMENT`
 * @example
 * const plan = planPortable(source, { exact: true });
 * for (const piece of plan.bytes()) sink.write(piece);
 */
export function planPortable(source: DumpSource, options: PlanOptions = {}): PortablePlan {
  const selection = new PageSelection(source, options);
  if (options.tolerateDamage !== true) requireSoundTables(selection);
  const { sections, tables, size, losses, bytes } = portableDump(selection, options);
  const pageBytes = selection.bitmap.count * selection.bitmap.ranges.pageSize;
  return {
    size,
    sections,
    report: {
      format: 'portable',
      architecture: source.machine.architecture,
      size,
      ...selection.report,
      metadataBytes: size - pageBytes,
      metadataShare: (size - pageBytes) / size,
      tables,
      losses,
    },
    bytes: (crc32 = portableCrc32) => bytes(crc32),
  };
}

import type { BlockCache } from './block-cache.js';

/** {@link TableEntry.kind}: maps nothing. */
export const ENTRY_INVALID = 0;
/** {@link TableEntry.kind}: names a table of the next level. */
export const ENTRY_TABLE = 1;
/** {@link TableEntry.kind}: maps a page, superpage or section. */
export const ENTRY_LEAF = 2;
/** {@link TableEntry.kind}: this format does not define it. */
export const ENTRY_UNSUPPORTED = 3;

/** What one page-table entry says. Formats fill it, walkers keep and reuse it. */
export class TableEntry {
  kind: 0 | 1 | 2 | 3 = ENTRY_INVALID;
  /** PA of the next table, or of the first byte of the mapping. */
  pa = 0;
  /** Leaf: bytes it maps, a power of two. Larger than the entry's own span where hardware repeats the entry. */
  size = 0;
  /**
   * Leaf: READ, WRITE, EXECUTE, USER, GLOBAL, SYNTHESISED. Table: of READ, WRITE, EXECUTE and USER what it allows below
   * it; effective rights are the AND over all levels.
   */
  flags = 0;
  /** Table: log2 of the bytes that one of its entries spans, and the number of its entries. */
  shift = 0;
  entries = 0;

  setInvalid(): void {
    this.kind = ENTRY_INVALID;
  }

  setUnsupported(): void {
    this.kind = ENTRY_UNSUPPORTED;
  }

  setTable(pa: number, shift: number, entries: number, flags: number): void {
    this.kind = ENTRY_TABLE;
    this.pa = pa;
    this.shift = shift;
    this.entries = entries;
    this.flags = flags;
  }

  setLeaf(pa: number, size: number, flags: number): void {
    this.kind = ENTRY_LEAF;
    this.pa = pa;
    this.size = size;
    this.flags = flags;
  }
}

/**
 * How a processor encodes page-table entries: all that a walker of radix tables has to be told. Levels count from the
 * leaves: 1 is the last level, whose entries map base pages.
 */
export interface RadixFormat {
  /** Name of the format, as cores and the command line give it. */
  readonly name: string;
  readonly entryBytes: 4 | 8;
  /**
   * Decodes the entry found at a level. Reserved bits are masked, not tested; access rights never unmap a page.
   *
   * @param shift log2 of the bytes that the entry spans, for formats with several kinds of table at one level (ARMv5)
   */
  decode(level: number, low: number, high: number, out: TableEntry, shift: number): void;
}

/**
 * A part of the address space with a root table of its own: an x86 canonical half, the window of TTBR0, the table
 * section of a minidump.
 */
export interface RadixRegion {
  /** Pages `[fromPage, toPage)` (KVA >> 12) are looked up here. */
  readonly fromPage: number;
  readonly toPage: number;
  /** The page number that entry 0 of the root stands for; may lie below `fromPage`. */
  readonly basePage: number;
  /** Level of the root's entries. */
  readonly level: number;
  /** log2 of the bytes that one entry of the root spans; at least 12. */
  readonly shift: number;
  /** Entries in the root. */
  readonly entries: number;
  /** PA of the root table; or, with `section`, its offset in that file. */
  readonly root: number;
  /** Given when the root is a section of a file and not a table in physical memory. */
  readonly section?: BlockCache;
}

import {
  KVA_PAGE,
  MAPPED,
  NOT_CANONICAL,
  TABLE_ABSENT,
  TABLE_TRUNCATED,
  UNMAPPED,
  UNSUPPORTED_ENTRY,
  READ,
  WRITE,
  EXECUTE,
  USER,
  type AddressSpace,
  type MappingCursor,
  type Outcome,
  type Translation,
} from './address-space.js';
import type { BlockCache } from './block-cache.js';
import { LeafTableFinder, type LeafTable } from './leaf-table.js';
import { LeafTables } from './leaf-tables.js';
import { PhysicalWords, TRUNCATED, type PhysicalMemory } from './physical-memory.js';
import { POWERS } from './powers.js';
import { RadixCursor } from './radix-cursor.js';
import {
  ENTRY_INVALID,
  ENTRY_LEAF,
  ENTRY_TABLE,
  TableEntry,
  type RadixFormat,
  type RadixRegion,
} from './radix-format.js';
import type { ByteOrder } from './struct.js';

/** Rights that tables can take away from what lies below them. */
export const TABLE_RIGHTS = READ | WRITE | EXECUTE | USER;

/** The page behind the last one of any machine. */
const TOP_PAGE = 2 ** 52;
/** No hole is reported longer than this, so that lengths stay exact. */
const MAX_HOLE = 2 ** 52;

/** Pages `[fromPage, toPage)` that a machine does not have: a non-canonical middle, or all above 32 bits. */
export interface AddressHole {
  readonly fromPage: number;
  readonly toPage: number;
}

const NO_HOLE: AddressHole = { fromPage: 2 ** 52, toPage: 2 ** 52 };

/**
 * An address space given by radix page tables: the tables of a processor in physical memory, or the flat or two-level
 * table section of a minidump. The depth is bounded by the format, so tables that point at themselves are harmless.
 */
export class RadixSpace implements AddressSpace {
  private readonly little: boolean;
  private readonly words: PhysicalWords;
  private readonly entry = new TableEntry();
  /** The table that a walk is at: its PA (in the section of a file: its offset there), and how many entries it has. */
  private tablePa = 0;
  private tableEntries = 0;
  private tableInSection = false;
  private readonly leafTables: LeafTables[];
  private leafTableFinder: LeafTableFinder | undefined;

  /**
   * @param regions ascending, not overlapping
   * @param outside what an address in no region is: UNMAPPED or NOT_CANONICAL
   * @param hole addresses that do not exist: NOT_CANONICAL. No region reaches into it
   */
  constructor(
    readonly memory: PhysicalMemory,
    readonly format: RadixFormat,
    readonly order: ByteOrder,
    readonly regions: readonly RadixRegion[],
    readonly outside: Outcome = UNMAPPED,
    readonly hole: AddressHole = NO_HOLE,
  ) {
    this.little = order === 'little';
    this.words = new PhysicalWords(memory, this.little);
    this.leafTables = regions.map(() => new LeafTables(memory, format.entryBytes));
  }

  get pteFormat(): string {
    return this.format.name;
  }

  translate(page: number, offset: number, out: Translation): Outcome {
    for (let i = 0; i < this.regions.length; i++) {
      const region = this.regions[i];
      if (page < region.fromPage) return this.missOutside(page, offset, region.fromPage, out);
      if (page < region.toPage) {
        const outcome = this.translateIn(region, this.leafTables[i], page, offset, out);
        // An entry may reach past the region: LPAE regions can end inside a gigabyte of their table.
        const room = (region.toPage - page) * KVA_PAGE - offset;
        if (out.length > room) out.length = room;
        return outcome;
      }
    }
    return this.missOutside(page, offset, TOP_PAGE, out);
  }

  mappings(fromPage: number, toPage: number): MappingCursor {
    return new RadixCursor(this, fromPage, toPage);
  }

  leafTable(page: number, out: LeafTable): boolean {
    return (this.leafTableFinder ??= new LeafTableFinder(this)).find(page, out);
  }

  /** Looks in the last-level table at once where it is known; walks to it otherwise. */
  private translateIn(
    region: RadixRegion,
    tables: LeafTables,
    page: number,
    offset: number,
    out: Translation,
  ): Outcome {
    const known = tables.find(page);
    if (known < 0) return this.walk(region, tables, page, offset, out);
    const { entry, words, format } = this;
    const at = tables.offsetOf(known) + (page & tables.mask) * format.entryBytes;
    if (!this.loadWord(this.memory.cache, at)) return this.walk(region, tables, page, offset, out);
    format.decode(1, words.low, words.high, entry, 12);
    return this.finish(1, 12, tables.rightsOf(known), page, offset, out);
  }

  private walk(
    region: RadixRegion,
    tables: LeafTables,
    page: number,
    offset: number,
    out: Translation,
  ): Outcome {
    const { entry, format, words } = this;
    let level = region.level;
    let shift = region.shift;
    let rights = TABLE_RIGHTS;
    const index = Math.floor((page - region.basePage) / POWERS[shift - 12]);
    if (index >= region.entries) return this.missOutside(page, offset, region.toPage, out);
    let loaded = this.loadRoot(region, index);
    for (;;) {
      if (loaded < 0) return this.missTable(loaded, level, shift, page, offset, out);
      format.decode(level, words.low, words.high, entry, shift);
      if (entry.kind !== ENTRY_TABLE) return this.finish(level, shift, rights, page, offset, out);
      rights &= entry.flags;
      shift = entry.shift;
      level--;
      if (level === 1 && shift === 12) tables.add(region, page, entry, rights);
      this.tablePa = entry.pa;
      this.tableEntries = entry.entries;
      this.tableInSection = false;
      loaded = this.loadEntry(entry.pa + indexIn(entry, page, offset) * format.entryBytes);
    }
  }

  private finish(
    level: number,
    shift: number,
    rights: number,
    page: number,
    offset: number,
    out: Translation,
  ): Outcome {
    const { entry, words } = this;
    out.setEntry(level, words.low, words.high, this.format.entryBytes * 8);
    if (entry.kind !== ENTRY_LEAF) {
      const outcome = entry.kind === ENTRY_INVALID ? UNMAPPED : UNSUPPORTED_ENTRY;
      return out.miss(outcome, restOf(POWERS[shift], page, offset));
    }
    const span = Math.min(entry.size, POWERS[shift]);
    out.outcome = MAPPED;
    out.pa = entry.pa + offsetIn(entry.size, page, offset);
    out.length = restOf(span, page, offset);
    out.flags = entry.flags & (rights | ~TABLE_RIGHTS);
    out.pageSize = entry.size;
    return MAPPED;
  }

  /** Loads a root entry; a negative result says why not. */
  private loadRoot(region: RadixRegion, index: number): number {
    const { entryBytes } = this.format;
    const at = region.root + index * entryBytes;
    this.tablePa = region.root;
    this.tableEntries = region.entries;
    this.tableInSection = region.section !== undefined;
    if (region.section === undefined) return this.loadEntry(at);
    this.entry.pa = at;
    return this.loadWord(region.section, at) ? at : TRUNCATED;
  }

  /** Loads an entry from a file offset; false where the file ends before it. */
  private loadWord(cache: BlockCache, at: number): boolean {
    const { words, little } = this;
    if (this.format.entryBytes === 8) {
      if (!cache.load64(at, little)) return false;
      words.low = cache.low;
      words.high = cache.high;
      return true;
    }
    const word = cache.load32(at, little);
    if (word < 0) return false;
    words.low = word;
    words.high = 0;
    return true;
  }

  private loadEntry(pa: number): number {
    this.entry.pa = pa;
    return this.format.entryBytes === 8 ? this.words.load64(pa) : this.words.load32(pa);
  }

  /** The answer where an entry is missing: it holds for as much of the address space as the entries missing with it span. */
  private missTable(
    status: number,
    level: number,
    shift: number,
    page: number,
    offset: number,
    out: Translation,
  ): Outcome {
    out.setEntry(level, 0, 0, 0);
    const outcome = status === TRUNCATED ? TABLE_TRUNCATED : TABLE_ABSENT;
    const missing = Math.min(this.missingEntries() * POWERS[shift], MAX_HOLE);
    return out.miss(outcome, Math.max(1, missing - offsetIn(POWERS[shift], page, offset)), this.tablePa);
  }

  /** How many entries of the table at hand, from the one that could not be loaded on, are missing: at least that one. */
  private missingEntries(): number {
    const { entry, memory } = this;
    const { entryBytes } = this.format;
    const bytes = this.tablePa + this.tableEntries * entryBytes - entry.pa;
    if (this.tableInSection) return bytes / entryBytes; // behind the end of the file
    // Of an entry that is torn, the first bytes are there.
    return memory.locate(entry.pa) >= 0 ? 1 : Math.ceil(memory.hole(entry.pa, bytes) / entryBytes);
  }

  private missOutside(page: number, offset: number, nextPage: number, out: Translation): Outcome {
    const { fromPage, toPage } = this.hole;
    const inHole = page >= fromPage && page < toPage;
    const edge = page < fromPage ? fromPage : page < toPage ? toPage : nextPage;
    const pages = Math.min(nextPage, edge) - page;
    out.setEntry(0, 0, 0, 0);
    return out.miss(inHole ? NOT_CANONICAL : this.outside, Math.min(pages * KVA_PAGE, MAX_HOLE) - offset);
  }
}

/** Index of the entry for an address in the table that `entry` names. */
function indexIn(entry: TableEntry, page: number, offset: number): number {
  const { shift, entries } = entry;
  if (shift >= 12) return Math.floor(page / POWERS[shift - 12]) & (entries - 1);
  return ((page << (12 - shift)) | (offset >>> shift)) & (entries - 1);
}

/** Offset of an address in the naturally aligned block of `size` bytes that holds it; size is a power of two. */
export function offsetIn(size: number, page: number, offset: number): number {
  if (size <= KVA_PAGE) return offset & (size - 1);
  const pages = size / KVA_PAGE;
  return (page - Math.floor(page / pages) * pages) * KVA_PAGE + offset;
}

/** Bytes from an address to the end of the naturally aligned block of `size` bytes that holds it. */
function restOf(size: number, page: number, offset: number): number {
  return Math.min(size - offsetIn(size, page, offset), MAX_HOLE);
}

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
import { PhysicalWords, TRUNCATED, type PhysicalMemory } from './physical-memory.js';
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
  private readonly words: PhysicalWords;
  private readonly entry = new TableEntry();

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
    this.words = new PhysicalWords(memory, order === 'little');
  }

  get pteFormat(): string {
    return this.format.name;
  }

  translate(page: number, offset: number, out: Translation): Outcome {
    for (const region of this.regions) {
      if (page < region.fromPage) return this.missOutside(page, offset, region.fromPage, out);
      if (page < region.toPage) {
        const outcome = this.walk(region, page, offset, out);
        // An entry may reach past the region: LPAE regions can end inside a gigabyte of their table.
        const room = (region.toPage - page) * KVA_PAGE - offset;
        if (out.length > room) out.length = room;
        return outcome;
      }
    }
    return this.missOutside(page, offset, 2 ** 52, out);
  }

  mappings(fromPage: number, toPage: number): MappingCursor {
    return new RadixCursor(this, fromPage, toPage);
  }

  private walk(region: RadixRegion, page: number, offset: number, out: Translation): Outcome {
    const { entry, format, words } = this;
    let level = region.level;
    let shift = region.shift;
    let rights = TABLE_RIGHTS;
    const index = Math.floor((page - region.basePage) / 2 ** (shift - 12));
    if (index >= region.entries) return this.missOutside(page, offset, region.toPage, out);
    let loaded = this.loadRoot(region, index);
    for (;;) {
      if (loaded < 0) return this.missTable(loaded, entry.pa, level, shift, page, offset, out);
      format.decode(level, words.low, words.high, entry, shift);
      if (entry.kind !== ENTRY_TABLE) return this.finish(level, shift, rights, page, offset, out);
      rights &= entry.flags;
      shift = entry.shift;
      level--;
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
      return out.miss(outcome, restOf(2 ** shift, page, offset));
    }
    const span = Math.min(entry.size, 2 ** shift);
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
    if (region.section === undefined) return this.loadEntry(at);
    this.entry.pa = at;
    const { section, words } = { section: region.section, words: this.words };
    const little = this.order === 'little';
    if (entryBytes === 8) {
      if (!section.load64(at, little)) return TRUNCATED;
      words.low = section.low;
      words.high = section.high;
      return at;
    }
    const word = section.load32(at, little);
    if (word < 0) return TRUNCATED;
    words.low = word;
    words.high = 0;
    return at;
  }

  private loadEntry(pa: number): number {
    this.entry.pa = pa;
    return this.format.entryBytes === 8 ? this.words.load64(pa) : this.words.load32(pa);
  }

  private missTable(
    status: number,
    pa: number,
    level: number,
    shift: number,
    page: number,
    offset: number,
    out: Translation,
  ): Outcome {
    out.setEntry(level, 0, 0, 0);
    const outcome = status === TRUNCATED ? TABLE_TRUNCATED : TABLE_ABSENT;
    return out.miss(outcome, restOf(2 ** shift, page, offset), pa);
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
  if (shift >= 12) return Math.floor(page / 2 ** (shift - 12)) & (entries - 1);
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

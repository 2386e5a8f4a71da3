import type { BlockCache } from './block-cache.js';
import { PhysicalWords } from './physical-memory.js';
import { ENTRY_TABLE, TableEntry, type RadixRegion } from './radix-format.js';
import { TABLE_RIGHTS, type RadixSpace } from './radix-space.js';

/** A last-level table of 4 KB pages in physical memory, and the entry that names it. */
export class LeafTable {
  /** PA of the table. */
  pa = 0;
  /** Entries in it. */
  entries = 0;
  /** The halves of the entry that names it. */
  entryLow = 0;
  entryHigh = 0;
  /** Of READ, WRITE, EXECUTE and USER what the levels above that entry leave. */
  rights = 0;
}

/** Finds the last-level tables of a {@link RadixSpace}. */
export class LeafTableFinder {
  private readonly entry = new TableEntry();
  private readonly words: PhysicalWords;

  constructor(private readonly space: RadixSpace) {
    this.words = new PhysicalWords(space.memory, space.order === 'little');
  }

  /** Fills `out` with the table that translates a page (KVA >> 12); false when there is none, or none that can be told. */
  find(page: number, out: LeafTable): boolean {
    const region = this.space.regions.find(({ fromPage, toPage }) => page >= fromPage && page < toPage);
    if (region === undefined) return false;
    const { entry, words, space } = this;
    const { format } = space;
    let { level, shift } = region;
    let rights = TABLE_RIGHTS;
    const index = Math.floor((page - region.basePage) / 2 ** (shift - 12));
    if (index >= region.entries || !this.loadRoot(region, index)) return false;
    for (;;) {
      format.decode(level, words.low, words.high, entry, shift);
      if (entry.kind !== ENTRY_TABLE || level === 1) return false;
      if (level === 2 && entry.shift === 12) return this.found(rights, out);
      rights &= entry.flags;
      ({ shift } = entry);
      level--;
      if (shift < 12) return false;
      const at = Math.floor(page / 2 ** (shift - 12)) & (entry.entries - 1);
      if (!this.load(entry.pa + at * format.entryBytes)) return false;
    }
  }

  private found(rights: number, out: LeafTable): true {
    const { entry, words } = this;
    out.pa = entry.pa;
    out.entries = entry.entries;
    out.entryLow = words.low;
    out.entryHigh = words.high;
    out.rights = rights;
    return true;
  }

  private loadRoot({ section, root }: RadixRegion, index: number): boolean {
    const at = root + index * this.space.format.entryBytes;
    return section === undefined ? this.load(at) : this.loadFrom(section, at);
  }

  private load(pa: number): boolean {
    return (this.space.format.entryBytes === 8 ? this.words.load64(pa) : this.words.load32(pa)) >= 0;
  }

  /** Loads an entry from a section of the file. */
  private loadFrom(section: BlockCache, at: number): boolean {
    const { words, space } = this;
    const little = space.order === 'little';
    if (space.format.entryBytes === 8) {
      if (!section.load64(at, little)) return false;
      words.low = section.low;
      words.high = section.high;
      return true;
    }
    const word = section.load32(at, little);
    words.low = word;
    words.high = 0;
    return word >= 0;
  }
}

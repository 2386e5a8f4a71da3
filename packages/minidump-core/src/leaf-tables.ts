import type { PhysicalMemory } from './physical-memory.js';
import type { RadixRegion, TableEntry } from './radix-format.js';

const SLOTS = 128;

/**
 * Where last-level tables of 4 KB pages lie, by the addresses that they translate: what processors call a
 * paging-structure cache. Direct-mapped and of fixed size. Only tables that lie whole and in one piece in the file are
 * remembered, so that what is found here needs no further look at physical memory.
 *
 * One for each region, since neighbouring regions need not split the address space at the same places.
 */
export class LeafTables {
  /** Entries of these tables less 1: the bits of a page number that are its index. */
  mask = 0;
  /** Which table is in each slot: its first page divided by the pages it translates; -1 for none. */
  private readonly tags = new Float64Array(SLOTS).fill(-1);
  private readonly offsets = new Float64Array(SLOTS);
  private readonly rights = new Uint8Array(SLOTS);
  private entries = 1;

  constructor(
    private readonly memory: PhysicalMemory,
    private readonly entryBytes: number,
  ) {}

  /** The slot of the table that translates a page, or -1. */
  find(page: number): number {
    const tag = Math.floor(page / this.entries);
    const slot = tag & (SLOTS - 1);
    return this.tags[slot] === tag ? slot : -1;
  }

  /** Offset of a table in the memory's cache. */
  offsetOf(slot: number): number {
    return this.offsets[slot];
  }

  /** The rights that the tables above it leave. */
  rightsOf(slot: number): number {
    return this.rights[slot];
  }

  /** Remembers the table of 4 KB pages that `table` names and that translates `page`. */
  add(region: RadixRegion, page: number, { pa, entries }: TableEntry, rights: number): void {
    if (this.mask === 0) {
      this.mask = entries - 1;
      this.entries = entries;
    }
    // Tables of another size than the first one, or shifted against the page numbers, are walked to every time.
    if (entries !== this.entries || region.basePage % entries !== 0) return;
    const bytes = entries * this.entryBytes;
    const offset = this.memory.locate(pa);
    if (offset < 0 || this.memory.run(pa, bytes) < bytes) return;
    const tag = Math.floor(page / entries);
    const slot = tag & (SLOTS - 1);
    this.tags[slot] = tag;
    this.offsets[slot] = offset;
    this.rights[slot] = rights;
  }
}

import {
  ENTRY_LEAF,
  EXECUTE,
  EncodedLeaf,
  GLOBAL,
  KVA_PAGE,
  LeafCheck,
  LeafTable,
  Losses,
  Mapping,
  MEMORY_TYPE_MASK,
  READ,
  TableEntry,
  USER,
  WRITE,
  wholePages,
  type TableSource,
} from '@libkvm/minidump-core';
import { amd64Format } from './format.js';
import { Amd64LeafEncoder, encodeAmd64Table, restrictAmd64Entry } from './leaf-encoder.js';

/** Bytes and pages of KVA that an entry of a page directory stands for, and the entries of a page table. */
export const LARGE_PAGE = 0x20_0000;
export const TABLE_ENTRIES = 512;

const RIGHTS = READ | WRITE | EXECUTE | USER;
const COMPARED = RIGHTS | GLOBAL | MEMORY_TYPE_MASK;

/** Entries of page directories, one behind the other. The walk reuses it. */
export class DirectoryRun {
  /** First KVA >> 12, a multiple of 512. */
  page = 0;
  /** Entries: each next one maps 2 MB more. Of a page table there is one. */
  count = 0;
  /** Pages of 2 MB; a page table that the source has; a page table that has to be made up, whose PA is left out. */
  kind: 'pages' | 'real' | 'made' = 'pages';
  readonly pde = { low: 0, high: 0 };
  /** The PA of a page table that the source has. */
  tablePa = 0;
  /** The entries of a page table that has to be made up, low and high halves by turns. */
  readonly table = new Uint32Array(2 * TABLE_ENTRIES);
}

/**
 * The mappings of a dump as page directories have them: pages of 2 MB where mappings of no smaller pages fill them, page
 * tables elsewhere. It holds one page table.
 */
export class Directory {
  private readonly pages: Amd64LeafEncoder;
  private readonly largePages: Amd64LeafEncoder;

  /** @param exact whether exact entries of mappings are amd64's */
  constructor(
    private readonly source: TableSource,
    private readonly exact: boolean,
  ) {
    this.pages = new Amd64LeafEncoder({ level: 1, exact });
    this.largePages = new Amd64LeafEncoder({ level: 2, exact });
  }

  /**
   * The entries that are not zero, ascending, each time anew.
   *
   * @param losses where to count what they cannot hold
   */
  *runs(losses: Losses = new Losses(true)): Generator<DirectoryRun, void, undefined> {
    const run = new DirectoryRun();
    const tables = new TableMaker(this.source, this.pages, this.exact, run);
    const check = new LeafCheck(this.largePages, losses);
    const leaf = new EncodedLeaf();
    const scratch = new Mapping();
    for (const mapping of wholePages(this.source.mappings(), losses)) {
      for (let done = 0; done < mapping.length;) {
        // Most mappings are of one page: they need not be cut.
        const part = mapping.length === KVA_PAGE ? mapping : cutPart(mapping, done, scratch);
        done += part.length;
        if (!tables.holds(part.page) && tables.end(losses)) yield run;
        if (!isLarge(part)) {
          tables.add(part);
          continue;
        }
        check.check(part, leaf);
        run.kind = 'pages';
        run.page = part.page;
        run.count = part.length / LARGE_PAGE;
        run.pde.low = leaf.low;
        run.pde.high = leaf.high;
        yield run;
      }
    }
    if (tables.end(losses)) yield run;
  }
}

/** The part of a mapping from `done` on: as many whole pages of 2 MB as there are, or what lies in one. */
function cutPart(mapping: Mapping, done: number, out: Mapping): Mapping {
  Object.assign(out, mapping);
  out.page = mapping.page + done / KVA_PAGE;
  out.pa = mapping.pa + done;
  out.length = mapping.length - done;
  if (isLarge(out)) out.length -= out.length % LARGE_PAGE;
  else out.length = Math.min(out.length, LARGE_PAGE - (out.page % TABLE_ENTRIES) * KVA_PAGE);
  return out;
}

/** Whether a mapping starts with a page of 2 MB. */
function isLarge({ page, pa, length, pageSize }: Mapping): boolean {
  const aligned = page % TABLE_ENTRIES === 0 && pa % LARGE_PAGE === 0;
  return pageSize >= LARGE_PAGE && aligned && length >= LARGE_PAGE;
}

/** Makes the page table for one entry of a page directory after the other, or finds it in the source. */
class TableMaker {
  /** First page of the table at hand, or -1. */
  private page = -1;
  private pages = 0;
  private user = false;
  private losses = new Losses();
  private check: LeafCheck;
  private readonly leaf = new EncodedLeaf();
  private readonly real: RealTable;

  constructor(
    source: TableSource,
    private readonly encoder: Amd64LeafEncoder,
    exact: boolean,
    private readonly run: DirectoryRun,
  ) {
    this.check = new LeafCheck(encoder, this.losses);
    this.real = new RealTable(source, exact);
  }

  /** Whether the table at hand is the one for a page. */
  holds(page: number): boolean {
    return page >= this.page && page < this.page + TABLE_ENTRIES && this.page >= 0;
  }

  /** Adds a part of a mapping that lies in one table. */
  add(part: Mapping): void {
    const { leaf, run } = this;
    const index = part.page % TABLE_ENTRIES;
    if (!this.holds(part.page)) this.begin(part.page - index);
    this.check.check(part, leaf);
    const count = part.length / KVA_PAGE;
    this.pages += count;
    this.user ||= (part.flags & USER) !== 0;
    this.real.compare(part, index, count);
    let { low, high } = leaf;
    for (let at = index * 2; at < (index + count) * 2; at += 2) {
      run.table[at] = low;
      run.table[at + 1] = high;
      low += KVA_PAGE;
      if (low > 0xffff_ffff) {
        low -= 0x1_0000_0000;
        high++;
      }
    }
  }

  /** Ends the table at hand: puts it into the run and counts what it lost. False when there was none. */
  end(losses: Losses): boolean {
    if (this.page < 0) return false;
    const { run, real } = this;
    run.page = this.page;
    run.count = 1;
    this.page = -1;
    if (real.serves(this.pages)) {
      run.kind = 'real';
      run.tablePa = real.table.pa;
      run.pde.low = real.pde.low;
      run.pde.high = real.pde.high;
      return true;
    }
    run.kind = 'made';
    encodeAmd64Table(0, this.user, run.pde);
    for (const { kind, reason, bytes } of this.losses.list) losses.add(kind, reason, bytes);
    return true;
  }

  private begin(page: number): void {
    this.page = page;
    this.pages = 0;
    this.user = false;
    this.run.table.fill(0);
    if (this.losses.list.length > 0) {
      this.losses = new Losses();
      this.check = new LeafCheck(this.encoder, this.losses);
    }
    this.real.find(page);
  }
}

/**
 * The page table of the source for 2 MB of KVA: whether it says of all of them what their mappings say, no more and no
 * less, by itself and the entry that names it. What the levels above take away is taken away in that entry.
 */
class RealTable {
  readonly table = new LeafTable();
  readonly pde = { low: 0, high: 0 };
  private found = false;
  /** Entries of the table that map something. */
  private valid = 0;
  private rights = 0;
  private readonly entry = new TableEntry();
  private readonly bytes = new Uint8Array(KVA_PAGE);
  private readonly view = new DataView(this.bytes.buffer);

  constructor(
    private readonly source: TableSource,
    private readonly exact: boolean,
  ) {}

  /** Looks for the table that translates a page, and reads it. */
  find(page: number): void {
    const { table, pde, entry } = this;
    const { addressSpace, memory } = this.source.source;
    this.found =
      this.exact &&
      addressSpace.leafTable?.(page, table) === true &&
      table.entries === TABLE_ENTRIES &&
      table.pa % KVA_PAGE === 0 &&
      this.source.holdsPage(table.pa);
    if (!this.found) return;
    memory.readSync(table.pa, this.bytes, 0, KVA_PAGE);
    pde.low = table.entryLow;
    pde.high = table.entryHigh;
    restrictAmd64Entry(table.rights, pde);
    amd64Format.decode(2, pde.low, pde.high, entry, 21);
    this.rights = entry.flags & RIGHTS;
    this.valid = 0;
    for (let at = 0; at < KVA_PAGE; at += 8) this.valid += this.bytes[at] & 1;
  }

  /** Compares `count` entries with a part of a mapping. */
  compare({ pa, flags, pageSize }: Mapping, index: number, count: number): void {
    const { entry, view, rights } = this;
    if (pageSize !== KVA_PAGE) this.found = false;
    for (let i = 0; i < count && this.found; i++) {
      const at = (index + i) * 8;
      amd64Format.decode(1, view.getUint32(at, true), view.getUint32(at + 4, true), entry, 12);
      const found = entry.flags & (rights | ~RIGHTS);
      if (entry.kind !== ENTRY_LEAF || entry.pa !== pa + i * KVA_PAGE || ((found ^ flags) & COMPARED) !== 0)
        this.found = false;
    }
  }

  /** Whether the table was found, agreed with all parts, and maps no more than these pages. */
  serves(pages: number): boolean {
    return this.found && this.valid === pages;
  }
}

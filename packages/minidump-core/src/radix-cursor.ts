import {
  KVA_PAGE,
  MAPPED,
  TABLE_ABSENT,
  TABLE_LOOP,
  TABLE_TRUNCATED,
  UNSUPPORTED_ENTRY,
  type Mapping,
  type MappingCursor,
  type Outcome,
} from './address-space.js';
import { ENTRY_INVALID, ENTRY_LEAF, ENTRY_TABLE, TableEntry } from './radix-format.js';
import { RadixTable } from './radix-table.js';
import { TABLE_RIGHTS, offsetIn, type RadixSpace } from './radix-space.js';

/** Tables that any walk may visit and rows that it may give; more in proportion to the core, see {@link RadixCursor}. */
const FREE_VISITS = 65536;
const VISITS_PER_PAGE = 16;
const FREE_ROWS = 2 ** 20;
/** Every page of the core may be a full table, and be seen twice: at its place and through another. */
const FULL_TABLES_PER_PAGE = 2;

/**
 * Enumerates the mappings of a {@link RadixSpace} in ascending order, a table at a time.
 *
 * Tables may be shared, and a recursive slot shows the tables themselves as pages: both are legitimate and both multiply
 * mappings. The number of tables visited is therefore bounded: 65536, and 16 for each page that the core holds. So is the
 * number of leaf entries in them: 2^20, and for each page of the core as many as two full tables of its size have. Root
 * tables do not count: they lie in the file once. A walk over a bound ends with one TABLE_LOOP.
 */
export class RadixCursor implements MappingCursor {
  private region = -1;
  private readonly stack: RadixTable[] = [];
  private depth = -1;
  private visitsLeft: number;
  private rowsLeft: number;
  private readonly entry = new TableEntry();

  constructor(
    private readonly space: RadixSpace,
    private readonly fromPage: number,
    private readonly toPage: number,
  ) {
    const { pages, pageSize } = space.memory;
    this.visitsLeft = FREE_VISITS + VISITS_PER_PAGE * pages.dumped;
    this.rowsLeft = FREE_ROWS + ((FULL_TABLES_PER_PAGE * pageSize) / space.format.entryBytes) * pages.dumped;
  }

  next(out: Mapping): boolean {
    while (this.depth >= 0 || this.enterRegion()) {
      const table = this.stack[this.depth];
      if (!table.seekEntry()) {
        this.depth--;
        if (this.depth >= 0) this.stack[this.depth].index++;
        continue;
      }
      if (table.missing !== 0) return this.missingPart(table, out);
      const { entry } = this;
      this.space.format.decode(table.level, table.low, table.high, entry, table.shift);
      if (entry.kind === ENTRY_INVALID) table.index++;
      else if (entry.kind !== ENTRY_TABLE) {
        if (this.depth > 0 && this.rowsLeft-- <= 0) return this.giveUp(table, out);
        return this.leaf(table, out);
      } else if (this.visitsLeft-- <= 0) return this.giveUp(table, out);
      else this.descend(table);
    }
    return false;
  }

  follow({ page, offset, pa, length, outcome }: Mapping): number {
    if (this.depth < 0 || outcome !== MAPPED) return 0;
    const { entry } = this;
    const { format } = this.space;
    const table = this.stack[this.depth];
    const { level, shift, span, toPage } = table;
    const room = (toPage - page) * KVA_PAGE - offset - length;
    let bytes = 0;
    while (bytes + span <= room && table.peek()) {
      format.decode(level, table.low, table.high, entry, shift);
      if (entry.kind !== ENTRY_LEAF || entry.size !== span || entry.pa !== pa + length + bytes) break;
      table.index++;
      bytes += span;
    }
    if (this.depth > 0) this.rowsLeft -= bytes / span;
    return bytes;
  }

  private enterRegion(): boolean {
    while (++this.region < this.space.regions.length) {
      const region = this.space.regions[this.region];
      const from = Math.max(this.fromPage, region.fromPage);
      const to = Math.min(this.toPage, region.toPage);
      if (from >= to) continue;
      const table = this.tableAt(0);
      table.enter(
        region,
        region.root,
        region.level,
        region.shift,
        region.entries,
        region.basePage,
        TABLE_RIGHTS,
      );
      table.limit(from, to);
      this.depth = 0;
      return true;
    }
    return false;
  }

  private descend(table: RadixTable): void {
    const { entry } = this;
    const child = this.tableAt(this.depth + 1);
    const rights = table.rights & entry.flags;
    child.enter(
      undefined,
      entry.pa,
      table.level - 1,
      entry.shift,
      entry.entries,
      table.pageOfIndex(),
      rights,
    );
    child.limit(table.fromPage, table.toPage);
    this.depth++;
  }

  private tableAt(depth: number): RadixTable {
    return (this.stack[depth] ??= new RadixTable(this.space));
  }

  /** Emits the leaf under the cursor; an entry that hardware repeats is emitted once, with its repetitions. */
  private leaf(table: RadixTable, out: Mapping): boolean {
    const { entry } = this;
    const { low, high, level } = table;
    out.setEntry(level, low, high, this.space.format.entryBytes * 8);
    const span = table.span;
    const page = table.pageOfIndex();
    const offset = table.offsetOfIndex();
    if (entry.kind !== ENTRY_LEAF) {
      out.miss(UNSUPPORTED_ENTRY, span);
      table.index++;
      return this.cut(table, page, offset, out);
    }
    const inLeaf = offsetIn(entry.size, page, offset);
    out.outcome = MAPPED;
    out.pa = entry.pa + inLeaf;
    out.flags = entry.flags & (table.rights | ~TABLE_RIGHTS);
    out.pageSize = entry.size;
    out.length = Math.min(span, entry.size);
    table.index++;
    while (inLeaf + out.length < entry.size && this.repeats(table, low, high)) {
      out.length += span;
      table.index++;
    }
    return this.cut(table, page, offset, out);
  }

  /** Whether the entry under the cursor is the one before it again. */
  private repeats(table: RadixTable, low: number, high: number): boolean {
    return table.peek() && table.low === low && table.high === high;
  }

  /** Cuts a mapping to the window of the walk and stores its address. */
  private cut(table: RadixTable, page: number, offset: number, out: Mapping): boolean {
    out.page = page;
    out.offset = offset;
    if (page < table.fromPage) {
      const bytes = (table.fromPage - page) * KVA_PAGE - offset;
      out.length -= bytes;
      if (out.outcome === MAPPED) out.pa += bytes;
      out.page = table.fromPage;
      out.offset = 0;
    }
    const room = (table.toPage - out.page) * KVA_PAGE - out.offset;
    if (out.length > room) out.length = room;
    return true;
  }

  private missingPart(table: RadixTable, out: Mapping): boolean {
    const outcome: Outcome = table.missing === TABLE_TRUNCATED ? TABLE_TRUNCATED : TABLE_ABSENT;
    const page = table.pageOfIndex();
    const offset = table.offsetOfIndex();
    out.setEntry(table.level, 0, 0, 0);
    out.miss(outcome, table.missingEntries * table.span, table.address);
    table.index += table.missingEntries;
    return this.cut(table, page, offset, out);
  }

  private giveUp(table: RadixTable, out: Mapping): boolean {
    const page = table.pageOfIndex();
    const offset = table.offsetOfIndex();
    out.setEntry(table.level, table.low, table.high, this.space.format.entryBytes * 8);
    out.miss(TABLE_LOOP, table.span);
    this.depth = -1;
    this.region = this.space.regions.length;
    return this.cut(table, page, offset, out);
  }
}

import type { Mapping } from './address-space.js';
import type { Registers } from './architecture.js';
import { PieceBuffer } from './dump-sections.js';
import { zeros } from './flat-table.js';
import { Losses } from './losses.js';
import { roundUp } from './minidump-layout.js';
import type { EntryHalves, TableEncoder } from './table-encoder.js';
import { TableLeaves, type TableLeaf } from './table-leaves.js';

/** Tables of each level start at a page. */
const PAGE = 4096;
const PIECE_BYTES = 65536;

/**
 * Page tables made for the mappings of a source: how many there are is counted in one walk, then each level is written in
 * a walk of its own, so that no more than one table of each level is held.
 *
 * They lie in one piece: the root, then the tables of each level down to the last, those of a level by ascending KVA.
 */
export class TableTree {
  /** What the tables do not say of the mappings. */
  readonly losses: Losses;
  /** Pages that are mapped, superpages as one. */
  leaves = 0;
  private readonly work: TableLeaves;
  /** By level less 1: the number of tables, and where the first one is, from the start of the tree. */
  private readonly counts: number[];
  private readonly offsets: number[];
  private readonly spans: number[];
  private base = 0;

  private constructor(
    /** What makes the entries: the one asked for, or an alternative of it. */
    readonly encoder: TableEncoder,
    private readonly mappings: () => Iterable<Mapping>,
    leavesOut: boolean,
  ) {
    this.losses = new Losses(leavesOut);
    this.work = new TableLeaves(encoder);
    this.counts = encoder.levels.map(() => 0);
    this.offsets = encoder.levels.map(() => 0);
    this.spans = encoder.levels.map(({ shift }) => 2 ** (shift - 12));
  }

  /**
   * Counts the tables that mappings need.
   *
   * @param mappings gives the mappings, ascending, each time anew
   * @param leavesOut whether mappings that the tables cannot hold are left out and counted
   * @throws KvmError `UNSUPPORTED` for a mapping that the tables cannot hold, unless they are left out
   */
  static plan(encoder: TableEncoder, mappings: () => Iterable<Mapping>, leavesOut = false): TableTree {
    for (let choice = encoder; ; choice = choice.alternative ?? choice) {
      const tree = new TableTree(choice, mappings, leavesOut);
      if (tree.count()) return tree;
    }
  }

  /** Bytes of all tables, a multiple of 4096. */
  get length(): number {
    return this.offsets[0] + roundUp(this.counts[0] * this.encoder.levels[0].tableBytes, this.unit);
  }

  /** What the PA of the tree has to be a multiple of. */
  get align(): number {
    return Math.max(PAGE, ...this.encoder.levels.map(({ tableBytes }) => tableBytes));
  }

  /** Tables of all levels. */
  get tables(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** The control registers of a processor that walks the tables, once they are placed. */
  get registers(): Registers {
    return this.encoder.registers(this.base);
  }

  /** Says where the tables lie: a multiple of {@link TableTree.align}. */
  place(pa: number): void {
    this.base = pa;
  }

  /** The bytes of the tables. A piece is good until the next but one is asked for. */
  *bytes(): Generator<Uint8Array, void, undefined> {
    const { levels } = this.encoder;
    const buffer = new PieceBuffer(Math.max(PIECE_BYTES, ...levels.map(({ tableBytes }) => tableBytes)));
    for (let i = levels.length - 1; i >= 0; i--) {
      yield* this.levelBytes(i, buffer);
      const used = this.counts[i] * levels[i].tableBytes;
      yield* zeros(buffer, roundUp(used, this.unit) - used);
    }
    yield buffer.take();
  }

  /** Levels start at multiples of this: where pages are larger than 4 KB, tables are too. */
  private get unit(): number {
    return Math.max(PAGE, this.encoder.levels[0].tableBytes);
  }

  /** Counts tables and losses; false when the alternative has to be tried. */
  private count(): boolean {
    const { work, losses, counts } = this;
    const root = counts.length - 1;
    // Up to which page the last table of each level reaches: most leaves are in the one before them.
    const ends = counts.map(() => 0);
    const halves: EntryHalves = { low: 0, high: 0 };
    counts[root] = 1;
    for (const leaf of work.of(this.mappings(), losses)) {
      this.leaves++;
      work.encode(leaf, halves);
      work.check(leaf, halves, losses);
      for (let i = leaf.kind.level - 1; i < root; i++) {
        if (leaf.page < ends[i]) break;
        ends[i] = this.endOf(i, leaf.page);
        counts[i]++;
      }
    }
    for (let i = root - 1; i >= 0; i--) {
      const above = counts[i + 1] * this.encoder.levels[i + 1].tableBytes;
      this.offsets[i] = this.offsets[i + 1] + roundUp(above, this.unit);
    }
    return !work.needsAlternative;
  }

  /** The tables of one level, with a walk over all mappings. */
  private *levelBytes(i: number, buffer: PieceBuffer): Generator<Uint8Array, void, undefined> {
    const { encoder, work } = this;
    const { tableBytes } = encoder.levels[i];
    const halves: EntryHalves = { low: 0, high: 0 };
    const isRoot = i === this.counts.length - 1;
    let table = -1;
    let childEnd = 0;
    let childPa = i === 0 ? 0 : this.base + this.offsets[i - 1] - encoder.levels[i - 1].tableBytes;
    // What cannot be held was counted or refused when the tree was planned.
    for (const leaf of work.of(this.mappings(), new Losses(true))) {
      const level = leaf.kind.level - 1;
      if (level > i || (level < i && leaf.page < childEnd)) continue;
      const own = this.tableOf(i, leaf);
      if (own !== table) {
        if (table >= 0) buffer.at += tableBytes;
        table = own;
        yield* blankTable(buffer, tableBytes);
      }
      if (level < i) {
        childEnd = this.endOf(i - 1, leaf.page);
        childPa += encoder.levels[i - 1].tableBytes;
        encoder.encodeTable(i + 1, childPa, halves);
        this.put(buffer, this.indexOf(i, leaf), 1, halves);
      } else {
        work.encode(leaf, halves);
        const repeated = Math.max(1, leaf.kind.size / 2 ** encoder.levels[i].shift);
        this.put(buffer, this.indexOf(i, leaf), repeated, halves);
      }
    }
    if (table < 0 && isRoot) yield* blankTable(buffer, tableBytes);
    if (table >= 0 || isRoot) buffer.at += tableBytes;
  }

  private put(buffer: PieceBuffer, index: number, count: number, { low, high }: EntryHalves): void {
    const { format, byteOrder } = this.encoder;
    const { entryBytes } = format;
    const little = byteOrder === 'little';
    const lowAt = little || entryBytes === 4 ? 0 : 4;
    for (let i = index; i < index + count; i++) {
      const at = buffer.at + i * entryBytes;
      buffer.view.setUint32(at + lowAt, low, little);
      if (entryBytes === 8) buffer.view.setUint32(at + 4 - lowAt, high, little);
    }
  }

  /** Number of the entry, over all tables of a level, that a page belongs to. */
  private slotOf(i: number, { page, offset }: TableLeaf): number {
    const span = this.spans[i];
    if (span >= 1) return Math.floor(page / span);
    return page / span + Math.floor(offset / (span * PAGE));
  }

  private tableOf(i: number, leaf: TableLeaf): number {
    if (i === this.counts.length - 1) return 0;
    return Math.floor(this.slotOf(i, leaf) / this.encoder.levels[i].entries);
  }

  /** The page behind the last one of the table, of a level below the root, that a page belongs to. */
  private endOf(i: number, page: number): number {
    const pages = this.spans[i] * this.encoder.levels[i].entries;
    return (Math.floor(page / pages) + 1) * pages;
  }

  private indexOf(i: number, leaf: TableLeaf): number {
    const { encoder } = this;
    if (i === this.counts.length - 1 && encoder.rootIndex) return encoder.rootIndex(leaf.page);
    return this.slotOf(i, leaf) % encoder.levels[i].entries;
  }
}

/** Makes room for a table of zeros at the buffer's position. */
function* blankTable(buffer: PieceBuffer, tableBytes: number): Generator<Uint8Array, void, undefined> {
  if (buffer.room < tableBytes) yield buffer.take();
  buffer.bytes.fill(0, buffer.at, buffer.at + tableBytes);
}

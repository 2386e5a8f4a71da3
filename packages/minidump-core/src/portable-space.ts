import {
  MAPPED,
  TABLE_TRUNCATED,
  UNMAPPED,
  type AddressSpace,
  type Mapping,
  type MappingCursor,
  type Outcome,
  type Translation,
} from './address-space.js';
import type { BlockCache } from './block-cache.js';
import type { Section } from './core.js';
import { KvmError } from './errors.js';
import { describeLeaf, leafPa, leafValid } from './leaf.js';
import { RUN } from './portable-header.js';
import { POWERS } from './powers.js';
import { PortableCursor } from './portable-cursor.js';
import { SegmentTable } from './segment-table.js';

/** The section tables that a portable address space reads. */
export interface PortableTables {
  readonly segments: Section;
  readonly leaves: Section;
  /** Exact hardware entries, parallel to the leaves. */
  readonly entries?: Section | undefined;
  /** Width of these: 32 or 64. */
  readonly entryBits: number;
  /** The page behind the last one of the machine's address space. */
  readonly endPage: number;
  /** Pages that the file says it holds. */
  readonly dumped: number;
}

/** The address space of a portable minidump: sorted segments of KVA over one array of leaf entries. */
export class PortableSpace implements AddressSpace {
  readonly segments: SegmentTable;

  /** @throws KvmError `CORRUPT` when segments overlap, are out of order, or point outside the leaf array */
  constructor(
    readonly cache: BlockCache,
    private readonly tables: PortableTables,
  ) {
    const leaves = Math.floor(tables.leaves.length / 8);
    this.segments = new SegmentTable(cache, tables.segments, leaves, tables.endPage);
    const { entries } = tables;
    if (entries !== undefined && entries.length !== tables.leaves.length) {
      throw new KvmError('CORRUPT', 'the sections leaves and entries are not parallel', {
        field: 'entries',
        hint: 'the file is damaged: copy it again; vmcore verify says what else is',
      });
    }
  }

  translate(page: number, offset: number, out: Translation): Outcome {
    out.setEntry(0, 0, 0, 0);
    const { segments } = this;
    if (!segments.find(page, offset)) return out.miss(UNMAPPED, segments.holeLength(page, offset));
    const granule = POWERS[segments.shift];
    const within = segments.distanceTo(page, offset);
    const index = segments.kind === RUN ? 0 : Math.floor(within / granule);
    const inGranule = segments.kind === RUN ? within : within - index * granule;
    const leaf = segments.firstLeaf + index;
    if (!this.cache.load64(this.tables.leaves.offset + leaf * 8, true)) {
      return out.miss(TABLE_TRUNCATED, granule - (inGranule % granule));
    }
    const { low, high } = this.cache;
    const rest = (segments.kind === RUN ? segments.count : 1) * granule - inGranule;
    if (!leafValid(low)) return out.miss(UNMAPPED, rest);
    out.outcome = MAPPED;
    out.pa = leafPa(low, high) + inGranule;
    out.length = rest;
    describeLeaf(low, high, out);
    this.loadEntry(leaf, out);
    return MAPPED;
  }

  mappings(fromPage: number, toPage: number): MappingCursor {
    return new PortableCursor(this, fromPage, toPage);
  }

  /** Puts the exact entry of a leaf into a translation, where the file has it. */
  loadEntry(leaf: number, out: Translation | Mapping): void {
    const { entries, entryBits } = this.tables;
    if (entries === undefined || !this.cache.load64(entries.offset + leaf * 8, true)) return;
    const { low, high } = this.cache;
    if ((low | high) !== 0) out.setEntry(out.level, low, high, entryBits);
  }

  /**
   * Mappings that a walk may give: a RUN segment of 40 bytes can stand for 2^42 of them. 2^26, and 16 for each leaf and
   * each page of the file; a walk over that bound ends with one TABLE_LOOP.
   */
  get walkLimit(): number {
    return 2 ** 26 + 16 * (this.tables.leaves.length / 8 + this.tables.dumped);
  }

  /** Whether two leaves have the same exact entry; true where the file has none. */
  sameEntry(leaf: number, other: number): boolean {
    const { entries } = this.tables;
    if (entries === undefined) return true;
    if (!this.cache.load64(entries.offset + leaf * 8, true)) return false;
    const { low, high } = this.cache;
    return (
      this.cache.load64(entries.offset + other * 8, true) &&
      this.cache.low === low &&
      this.cache.high === high
    );
  }

  /** Offset in the file of a leaf. */
  leafOffset(leaf: number): number {
    return this.tables.leaves.offset + leaf * 8;
  }
}

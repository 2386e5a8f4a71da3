import type { BlockCache } from './block-cache.js';
import type { Section } from './core.js';
import { KvmError } from './errors.js';
import { KVA_PAGE } from './address-space.js';
import { FLAT, portableSegment, RUN } from './portable-header.js';
import { POWERS } from './powers.js';
import { offsetIn } from './radix-space.js';
import { PHYSICAL_LIMIT } from './source-check.js';

const SIZE = portableSegment.size;
const MAX_HOLE = 2 ** 52;

/**
 * The segments of a portable minidump, read where they lie: binary search through the cache, nothing held but the last
 * one found.
 */
export class SegmentTable {
  /** Segments in all. */
  readonly length: number;
  /** The last segment found: its first KVA as page and offset, granules, first leaf, log2 of the granule, kind. */
  page = 0;
  offset = 0;
  count = 0;
  firstLeaf = 0;
  shift = 12;
  kind = 0;
  private current = -1;

  /**
   * @param leaves length of the leaf array; no two segments may share a leaf, or a small file could hold a walk without end
   * @param topPage the page behind the last one of the address space
   * @throws KvmError `CORRUPT` when a segment overlaps another, is out of order, not aligned, or reaches past either end
   */
  constructor(
    private readonly cache: BlockCache,
    private readonly section: Section,
    leaves: number,
    private readonly topPage: number,
  ) {
    this.length = Math.floor(section.length / SIZE);
    let endPage = 0;
    let endOffset = 0;
    let endLeaf = 0;
    for (let i = 0; i < this.length; i++) {
      this.load(i);
      const used = this.kind === RUN ? 1 : this.count;
      const sound =
        (this.kind === FLAT || this.kind === RUN) &&
        (this.shift === 10 || (this.shift >= 12 && this.shift <= 30)) &&
        this.count >= 1 &&
        this.count * POWERS[this.shift] <= PHYSICAL_LIMIT &&
        offsetIn(POWERS[this.shift], this.page, this.offset) === 0 &&
        this.firstLeaf >= endLeaf &&
        this.firstLeaf + used <= leaves &&
        this.distance(endPage, endOffset) >= 0;
      if (!sound) throw this.corrupt(i);
      endLeaf = this.firstLeaf + used;
      const end = this.offset + this.count * POWERS[this.shift];
      endPage = this.page + Math.floor(end / KVA_PAGE);
      endOffset = end % KVA_PAGE;
      if (endPage > topPage || (endPage === topPage && endOffset > 0)) throw this.corrupt(i);
    }
  }

  /** Loads the segment that holds an address; false when none does. */
  find(page: number, offset: number): boolean {
    if (this.current >= 0 && this.holds(page, offset)) return true;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      this.load(middle);
      if (this.distanceTo(page, offset) >= 0) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return false;
    this.load(low - 1);
    return this.holds(page, offset);
  }

  /** Index of the first segment that ends behind an address; {@link SegmentTable.length} when none does. */
  seek(page: number, offset: number): number {
    if (this.find(page, offset)) return this.current;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      this.load(middle);
      if (this.distanceTo(page, offset) >= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** After a failed {@link SegmentTable.find}: bytes to the next segment. */
  holeLength(page: number, offset: number): number {
    const next = this.seek(page, offset);
    if (next >= this.length) return Math.min(MAX_HOLE, (this.topPage - page) * KVA_PAGE - offset);
    this.load(next);
    return Math.min(MAX_HOLE, -this.distanceTo(page, offset));
  }

  /** Bytes from the start of the segment at hand to an address. */
  distanceTo(page: number, offset: number): number {
    return (page - this.page) * KVA_PAGE + (offset - this.offset);
  }

  /** Loads segment `index`, below {@link SegmentTable.length}. */
  load(index: number): void {
    if (index === this.current) return;
    this.current = -1;
    const { cache } = this;
    const at = this.section.offset + index * SIZE;
    const kva = this.word(at);
    const page = cache.high * 0x10_0000 + (cache.low >>> 12);
    const offset = kva & (KVA_PAGE - 1);
    this.word(at + 8);
    const count = cache.high * 0x1_0000_0000 + cache.low;
    this.word(at + 16);
    const firstLeaf = cache.high * 0x1_0000_0000 + cache.low;
    const kinds = this.word(at + 24);
    this.page = page;
    this.offset = offset;
    this.count = count;
    this.firstLeaf = firstLeaf;
    this.shift = kinds & 0xff;
    this.kind = (kinds >>> 8) & 0xff;
    this.current = index;
  }

  private word(at: number): number {
    if (this.cache.load64(at, true)) return this.cache.low;
    throw new KvmError('TRUNCATED', 'the file ends in the section segments', {
      field: 'segments',
      offset: at,
      hint: 'the file is cut short; copy it again',
    });
  }

  private holds(page: number, offset: number): boolean {
    const distance = this.distanceTo(page, offset);
    return distance >= 0 && distance < this.count * POWERS[this.shift];
  }

  /** Bytes from the given end to the start of the segment at hand. */
  private distance(endPage: number, endOffset: number): number {
    return (this.page - endPage) * KVA_PAGE + (this.offset - endOffset);
  }

  private corrupt(index: number): KvmError {
    return new KvmError(
      'CORRUPT',
      `segment ${index} is no sound one: out of order, not aligned, or beyond the leaves or the address space`,
      {
        field: `segments[${index}]`,
        offset: this.section.offset + index * SIZE,
        hint: 'the file is damaged; vmcore verify says what else is',
      },
    );
  }
}

import type { Mapping } from './address-space.js';
import { leafHigh, leafLow, leafShift } from './leaf.js';
import { FLAT, RUN } from './portable-header.js';

/** Mappings of at least this many granules become a RUN segment: 40 bytes instead of 8 for each granule. */
const RUN_MIN = 16;
/** Holes of up to this many granules stay in a FLAT segment as zero leaves: cheaper than a segment of 32 bytes. */
const GAP_MAX = 4;

/** A segment of KVA and its place in the leaf array. */
export interface Segment {
  page: number;
  offset: number;
  count: number;
  firstLeaf: number;
  granuleShift: number;
  kind: typeof FLAT | typeof RUN;
}

/** What comes out of a {@link SegmentBuilder}, in order; leaves of a segment come before the segment itself. */
export interface SegmentVisitor {
  /** `count` leaves, the first of `pa`, each a granule further; all zeros when `low` is 0. */
  leaves(
    low: number,
    high: number,
    pa: number,
    count: number,
    granule: number,
    entryLow: number,
    entryHigh: number,
  ): void;
  segment(segment: Readonly<Segment>): void;
}

/** How mappings become segments. */
export interface SegmentOptions {
  /** log2 of the base page. */
  readonly granuleShift: number;
  /** Whether RUN segments are made. */
  readonly run: boolean;
  /** Whether each hardware mapping keeps its own leaf, because its exact entry is kept beside it. */
  readonly exact: boolean;
}

/**
 * Turns a walk over mappings into the segments and leaves of a portable minidump. It holds one segment and one run, no
 * more, so a walk may be repeated to write first the segments and then the leaves.
 */
export class SegmentBuilder {
  /** Segments and leaves so far. */
  segments = 0;
  leaves = 0;
  private readonly open: Segment = {
    page: 0,
    offset: 0,
    count: 0,
    firstLeaf: 0,
    granuleShift: 0,
    kind: FLAT,
  };
  /** The run of mappings at hand: KVA, PA, bytes and attributes. */
  private page = 0;
  private offset = 0;
  private pa = 0;
  private length = 0;
  private low = 0;
  private high = 0;
  private entryLow = 0;
  private entryHigh = 0;

  constructor(
    private readonly options: SegmentOptions,
    private readonly visitor?: SegmentVisitor,
  ) {}

  /** Takes the next mapping; they come by ascending KVA and do not overlap. */
  add(mapping: Mapping): void {
    const low = leafLow(mapping.flags, mapping.level);
    const high = leafHigh(mapping.flags, mapping.pageSize);
    if (!this.continues(mapping, low, high)) {
      this.endRun();
      this.page = mapping.page;
      this.offset = mapping.offset;
      this.pa = mapping.pa;
      this.length = 0;
      this.low = low;
      this.high = high;
      this.entryLow = mapping.entryBits > 0 ? mapping.entryLow : 0;
      this.entryHigh = mapping.entryBits > 0 ? mapping.entryHigh : 0;
    }
    this.length += mapping.length;
  }

  /** Ends the walk. */
  end(): void {
    this.endRun();
    this.closeSegment();
  }

  /** Whether a mapping prolongs the run at hand: behind it in KVA and PA, with the same attributes. */
  private continues(mapping: Mapping, low: number, high: number): boolean {
    return (
      this.length > 0 &&
      !this.options.exact &&
      low === this.low &&
      high === this.high &&
      mapping.pa === this.pa + this.length &&
      distance(this.page, this.offset, mapping.page, mapping.offset) === this.length
    );
  }

  private endRun(): void {
    if (this.length === 0) return;
    const shift = this.shiftOfRun();
    const granule = 2 ** shift;
    const count = this.length / granule;
    if (this.options.run && count >= RUN_MIN) this.emitRun(shift, count);
    else this.emitFlat(shift, count);
    this.length = 0;
  }

  /** The base page, or 1 KB where the run starts or ends inside one, or is made of smaller pages. */
  private shiftOfRun(): number {
    const { granuleShift } = this.options;
    const base = 2 ** granuleShift;
    const startsWhole = this.offset === 0 && (this.page * 4096) % base === 0;
    const whole = startsWhole && this.pa % base === 0 && this.length % base === 0;
    return whole && leafShift(this.high) >= granuleShift ? granuleShift : 10;
  }

  private emitRun(granuleShift: number, count: number): void {
    this.closeSegment();
    this.emitLeaves(this.low, this.high, this.pa, 1, 2 ** granuleShift);
    this.segments++;
    this.visitor?.segment({
      page: this.page,
      offset: this.offset,
      count,
      firstLeaf: this.leaves - 1,
      granuleShift,
      kind: RUN,
    });
  }

  private emitFlat(granuleShift: number, count: number): void {
    const { open } = this;
    const granule = 2 ** granuleShift;
    if (open.count > 0) {
      const gap = distance(open.page, open.offset, this.page, this.offset) / granule - open.count;
      if (open.granuleShift !== granuleShift || gap > GAP_MAX) this.closeSegment();
      else if (gap > 0) {
        this.emitLeaves(0, 0, 0, gap, granule);
        open.count += gap;
      }
    }
    if (open.count === 0) {
      open.page = this.page;
      open.offset = this.offset;
      open.firstLeaf = this.leaves;
      open.granuleShift = granuleShift;
    }
    this.emitLeaves(this.low, this.high, this.pa, count, granule);
    open.count += count;
  }

  private emitLeaves(low: number, high: number, pa: number, count: number, granule: number): void {
    this.leaves += count;
    this.visitor?.leaves(low, high, pa, count, granule, this.entryLow, this.entryHigh);
  }

  private closeSegment(): void {
    if (this.open.count === 0) return;
    this.segments++;
    this.visitor?.segment(this.open);
    this.open.count = 0;
  }
}

/** Bytes from one KVA to a higher one; exact as long as both are near. */
function distance(fromPage: number, fromOffset: number, toPage: number, toOffset: number): number {
  return (toPage - fromPage) * 4096 + (toOffset - fromOffset);
}

import { leafShift } from './leaf.js';
import type { MappedRun } from './mapping-runs.js';
import { FLAT, RUN } from './portable-header.js';

/** Runs of at least this many granules become a RUN segment: 40 bytes instead of 8 for each granule. */
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
  /** `count` leaves, the first of the run's PA, each a granule further; all zeros where there is no run. */
  leaves(run: Readonly<MappedRun> | undefined, count: number, granule: number): void;
  segment(segment: Readonly<Segment>): void;
}

/** How runs become segments. */
export interface SegmentOptions {
  /** log2 of the base page. */
  readonly granuleShift: number;
  /** Whether RUN segments are made. */
  readonly run: boolean;
}

/**
 * Turns runs of mappings into the segments and leaves of a portable minidump. It holds one segment, no more, so a walk may
 * be repeated to write first the segments and then the leaves.
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
  constructor(
    private readonly options: SegmentOptions,
    private readonly visitor?: SegmentVisitor,
  ) {}

  /** Takes the next run; they come by ascending KVA and do not overlap. */
  add(run: Readonly<MappedRun>): void {
    const shift = this.shiftOf(run);
    const count = run.length / 2 ** shift;
    if (this.options.run && count >= RUN_MIN) this.emitRun(run, shift, count);
    else this.emitFlat(run, shift, count);
  }

  /** Ends the walk. */
  end(): void {
    this.closeSegment();
  }

  /** The base page, or 1 KB where the run starts or ends inside one, or is made of smaller pages. */
  private shiftOf({ page, offset, pa, length, high }: MappedRun): number {
    const { granuleShift } = this.options;
    const base = 2 ** granuleShift;
    const whole = offset === 0 && (page * 4096) % base === 0 && pa % base === 0 && length % base === 0;
    return whole && leafShift(high) >= granuleShift ? granuleShift : 10;
  }

  private emitRun(run: MappedRun, granuleShift: number, count: number): void {
    this.closeSegment();
    this.emitLeaves(run, 1, 2 ** granuleShift);
    this.segments++;
    this.visitor?.segment({
      page: run.page,
      offset: run.offset,
      count,
      firstLeaf: this.leaves - 1,
      granuleShift,
      kind: RUN,
    });
  }

  private emitFlat(run: MappedRun, granuleShift: number, count: number): void {
    const { open } = this;
    const granule = 2 ** granuleShift;
    if (open.count > 0) {
      const gap = distance(open.page, open.offset, run.page, run.offset) / granule - open.count;
      if (open.granuleShift !== granuleShift || gap > GAP_MAX) this.closeSegment();
      else if (gap > 0) {
        this.emitLeaves(undefined, gap, granule);
        open.count += gap;
      }
    }
    if (open.count === 0) {
      open.page = run.page;
      open.offset = run.offset;
      open.firstLeaf = this.leaves;
      open.granuleShift = granuleShift;
    }
    this.emitLeaves(run, count, granule);
    open.count += count;
  }

  private emitLeaves(run: MappedRun | undefined, count: number, granule: number): void {
    this.leaves += count;
    this.visitor?.leaves(run, count, granule);
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

import type { Mapping } from './address-space.js';
import { leafHigh, leafLow } from './leaf.js';

/** Mappings that lie one behind the other in KVA and PA and say the same of it. The object is reused. */
export interface MappedRun {
  page: number;
  offset: number;
  pa: number;
  /** Bytes. */
  length: number;
  /** The halves of its leaves, without the PA. */
  low: number;
  high: number;
  /** The exact entry, 0 where there is none. */
  entryLow: number;
  entryHigh: number;
}

/** Joins the mappings of a walk to runs. It holds one. */
export class MappingRuns {
  private readonly run: MappedRun = {
    ...{ page: 0, offset: 0, pa: 0, length: 0, low: 0, high: 0, entryLow: 0, entryHigh: 0 },
  };
  /** The page size seen last, and the high half that it makes: nearly all mappings are of one size. */
  private pageSize = 0;
  private flags = 0;
  private high = 0;

  /**
   * @param exact whether each hardware mapping stays by itself, because its exact entry is kept beside it
   * @param take is given each run when it is whole
   */
  constructor(
    private readonly exact: boolean,
    private readonly take: (run: Readonly<MappedRun>) => void,
  ) {}

  /** Takes the next mapping; they come by ascending KVA and do not overlap. */
  add(mapping: Mapping): void {
    const { run } = this;
    const low = leafLow(mapping.flags, mapping.level);
    const high = this.highOf(mapping);
    const joins =
      run.length > 0 &&
      !this.exact &&
      low === run.low &&
      high === run.high &&
      mapping.pa === run.pa + run.length &&
      (mapping.page - run.page) * 4096 + mapping.offset - run.offset === run.length;
    if (!joins) {
      this.end();
      run.page = mapping.page;
      run.offset = mapping.offset;
      run.pa = mapping.pa;
      run.low = low;
      run.high = high;
      run.entryLow = mapping.entryBits > 0 ? mapping.entryLow : 0;
      run.entryHigh = mapping.entryBits > 0 ? mapping.entryHigh : 0;
    }
    run.length += mapping.length;
  }

  /** Ends the walk. */
  end(): void {
    if (this.run.length > 0) this.take(this.run);
    this.run.length = 0;
  }

  private highOf({ flags, pageSize }: Mapping): number {
    if (pageSize !== this.pageSize || flags !== this.flags) {
      this.pageSize = pageSize;
      this.flags = flags;
      this.high = leafHigh(flags, pageSize);
    }
    return this.high;
  }
}

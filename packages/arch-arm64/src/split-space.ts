import type { AddressSpace, Mapping, MappingCursor, Outcome, Translation } from '@libkvm/minidump-core';

/** Two address spaces, one for the addresses below a page and one for those from it on. */
export class SplitSpace implements AddressSpace {
  constructor(
    private readonly low: AddressSpace,
    private readonly high: AddressSpace,
    private readonly boundary: number,
  ) {}

  translate(page: number, offset: number, out: Translation): Outcome {
    return (page < this.boundary ? this.low : this.high).translate(page, offset, out);
  }

  mappings(fromPage: number, toPage: number): MappingCursor {
    const { boundary } = this;
    const low = this.low.mappings(Math.min(fromPage, boundary), Math.min(toPage, boundary));
    const high = this.high.mappings(Math.max(fromPage, boundary), Math.max(toPage, boundary));
    let inLow = true;
    return {
      next(out: Mapping): boolean {
        if (inLow && low.next(out)) return true;
        inLow = false;
        return high.next(out);
      },
    };
  }
}

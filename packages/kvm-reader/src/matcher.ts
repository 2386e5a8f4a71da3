/** Bytes searched in one go; no needle is longer. */
export const SEARCH_STEP = 256 * 1024;

/** Finds a byte string in a sequence of pieces. A match may span pieces that follow each other without a gap. */
export class Matcher {
  private readonly buffer: Uint8Array;
  /** Bytes kept from the piece before: one fewer than the needle has. */
  private kept = 0;

  constructor(private readonly needle: Uint8Array) {
    this.buffer = new Uint8Array(SEARCH_STEP + needle.length);
  }

  /** Forgets what came before: the next piece does not follow it. */
  reset(): void {
    this.kept = 0;
  }

  /** Where the next piece of up to SEARCH_STEP bytes belongs. */
  target(): Uint8Array {
    return this.buffer.subarray(this.kept, this.kept + SEARCH_STEP);
  }

  /** Takes a piece; returns where matches start, counted from its start (negative: in the piece before it). */
  accept(length: number): number[] {
    const { buffer, needle, kept } = this;
    const end = kept + length;
    const bytes = buffer.subarray(0, end);
    const last = end - needle.length;
    const matches: number[] = [];
    for (let i = bytes.indexOf(needle[0]); i >= 0 && i <= last; i = bytes.indexOf(needle[0], i + 1)) {
      let same = 1;
      while (same < needle.length && bytes[i + same] === needle[same]) same++;
      if (same === needle.length) matches.push(i - kept);
    }
    this.kept = Math.min(end, needle.length - 1);
    buffer.copyWithin(0, end - this.kept, end);
    return matches;
  }
}

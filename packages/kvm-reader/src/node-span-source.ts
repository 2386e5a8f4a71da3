import { clampLength, type ByteSource } from '@libkvm/minidump-core';

/** Decompressed bytes that are kept, but for a single span that is longer. */
const CACHE_BYTES = 32 * 2 ** 20;

/** Bytes that are decompressed span by span, each on its own; the latest that were used are kept. */
export class SpanSource implements ByteSource {
  readonly size: number;
  /** Spans by their number, the latest used last. */
  private readonly spans = new Map<number, Uint8Array>();
  private held = 0;

  /**
   * @param offsets where each span begins, and where the last one ends; ascending, and neighbours may be the same
   * @param decompress gives the bytes of a span, as many as the offsets say
   */
  constructor(
    private readonly offsets: ArrayLike<number>,
    private readonly decompress: (span: number) => Uint8Array,
  ) {
    this.size = offsets[offsets.length - 1];
  }

  /** @throws KvmError what decompressing throws */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    let done = 0;
    for (let span = this.spanAt(offset); done < wanted; span++) {
      const from = offset + done - this.offsets[span];
      const piece = this.bytesOf(span).subarray(from, from + wanted - done);
      target.set(piece, at + done);
      done += piece.length;
    }
    return done;
  }

  /** The last span that begins at or before an offset. */
  private spanAt(offset: number): number {
    let low = 0;
    let high = this.offsets.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.offsets[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private bytesOf(span: number): Uint8Array {
    const cached = this.spans.get(span);
    const bytes = cached ?? this.decompress(span);
    if (cached) this.spans.delete(span);
    else this.held += bytes.length;
    this.spans.set(span, bytes);
    for (const [oldest, { length }] of this.spans) {
      if (this.held <= CACHE_BYTES || oldest === span) break;
      this.spans.delete(oldest);
      this.held -= length;
    }
    return bytes;
  }
}

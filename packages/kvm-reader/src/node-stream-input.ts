import type { ByteSource } from '@libkvm/minidump-core';

/** Bytes read at a time. */
const PIECE = 256 * 1024;

/** The bytes of a compressed stream from first to last, a piece at a time. */
export class StreamInput {
  readonly bytes = new Uint8Array(PIECE);
  /** The next byte and the end of those read, in {@link StreamInput.bytes}. */
  at = 0;
  end = 0;
  private base = 0;

  /** @param onPiece called with the bytes taken so far, each time that more are read */
  constructor(
    private readonly source: ByteSource,
    private readonly onPiece: (done: number) => void = () => {},
  ) {}

  /** Offset of the next byte in the stream. */
  get position(): number {
    return this.base + this.at;
  }

  /** Reads on where all was taken; false at the end of the stream. */
  fill(): boolean {
    if (this.at < this.end) return true;
    this.base += this.end;
    this.at = 0;
    this.end = this.source.readSync(this.base, this.bytes, 0, PIECE);
    this.onPiece(this.base);
    return this.end > 0;
  }

  /** The next byte, or -1 at the end of the stream. */
  byte(): number {
    return this.fill() ? this.bytes[this.at++] : -1;
  }

  /** As many bytes as there are, up to `length`, in new memory. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(Math.min(length, this.source.size - this.position));
    let done = 0;
    while (done < taken.length && this.fill()) {
      const count = Math.min(taken.length - done, this.end - this.at);
      taken.set(this.bytes.subarray(this.at, this.at + count), done);
      this.at += count;
      done += count;
    }
    return done === taken.length ? taken : taken.slice(0, done);
  }

  /** Passes over bytes; fewer at the end of the stream. */
  skip(length: number): void {
    let left = length;
    while (left > 0 && this.fill()) {
      const count = Math.min(left, this.end - this.at);
      this.at += count;
      left -= count;
    }
  }

  /** Passes over zeros, and tells whether only they were left. */
  onlyZerosLeft(): boolean {
    while (this.fill()) if (this.bytes[this.at++] !== 0) return false;
    return true;
  }
}

/** Who takes what a stream holds. */
export interface StreamConsumer {
  /** Takes bytes in their order; they change afterwards. */
  write(bytes: Uint8Array): void;
  /**
   * gzip alone: a deflate block begins at this bit of the stream. `window` has the bytes before it, at most 32 KB, and none
   * at the start of a member.
   */
  boundary?(bit: number, window: Uint8Array): void;
  /** gzip alone: the deflate stream of a member ends at this bit. */
  end?(bit: number): void;
  /** Called now and then with the bytes of the stream that were taken. */
  progress?(done: number): void;
}

/** How a stream ended. */
export interface StreamEnd {
  /** What is wrong with it, where it could not be followed to its end. */
  readonly damage?: string;
  /** What is wrong, though all of it was decompressed. */
  readonly warnings: readonly string[];
}

import { KvmError } from './errors.js';

/** One section of a dump to be written: how long it is, decided in advance, and its bytes on demand. */
export interface SectionPlan {
  readonly name: string;
  /** Bytes; zeros follow up to the alignment of the format. */
  readonly length: number;
  /**
   * The bytes in pieces. A piece is good until the next but one is asked for, so that one can be written while the next is
   * made. It must come to `length` bytes in all, whatever happened to the source meanwhile.
   */
  readonly produce: () => Iterable<Uint8Array>;
}

/** Collects bytes into pieces, in two buffers by turns. */
export class PieceBuffer {
  bytes: Uint8Array;
  view: DataView;
  /** Where the next byte goes. */
  at = 0;
  private other: Uint8Array;

  constructor(size = 65536) {
    this.bytes = new Uint8Array(size);
    this.other = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Bytes that still fit. */
  get room(): number {
    return this.bytes.length - this.at;
  }

  /** The piece so far; from now on the other buffer is filled. */
  take(): Uint8Array {
    const { bytes, other, at } = this;
    this.bytes = other;
    this.other = bytes;
    this.view = new DataView(other.buffer);
    this.at = 0;
    return bytes.subarray(0, at);
  }
}

/** A section of bytes that are at hand. */
export function bytesSection(name: string, bytes: Uint8Array): SectionPlan {
  return { name, length: bytes.length, produce: () => [bytes] };
}

/**
 * The bytes of a section, checked to be as many as were planned.
 *
 * @throws KvmError `IO` when the source changed between planning and writing
 */
export function* exactly({ name, length, produce }: SectionPlan): Generator<Uint8Array, void, undefined> {
  let done = 0;
  for (const piece of produce()) {
    done += piece.length;
    if (done > length) throw changed(name, length, done);
    if (piece.length > 0) yield piece;
  }
  if (done < length) throw changed(name, length, done);
}

function changed(name: string, length: number, done: number): KvmError {
  return new KvmError('IO', `section ${name} was planned with ${length} bytes and came to ${done}`, {
    field: name,
    hint: 'the source changed between planning and writing; plan again',
  });
}

import { KvmError } from './errors.js';

/** One section of a dump to be written: how long it is, decided in advance, and its bytes on demand. */
export interface SectionPlan {
  readonly name: string;
  /** Bytes; zeros follow up to the alignment of the format. */
  readonly length: number;
  /**
   * The bytes in pieces. A piece is only good until the next one is asked for. It must come to `length` bytes in all,
   * whatever happened to the source meanwhile.
   */
  readonly produce: () => Iterable<Uint8Array>;
}

/** Collects small writes into pieces of up to 64 KB, for sections that are made entry by entry. */
export class PieceBuffer {
  private readonly bytes = new Uint8Array(65536);
  readonly view = new DataView(this.bytes.buffer);
  /** Where the next entry goes. */
  at = 0;

  /** Whether an entry of so many bytes still fits. */
  fits(length: number): boolean {
    return this.at + length <= this.bytes.length;
  }

  /** The piece so far; the buffer starts anew. */
  take(): Uint8Array {
    const piece = this.bytes.subarray(0, this.at);
    this.at = 0;
    return piece;
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

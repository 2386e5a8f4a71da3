import { KvmError } from './errors.js';

/**
 * Random access to a sequence of bytes. Files, memory, parts and sequences of them all look like this; implement it to
 * read a core from anywhere that can answer synchronously.
 *
 * @example
 * const source: ByteSource = {
 *   size: fs.fstatSync(fd).size,
 *   readSync: (offset, target, at, length) => fs.readSync(fd, target, at, length, offset),
 * };
 */
export interface ByteSource {
  /** Bytes in all; an integer of at most 2^53 - 1. */
  readonly size: number;
  /**
   * Copies bytes `[offset, offset + length)` to `target[at...]` and returns how many were copied. Fewer than `length`
   * only where the source ends; the caller keeps `at + length` within the target.
   */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number;
}

/** A source over bytes in memory. */
export class MemorySource implements ByteSource {
  readonly size: number;

  constructor(readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const count = clampLength(this.size, offset, length);
    if (count > 0) target.set(this.bytes.subarray(offset, offset + count), at);
    return count;
  }
}

/** A window `[start, start + size)` of another source; it ends earlier where that source does. */
export class SubSource implements ByteSource {
  readonly size: number;

  constructor(
    private readonly parent: ByteSource,
    private readonly start: number,
    size: number,
  ) {
    this.size = clampLength(parent.size, start, size);
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const count = clampLength(this.size, offset, length);
    return count === 0 ? 0 : this.parent.readSync(this.start + offset, target, at, count);
  }
}

/** Several sources one behind the other, as a split file is. */
export class ConcatSource implements ByteSource {
  readonly size: number;
  private readonly ends: number[] = [];

  constructor(private readonly parts: readonly ByteSource[]) {
    let end = 0;
    for (const part of parts) this.ends.push((end += part.size));
    this.size = end;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    let done = 0;
    for (let i = this.partAt(offset); done < wanted && i < this.parts.length; i++) {
      const part = this.parts[i];
      const inPart = offset + done - (this.ends[i] - part.size);
      const count = Math.min(wanted - done, part.size - inPart);
      const got = count > 0 ? part.readSync(inPart, target, at + done, count) : 0;
      done += got;
      if (got < count) break;
    }
    return done;
  }

  /** Index of the first part that ends behind `offset`. */
  private partAt(offset: number): number {
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[middle] > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Bytes in memory, in any of the shapes that JavaScript has for them. */
export type BytesLike = ArrayBufferView | ArrayBufferLike;

/**
 * Bytes in memory as a `Uint8Array` over the same memory; undefined for anything else. Views and buffers of other realms
 * (frames, `vm` contexts), of shared memory and of Node count, which `instanceof` would not tell.
 */
export function toBytes(input: unknown): Uint8Array | undefined {
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  const tag = Object.prototype.toString.call(input);
  const buffer = tag === '[object ArrayBuffer]' || tag === '[object SharedArrayBuffer]';
  return buffer ? new Uint8Array(input as ArrayBufferLike) : undefined;
}

/**
 * Bytes or a source, as a source.
 *
 * @throws KvmError `INVALID_ARGUMENT` for what is neither
 */
export function toByteSource(input: BytesLike | ByteSource): ByteSource {
  const bytes = toBytes(input);
  if (bytes !== undefined) return new MemorySource(bytes);
  return requireSource(input as ByteSource);
}

function requireSource(input: ByteSource): ByteSource {
  if (typeof input?.readSync !== 'function' || !Number.isSafeInteger(input.size) || input.size < 0) {
    throw new KvmError('INVALID_ARGUMENT', 'a core is given as bytes or as a source with size and readSync', {
      hint: 'pass a Uint8Array or another view, an ArrayBuffer or a ByteSource',
    });
  }
  return input;
}

/**
 * Reads exactly `length` bytes into new memory. The length is checked against the source before memory is taken.
 *
 * @throws KvmError `TRUNCATED` when the source ends earlier, `IO` when it gives less than it has
 */
export function readBytes(
  source: ByteSource,
  offset: number,
  length: number,
  what: string,
): Uint8Array<ArrayBuffer> {
  if (clampLength(source.size, offset, length) < length) throw truncated(source, offset, length, what);
  const bytes = new Uint8Array(length);
  const got = source.readSync(offset, bytes, 0, length);
  if (got >= length) return bytes;
  throw new KvmError('IO', `${what}: the source gave ${got} of ${length} bytes at offset ${offset}`, {
    offset,
    length,
    hint: 'the file changed while it was read; open it again',
  });
}

/** Bytes of `[offset, offset + length)` that lie within a source of `size` bytes. */
export function clampLength(size: number, offset: number, length: number): number {
  return offset < 0 ? 0 : Math.max(0, Math.min(length, size - offset));
}

function truncated(source: ByteSource, offset: number, length: number, what: string): KvmError {
  return new KvmError(
    'TRUNCATED',
    `${what}: ${length} bytes at offset ${offset} reach past the end of the file (${source.size} bytes)`,
    { offset, length, hint: 'the file is cut short; copy it again' },
  );
}

import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { crc32, inflateRawSync } from 'node:zlib';
import { KvmError, clampLength, isKvmError, latin1, struct, type ByteSource } from '@libkvm/minidump-core';
import { FileSource } from './node-file-source.js';
import { WINDOW_BYTES } from './node-gunzip.js';
import { onFile } from './node-system-error.js';

/** What an index begins with and ends in. */
export const INDEX_MAGIC = 'libkvm gzip index';
export const INDEX_VERSION = 1;

/** The start of an index: tells it from other files. The windows follow, each deflated. */
export const indexHeader = struct('gzipIndexHeader', {
  magic: { at: 0, kind: 'char[24]', doc: '`libkvm gzip index`' },
  version: { at: 24, kind: 'u32', doc: '1' },
  zero: { at: 28, kind: 'u32', doc: '0' },
});

/** A place where inflating can begin. The last entry is the end of the stream. */
export const indexEntry = struct('gzipIndexEntry', {
  bit: { at: 0, kind: 'u64', doc: 'where a deflate block begins, in bits of the stream' },
  offset: { at: 8, kind: 'u64', doc: 'offset of its first byte in what the stream holds' },
  windowOffset: { at: 16, kind: 'u64', doc: 'where in this file the 32 KB before it are, deflated' },
  windowLength: { at: 24, kind: 'u32', doc: 'bytes of them here; 0: there are none' },
  windowCrc: { at: 28, kind: 'u32', doc: 'CRC-32 of them, inflated' },
});

/** The end of an index, behind its entries. */
export const indexTrailer = struct('gzipIndexTrailer', {
  magic: { at: 0, kind: 'char[24]', doc: '`libkvm gzip index`' },
  version: { at: 24, kind: 'u32', doc: '1' },
  count: { at: 28, kind: 'u32', doc: 'entries' },
  identity: { at: 32, kind: 'bytes[32]', doc: 'SHA-256 of what tells the core from others' },
  tableOffset: { at: 64, kind: 'u64', doc: 'where the entries begin' },
  tableCrc: { at: 72, kind: 'u32', doc: 'CRC-32 of the entries' },
  crc: { at: 76, kind: 'u32', doc: 'CRC-32 of this trailer with this field 0' },
});

/** More entries than a core of 4 TB has. */
export const MAX_ENTRIES = 2 ** 20;
/** Between two entries at most so many bytes lie inflated, and at most so many deflated: they are held at once. */
export const MAX_SPAN = 64 * 2 ** 20;
const SAMPLE = 65536;

/** An index that belongs to its stream. */
export class GzipIndex {
  constructor(
    private readonly file: FileSource,
    /** Bit and offset of each entry, the end of the stream last. */
    readonly bits: Float64Array,
    readonly offsets: Float64Array,
    private readonly windows: readonly { offset: number; length: number; crc: number }[],
  ) {}

  /** Bytes that the stream holds. */
  get size(): number {
    return this.offsets[this.offsets.length - 1];
  }

  /** The bytes before an entry. */
  window(entry: number): Uint8Array {
    const { offset, length, crc } = this.windows[entry];
    if (length === 0) return new Uint8Array(0);
    const deflated = new Uint8Array(length);
    this.file.readSync(offset, deflated, 0, length);
    const window = attempt(() => inflateRawSync(deflated, { maxOutputLength: WINDOW_BYTES }));
    if (window !== undefined && crc32(window) === crc) return window;
    throw new KvmError('CORRUPT', `${this.file.path} is damaged`, {
      ...{ offset, field: 'index', hint: 'remove it: it is made anew from the core' },
    });
  }

  close(): void {
    this.file.close();
  }
}

/** What tells a core from others, and from itself before it was changed: its size, its time, its first and last 64 KB. */
export function identityOf(path: string, stream: ByteSource): Uint8Array {
  const { mtimeNs } = onFile(path, () => statSync(path, { bigint: true }));
  const hash = createHash('sha256').update(`${INDEX_VERSION} ${stream.size} ${mtimeNs}\n`);
  const sample = new Uint8Array(SAMPLE);
  for (const offset of [0, Math.max(0, stream.size - SAMPLE)]) {
    hash.update(sample.subarray(0, stream.readSync(offset, sample, 0, SAMPLE)));
  }
  return hash.digest();
}

/**
 * Opens an index. Undefined where there is none, or where it is damaged or of another core: it is to be made anew.
 *
 * @throws KvmError `INVALID_ARGUMENT` for a file that is no index, `IO`
 */
export function openIndex(path: string, stream: ByteSource, identity: Uint8Array): GzipIndex | undefined {
  if (!existsSync(path)) return undefined;
  const file = new FileSource(path);
  try {
    const index = readIndex(file, stream, identity);
    if (index === undefined) file.close();
    return index;
  } catch (error) {
    file.close();
    throw error;
  }
}

function readIndex(file: FileSource, stream: ByteSource, identity: Uint8Array): GzipIndex | undefined {
  const head = bytesAt(file, 0, indexHeader.size);
  if (latin1(head.subarray(0, 24)) !== INDEX_MAGIC) {
    throw new KvmError('INVALID_ARGUMENT', `${file.path} is no index of a core, and is not replaced by one`, {
      ...{ field: 'index', hint: 'name another file' },
    });
  }
  const end = bytesAt(file, file.size - indexTrailer.size, indexTrailer.size);
  if (head.length < indexHeader.size || end.length < indexTrailer.size) return undefined;
  const trailer = indexTrailer.read(end, 0, 'little');
  end.fill(0, indexTrailer.fields.crc.at);
  const { version, count, tableOffset, tableCrc } = trailer;
  const tableBytes = count * indexEntry.size;
  const sound =
    trailer.magic === INDEX_MAGIC &&
    trailer.crc === crc32(end) &&
    version === INDEX_VERSION &&
    Buffer.compare(trailer.identity, identity) === 0 &&
    count >= 2 &&
    count <= MAX_ENTRIES &&
    Number(tableOffset) + tableBytes + indexTrailer.size === file.size;
  if (!sound) return undefined;
  const table = bytesAt(file, Number(tableOffset), tableBytes);
  return crc32(table) === tableCrc ? readTable(file, stream, table, Number(tableOffset)) : undefined;
}

/** An index may be anybody's: what it says is held against the core. */
function readTable(
  file: FileSource,
  stream: ByteSource,
  table: Uint8Array,
  tableOffset: number,
): GzipIndex | undefined {
  const count = table.length / indexEntry.size;
  const bits = new Float64Array(count);
  const offsets = new Float64Array(count);
  const windows = Array.from({ length: count }, (_, i) => {
    const entry = indexEntry.read(table, i * indexEntry.size, 'little');
    bits[i] = Number(entry.bit);
    offsets[i] = Number(entry.offset);
    return { offset: Number(entry.windowOffset), length: entry.windowLength, crc: entry.windowCrc };
  });
  const placed = windows.every(({ offset, length }, i) => {
    const ascends = i === 0 ? bits[i] > 0 && offsets[i] === 0 : spanFits(bits, offsets, i - 1);
    return ascends && length <= 2 * WINDOW_BYTES && offset + length <= tableOffset;
  });
  return placed && bits[count - 1] <= stream.size * 8
    ? new GzipIndex(file, bits, offsets, windows)
    : undefined;
}

/** Whether what lies between an entry and the next one can be held in memory. */
export function spanFits(bits: ArrayLike<number>, offsets: ArrayLike<number>, entry: number): boolean {
  const inflated = offsets[entry + 1] - offsets[entry];
  const deflated = (bits[entry + 1] - bits[entry]) / 8;
  return inflated >= 0 && inflated <= MAX_SPAN && deflated >= 0 && deflated <= MAX_SPAN;
}

function bytesAt(file: FileSource, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(clampLength(file.size, offset, length));
  file.readSync(offset, bytes, 0, bytes.length);
  return bytes;
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (isKvmError(error)) throw error;
    return undefined;
  }
}

import { KvmError } from '@libkvm/minidump-core';
import type { StreamInput } from './node-stream-input.js';

/** What the header of a zstd frame says (RFC 8878, 3.1.1.1). */
export interface ZstdFrame {
  /** The header as it stands in the stream. */
  readonly header: Uint8Array;
  readonly windowBytes: number;
  /** Bytes of the content, where the frame says it. */
  readonly contentBytes?: number;
  readonly hasChecksum: boolean;
}

/** What is next in a stream. */
export type NextFrame = ZstdFrame | 'skipped' | 'end' | 'none' | 'cut';

/** As the zstd program, unless it is told otherwise (ZSTD_WINDOWLOG_LIMIT_DEFAULT). */
const MAX_WINDOW = 2 ** 27;
const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;

/**
 * Reads the header of the next frame; passes over a skippable one.
 *
 * @throws KvmError `UNSUPPORTED` for a frame that needs a dictionary, or more memory than 128 MB
 */
export function readFrameHeader(input: StreamInput): NextFrame {
  const offset = input.position;
  const magic = input.take(4);
  if (magic.length === 0) return 'end';
  if (magic.length < 4) return magic.every((byte) => byte === 0) ? 'end' : 'none';
  const value = new DataView(magic.buffer).getUint32(0, true);
  if ((value & 0xfffffff0) >>> 0 === SKIPPABLE) {
    const length = input.take(4);
    if (length.length < 4) return 'cut';
    input.skip(new DataView(length.buffer).getUint32(0, true));
    return 'skipped';
  }
  if (value === 0 && input.onlyZerosLeft()) return 'end';
  return value === MAGIC ? frame(input, magic, offset) : 'none';
}

function frame(input: StreamInput, magic: Uint8Array, offset: number): ZstdFrame | 'cut' | 'none' {
  const descriptor = input.byte();
  if (descriptor < 0) return 'cut';
  if (descriptor & 8) return 'none';
  const single = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3];
  const flag = descriptor >> 6;
  const sizeBytes = flag > 0 ? 1 << flag : single ? 1 : 0;
  const rest = input.take((single ? 0 : 1) + dictionaryBytes + sizeBytes);
  if (rest.length < (single ? 0 : 1) + dictionaryBytes + sizeBytes) return 'cut';
  const content = sizeBytes === 0 ? undefined : integer(rest.subarray(-sizeBytes)) + (flag === 1 ? 256 : 0);
  const windowBytes = single ? content! : windowOf(rest[0]);
  const dictionary = integer(rest.subarray(single ? 0 : 1, (single ? 0 : 1) + dictionaryBytes));
  if (dictionary !== 0) throw unsupported('a zstd stream that needs a dictionary', offset);
  if (windowBytes > MAX_WINDOW)
    throw unsupported(`a zstd stream with a window of ${windowBytes} bytes`, offset);
  return {
    header: Uint8Array.of(...magic, descriptor, ...rest),
    windowBytes,
    ...(content !== undefined && { contentBytes: content }),
    hasChecksum: (descriptor & 4) !== 0,
  };
}

/** RFC 8878, 3.1.1.1.2. */
function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function integer(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

function unsupported(what: string, offset: number): KvmError {
  return new KvmError('UNSUPPORTED', what, {
    ...{ offset, hint: 'decompress it first: zstd -d --long=31 vmcore.N.zst' },
  });
}

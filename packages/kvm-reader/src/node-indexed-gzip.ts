import { constants, inflateRawSync } from 'node:zlib';
import { KvmError, clampLength, type ByteSource } from '@libkvm/minidump-core';
import type { GzipIndex } from './node-gzip-index.js';
import { SpanSource } from './node-span-source.js';

/**
 * What a gzip stream holds, at random: inflated from the entry of its index before the bytes that are asked for.
 *
 * Reads throw KvmError `CORRUPT` where core and index contradict each other, `IO`.
 */
export function indexedGzip(stream: ByteSource, index: GzipIndex): ByteSource {
  return new SpanSource(index.offsets, (entry) => inflate(stream, index, entry));
}

function inflate(stream: ByteSource, index: GzipIndex, entry: number): Uint8Array {
  const length = index.offsets[entry + 1] - index.offsets[entry];
  if (length === 0) return new Uint8Array(0);
  const dictionary = index.window(entry);
  const deflated = deflatedSpan(stream, index, entry);
  try {
    const span = inflateRawSync(deflated, {
      ...(dictionary.length > 0 && { dictionary }),
      ...{ finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: length, chunkSize: Math.max(64, length) },
    });
    if (span.length === length) return span;
  } catch (cause) {
    throw contradiction(index, entry, cause);
  }
  throw contradiction(index, entry);
}

/** The bytes of a span, with blocks in front of it that make up for the bits before its first. */
function deflatedSpan(stream: ByteSource, { bits }: GzipIndex, entry: number): Uint8Array {
  const first = Math.floor(bits[entry] / 8);
  const shift = bits[entry] % 8;
  const lead = LEADS[shift];
  const whole = shift === 0 ? 0 : lead.length - 1;
  const length = clampLength(stream.size, first, Math.ceil(bits[entry + 1] / 8) - first);
  const bytes = new Uint8Array(whole + length);
  stream.readSync(first, bytes, whole, length);
  if (shift === 0 || length === 0) return bytes;
  bytes[whole] = (bytes[whole] & (0xff << shift)) | lead[whole];
  bytes.set(lead.subarray(0, whole));
  return bytes;
}

function contradiction({ bits }: GzipIndex, entry: number, cause?: unknown): KvmError {
  return new KvmError('CORRUPT', 'the compressed core does not fit its index', {
    offset: Math.floor(bits[entry] / 8),
    field: 'index',
    hint: 'the core has changed since it was opened, or the index is damaged: remove it, it is made anew',
    cause,
  });
}

/**
 * Deflate blocks that hold nothing, and end so many bits into a byte: zlib begins at a byte, and stored blocks are aligned to
 * bytes, so that the bits of the stream cannot be shifted instead. With fixed codes such a block has 10 bits; one with
 * codes of its own, for the end of the block alone, can be made to have 93 (RFC 1951, 3.2.5 to 3.2.7).
 */
const FIXED = '0' + '10' + '0000000';
const DYNAMIC = [
  '0' + '01', // not the last; codes of its own
  '00000' + '00000' + '0111', // 257 literal/length codes, 1 distance code, 18 code length codes
  // Lengths of the codes for 16, 17, 18, 0, 8, ..., 14, 1: two bits for 18 and 0, one for 1. Lowest bit first.
  '000' + '000' + '010' + '010' + '000'.repeat(13) + '100',
  '11' + '1111111' + '11' + '1101011', // 138 and 118 times no code
  '0' + '10', // one bit for the end of the block; no distance
  '0', // the end of the block
].join('');
const LEADS = Array.from({ length: 8 }, (_, shift) => {
  const odd = shift % 2 === 1;
  const fixed = ((((shift - (odd ? DYNAMIC.length : 0)) / 2) % 4) + 4) % 4;
  return packed((odd ? DYNAMIC : '') + FIXED.repeat(fixed));
});

/** Bits in the order of the stream as bytes. */
function packed(bits: string): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits.length / 8));
  Array.from(bits, (bit, i) => (bytes[i >> 3] |= Number(bit) << (i & 7)));
  return bytes;
}

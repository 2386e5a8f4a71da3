// eslint-disable-next-line @typescript-eslint/triple-slash-reference -- declarations of a package, for every build
/// <reference path="./node-pako.d.ts" />
import { crc32 } from 'node:zlib';
import type { ByteSource } from '@libkvm/minidump-core';
import zlib from 'pako/lib/zlib/inflate.js';
import ZStream from 'pako/lib/zlib/zstream.js';
import { StreamInput, type StreamConsumer, type StreamEnd } from './node-stream-input.js';

/** Deflate refers back no further (RFC 1951, 2). */
export const WINDOW_BYTES = 32768;
const OUTPUT_BYTES = 256 * 1024;

// zlib.h
const Z_NO_FLUSH = 0;
const Z_BLOCK = 5;
const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;
const BLOCK_END = 128;
const LAST_BLOCK = 64;
const UNUSED_BITS = 7;
/** Steps that take and give nothing: empty blocks may lie within the bits at hand, but no more than these. */
const MAX_IDLE = 64;

// RFC 1952, 2.3.1
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;

/**
 * Decompresses a gzip stream of any number of members (RFC 1952), in bounded memory. Damage ends it; what was decompressed
 * before has been written. pako rather than node:zlib, which cannot stop at the blocks of deflate, and is asynchronous
 * where it does not hold all of a stream in memory.
 */
export function gunzip(source: ByteSource, consumer: StreamConsumer): StreamEnd {
  return new Gunzip(source, consumer).run();
}

class Gunzip {
  private readonly input: StreamInput;
  private readonly stream = new ZStream();
  /** The window before the bytes that are not written yet, and room for these. */
  private readonly output = new Uint8Array(WINDOW_BYTES + OUTPUT_BYTES);
  /** First byte of the output that is not written yet. */
  private pending = WINDOW_BYTES;
  private crc = 0;
  /** Bytes of this member that were written. */
  private written = 0;
  private idleSteps = 0;
  private onlyZeros = true;

  constructor(
    source: ByteSource,
    private readonly consumer: StreamConsumer,
  ) {
    this.input = new StreamInput(source, (done) => consumer.progress?.(done));
    this.stream.output = this.output;
  }

  run(): StreamEnd {
    const warnings: string[] = [];
    for (let member = 0; ; member++) {
      const from = this.input.position;
      const header = this.header();
      if (header === 'none' && member > 0) {
        if (this.trailingBytes())
          warnings.push(`bytes follow the gzip stream at offset ${from}; they are left out`);
        return { warnings };
      }
      if (header !== 'whole')
        return { damage: `the gzip stream ends in a header, at byte ${from}`, warnings };
      const damage = this.member() ?? this.trailer(warnings);
      if (damage !== undefined) return { damage, warnings };
    }
  }

  /** Passes over a member's header. */
  private header(): 'whole' | 'cut' | 'none' {
    const { input } = this;
    const fixed = [input.byte(), input.byte(), input.byte(), input.byte()];
    const [id1, id2, method, flags] = fixed;
    if (id1 !== 0x1f || id2 !== 0x8b || method !== 8) {
      this.onlyZeros = fixed.every((byte) => byte <= 0);
      return 'none';
    }
    input.skip(6);
    if (flags & FEXTRA) input.skip(input.byte() + input.byte() * 256);
    if (flags & FNAME) while (input.byte() > 0);
    if (flags & FCOMMENT) while (input.byte() > 0);
    if (flags & FHCRC) input.skip(2);
    return input.fill() ? 'whole' : 'cut';
  }

  /** Whether more than padding follows the last member: kernels fill their last block with zeros. */
  private trailingBytes(): boolean {
    return !this.onlyZeros || !this.input.onlyZerosLeft();
  }

  /** Inflates one member; gives the damage, if any. */
  private member(): string | undefined {
    const { stream, input } = this;
    // Not inflateReset, which loses the size of the window.
    zlib.inflateInit2(stream, -15);
    this.crc = 0;
    this.written = 0;
    this.pending = WINDOW_BYTES;
    stream.next_out = WINDOW_BYTES;
    this.consumer.boundary?.(input.position * 8, this.output.subarray(0, 0));
    for (;;) {
      if (!input.fill()) return this.cut('it ends early');
      const result = this.inflate();
      if (result === Z_STREAM_END) break;
      if (result !== Z_OK && result !== Z_BUF_ERROR) return this.cut(stream.msg || `zlib error ${result}`);
      if (stream.data_type & BLOCK_END && !(stream.data_type & LAST_BLOCK)) this.boundary();
    }
    this.flush();
    this.consumer.end?.(input.position * 8);
    return undefined;
  }

  /** One step, into the free part of the output. */
  private inflate(): number {
    const { stream, input } = this;
    if (stream.next_out === this.output.length) this.flush();
    stream.input = input.bytes;
    stream.next_in = input.at;
    stream.avail_in = input.end - input.at;
    stream.avail_out = this.output.length - stream.next_out;
    const result = zlib.inflate(stream, this.consumer.boundary ? Z_BLOCK : Z_NO_FLUSH);
    const idle = result === Z_BUF_ERROR && stream.next_in === input.at;
    this.idleSteps = idle ? this.idleSteps + 1 : 0;
    input.at = stream.next_in;
    return this.idleSteps > MAX_IDLE ? result - 1 : result;
  }

  /** Passes on what is ready, and keeps the window. */
  private flush(): void {
    const { stream, output, pending } = this;
    const bytes = output.subarray(pending, stream.next_out);
    if (bytes.length > 0) {
      this.crc = crc32(bytes, this.crc);
      this.written += bytes.length;
      this.consumer.write(bytes);
    }
    output.copyWithin(0, stream.next_out - WINDOW_BYTES, stream.next_out);
    stream.next_out = WINDOW_BYTES;
    this.pending = WINDOW_BYTES;
  }

  private boundary(): void {
    const { stream, input } = this;
    this.flush();
    const length = Math.min(WINDOW_BYTES, this.written);
    const bit = input.position * 8 - (stream.data_type & UNUSED_BITS);
    this.consumer.boundary?.(bit, this.output.subarray(WINDOW_BYTES - length, WINDOW_BYTES));
  }

  /** Holds CRC and length against what follows the member. */
  private trailer(warnings: string[]): string | undefined {
    const trailer = this.input.take(8);
    if (trailer.length < 8) return this.cut('it ends before its checksum');
    const view = new DataView(trailer.buffer);
    if (view.getUint32(0, true) !== this.crc) {
      warnings.push('the checksum (CRC-32) of the gzip stream is wrong: bytes of the core are damaged');
    } else if (view.getUint32(4, true) !== this.written % 2 ** 32) {
      warnings.push('the length at the end of the gzip stream is wrong');
    }
    return undefined;
  }

  private cut(reason: string): string {
    this.flush();
    return `the gzip stream is damaged or cut at byte ${this.input.position}: ${reason}`;
  }
}

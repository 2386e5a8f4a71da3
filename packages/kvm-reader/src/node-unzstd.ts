import type { ByteSource } from '@libkvm/minidump-core';
import { Decompress } from 'fzstd';
import { StreamInput, type StreamConsumer, type StreamEnd } from './node-stream-input.js';
import { readFrameHeader, type ZstdFrame } from './node-zstd-frame.js';

/** Block_Maximum_Size (RFC 8878, 3.1.1.2.3). */
const MAX_BLOCK = 131072;
/** Each frame has a window to be cleared: all of them together this many times what they hold is a trick. */
const WINDOW_SHARE = 64;
const FREE_WINDOWS = 2 ** 28;

/**
 * Decompresses a zstd stream of any number of frames (RFC 8878), in bounded memory: its window, at most 128 MB. Damage ends
 * it; what was decompressed before has been written. Checksums of the content are not verified.
 *
 * @throws KvmError `UNSUPPORTED` for frames that need a dictionary or a larger window
 */
export function unzstd(source: ByteSource, consumer: StreamConsumer): StreamEnd {
  return new Unzstd(source, consumer).run();
}

class Unzstd {
  private readonly input: StreamInput;
  private written = 0;
  private windows = 0;

  constructor(
    source: ByteSource,
    private readonly consumer: StreamConsumer,
  ) {
    this.input = new StreamInput(source, (done) => consumer.progress?.(done));
  }

  run(): StreamEnd {
    const warnings: string[] = [];
    for (let frames = 0; ;) {
      const from = this.input.position;
      const next = readFrameHeader(this.input);
      if (next === 'end') return { warnings };
      if (next === 'skipped') continue;
      if (next === 'none' && frames > 0) {
        warnings.push(`bytes follow the zstd stream at offset ${from}; they are left out`);
        return { warnings };
      }
      if (next === 'none' || next === 'cut') {
        return { damage: `the zstd stream ends in a header, at byte ${from}`, warnings };
      }
      const damage = this.frame(next, warnings);
      if (damage !== undefined) return { damage, warnings };
      frames++;
    }
  }

  /** Decompresses one frame block by block, so that no block claims more than its stream has. */
  private frame(frame: ZstdFrame, warnings: string[]): string | undefined {
    const { input } = this;
    this.windows += frame.windowBytes;
    if (this.windows > FREE_WINDOWS + WINDOW_SHARE * this.written) {
      return this.damaged('its frames have windows, but hardly anything in them');
    }
    const before = this.written;
    const decoder = new Decompress((bytes) => {
      this.written += bytes.length;
      if (bytes.length > 0) this.consumer.write(bytes);
    });
    try {
      decoder.push(frame.header);
      for (let last = false; !last;) {
        const header = input.take(3);
        if (header.length < 3) return this.damaged('it ends early');
        last = (header[0] & 1) !== 0;
        const block = this.block(header, frame);
        if (block === undefined) return this.damaged('a block is cut, or of no known kind');
        // In pieces that the decoder has to join: it keeps hold of each one that it can use as it is.
        for (const piece of [header.subarray(0, 2), header.subarray(2), block]) decoder.push(piece);
        if (last) decoder.push(input.take(frame.hasChecksum ? 4 : 0), true);
      }
    } catch (error) {
      // The decoder throws errors of several kinds at bad data; those of the consumer have a code.
      if (error instanceof Object && 'code' in error && typeof error.code === 'string') throw error;
      return this.damaged(error instanceof Error ? error.message : String(error));
    }
    const got = this.written - before;
    if (frame.contentBytes !== undefined && frame.contentBytes !== got) {
      warnings.push(`a zstd frame says ${frame.contentBytes} bytes, and has ${got}`);
    }
    return undefined;
  }

  /** The content of a block; undefined where it is not whole. */
  private block(header: Uint8Array, { windowBytes }: ZstdFrame): Uint8Array | undefined {
    const value = header[0] | (header[1] << 8) | (header[2] << 16);
    const kind = (value >> 1) & 3;
    const size = value >> 3;
    if (kind === 3 || size > Math.max(1, Math.min(MAX_BLOCK, windowBytes))) return undefined;
    const length = kind === 1 ? 1 : size;
    const content = this.input.take(length);
    return content.length === length ? content : undefined;
  }

  private damaged(reason: string): string {
    return `the zstd stream is damaged or cut at byte ${this.input.position}: ${reason}`;
  }
}

import { KvmError, SubSource, type ByteSource } from '@libkvm/minidump-core';
import { SpanSource } from './node-span-source.js';
import { StreamInput } from './node-stream-input.js';
import { unzstd } from './node-unzstd.js';
import { readFrameHeader, type ZstdFrame } from './node-zstd-frame.js';

/** Frames that hold more are not kept in memory. */
const MAX_FRAME = 64 * 2 ** 20;
/** More frames than a core of 4 TB has in frames of 4 MB. */
const MAX_FRAMES = 2 ** 20;
/**
 * What a zstd stream of many frames holds, at random (pzstd, the seekable format): each can be decompressed alone. Where they
 * lie is told by headers alone, so that there is no index to keep. Otherwise the reason why it cannot be read at random.
 *
 * @param onProgress called with the bytes of the stream that were looked at
 * @throws KvmError `UNSUPPORTED` as `readFrameHeader`; reads throw `CORRUPT` where a frame is damaged
 */
export function zstdFrames(stream: ByteSource, onProgress?: (done: number) => void): ByteSource | string {
  const input = new StreamInput(stream, onProgress);
  const starts: number[] = [];
  const offsets = [0];
  for (;;) {
    const start = input.position;
    const next = readFrameHeader(input);
    if (next === 'skipped') continue;
    if (next === 'end') {
      if (starts.length < 2) return 'it is one frame of zstd';
      starts.push(start);
      return new SpanSource(offsets, (frame) => decompress(stream, starts, offsets, frame));
    }
    if (next === 'none' || next === 'cut' || !passFrame(input, next)) return 'the zstd stream is not sound';
    if (next.contentBytes === undefined) return 'its frames do not say how long they are';
    if (next.contentBytes > MAX_FRAME || starts.length >= MAX_FRAMES)
      return 'its frames are too large, or too many';
    starts.push(start);
    offsets.push(offsets[offsets.length - 1] + next.contentBytes);
  }
}

function decompress(
  stream: ByteSource,
  starts: readonly number[],
  offsets: readonly number[],
  frame: number,
): Uint8Array {
  const start = starts[frame];
  const bytes = new Uint8Array(offsets[frame + 1] - offsets[frame]);
  let done = 0;
  const { damage } = unzstd(new SubSource(stream, start, starts[frame + 1] - start), {
    write(piece) {
      bytes.set(piece.subarray(0, bytes.length - done), done);
      done = Math.min(bytes.length, done + piece.length);
    },
  });
  if (damage === undefined && done === bytes.length) return bytes;
  const reason = damage ?? 'it is shorter than it says';
  throw new KvmError('CORRUPT', `a frame of the compressed core is damaged: ${reason}`, {
    ...{ offset: start, hint: 'open the core without an index to read what is in front of the damage' },
  });
}

/** Passes over the blocks of a frame; false where it is cut. */
function passFrame(input: StreamInput, { hasChecksum }: ZstdFrame): boolean {
  for (let last = false; !last;) {
    const header = input.take(3);
    if (header.length < 3) return false;
    const value = header[0] | (header[1] << 8) | (header[2] << 16);
    last = (value & 1) !== 0;
    const kind = (value >> 1) & 3;
    if (kind === 3) return false;
    const length = kind === 1 ? 1 : value >> 3;
    if (input.take(length).length < length) return false;
  }
  return !hasChecksum || input.take(4).length === 4;
}

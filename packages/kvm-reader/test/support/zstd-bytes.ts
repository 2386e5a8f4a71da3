/** zstd frames without entropy coding, written from RFC 8878: raw blocks, and blocks of one repeated byte. */

export interface ZstdFrameOptions {
  readonly checksum?: boolean;
  /** Give the size of the content, in a single segment. */
  readonly sized?: boolean;
  /** Exponent and mantissa of the window. */
  readonly windowDescriptor?: number;
}

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

/** One frame of a content, in blocks of at most `blockBytes`. */
export function zstdFrame(
  content: Uint8Array,
  options: ZstdFrameOptions = {},
  blockBytes = 65536,
): Uint8Array {
  const { checksum = false, sized = false, windowDescriptor = 0x38 } = options;
  const size = Buffer.alloc(4);
  size.writeUInt32LE(content.length);
  const descriptor = (sized ? 0xa0 : 0) | (checksum ? 4 : 0);
  const parts: Uint8Array[] = [
    Uint8Array.of(...MAGIC, descriptor),
    sized ? size : Uint8Array.of(windowDescriptor),
  ];
  for (let at = 0; at === 0 || at < content.length; at += blockBytes) {
    const piece = content.subarray(at, at + blockBytes);
    const last = at + blockBytes >= content.length ? 1 : 0;
    const repeated = piece.length > 0 && piece.every((byte) => byte === piece[0]);
    parts.push(blockHeader(last, repeated ? 1 : 0, piece.length), repeated ? piece.subarray(0, 1) : piece);
  }
  if (checksum) parts.push(Uint8Array.of(1, 2, 3, 4));
  return Buffer.concat(parts);
}

export function skippableFrame(bytes: number): Uint8Array {
  const frame = Buffer.alloc(8 + bytes, 0xee);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
}

export function blockHeader(last: number, type: number, size: number): Uint8Array {
  const value = last | (type << 1) | (size << 3);
  return Uint8Array.of(value & 0xff, (value >> 8) & 0xff, value >> 16);
}

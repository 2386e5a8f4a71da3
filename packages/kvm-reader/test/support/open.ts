import { amd64Minidump as dialect } from '@libkvm/arch-amd64';
import { BlockCache, openMinidump, toByteSource } from '@libkvm/minidump-core';
import type { ByteSource, HeaderOverrides } from '@libkvm/minidump-core';
import { Kvm } from '../../src/kvm.js';
import { Symbols } from '../../src/symbols.js';

export interface TestOptions {
  readonly cacheBytes?: number;
  readonly overrides?: HeaderOverrides;
  /** Symbol name to KVA. */
  readonly symbols?: Readonly<Record<string, bigint>>;
}

/** Opens an amd64 minidump, without detection and without a kernel file. */
export function openAmd64(input: Uint8Array | ByteSource, options: TestOptions = {}): Kvm {
  const { cacheBytes, overrides, symbols } = options;
  const core = openMinidump(new BlockCache(toByteSource(input), cacheBytes), dialect, overrides);
  return new Kvm(core, new Symbols(undefined, symbols && ((name) => symbols[name])));
}

/** The bytes as a source that is no MemorySource, so that the block cache works as it does over a file. */
export function asSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    readSync(offset, target, at, length) {
      const piece = bytes.subarray(offset, offset + length);
      target.set(piece, at);
      return piece.length;
    },
  };
}

/** A source of any size that is zero but for some pieces; nothing of it exists in memory. */
export function sparseSource(
  size: number,
  pieces: readonly (readonly [offset: number, bytes: Uint8Array])[],
): ByteSource {
  return {
    size,
    readSync(offset, target, at, length) {
      const count = Math.max(0, Math.min(length, size - offset));
      target.fill(0, at, at + count);
      for (const [start, bytes] of pieces) {
        const from = Math.max(offset, start);
        const to = Math.min(offset + count, start + bytes.length);
        if (from < to) target.set(bytes.subarray(from - start, to - start), at + from - offset);
      }
      return count;
    },
  };
}

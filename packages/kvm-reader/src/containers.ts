import { BlockCache, readHead, type ByteSource, type Core } from '@libkvm/minidump-core';
import { findDump, headerBehind } from './dump-device.js';
import type { InfoFile } from './info-file.js';
import type { KernelDumpHeader } from './kernel-dump-header.js';
import { surrounded, type OpenedCore } from './opened-core.js';
import { isKvmError } from '@libkvm/minidump-core';

/** A stream that a file consists of, or that a dump device holds. */
export interface CompressedStream {
  readonly kind: 'gzip' | 'zstd';
  readonly bytes: ByteSource;
}

/** What a compressed stream holds. */
export interface UnpackedStream {
  readonly bytes: ByteSource;
  /** Oddities that did not keep it from being read: damage, a checksum, what follows the stream. */
  readonly warnings: readonly string[];
}

/** Gives random access to what a compressed stream holds; `openKvmFile` brings one. */
export type Unpack = (stream: CompressedStream) => UnpackedStream;

/** What is taken off a core before it is opened. */
export interface ContainerOptions {
  /** How compressed cores are read; without it they are refused. */
  readonly unpack?: Unpack;
  /** What savecore(8) wrote to `info.N` beside the core. */
  readonly info?: InfoFile;
  /** Bytes of the core that may be held in memory. */
  readonly cacheBytes?: number;
}

/** A file without what is around its core. */
export interface Unwrapped {
  /** The core's bytes. */
  readonly cache: BlockCache;
  /** Adds what was found around the core to it. */
  readonly finish: (core: Core) => OpenedCore;
}

/** A compressed dump on a compressed image of its device is the most there is. */
const MAX_DEPTH = 3;

/**
 * Takes off what is around a core: the headers of a dump device or stream, and compression.
 *
 * @param recognised whether a file that starts with these bytes is a core
 * @throws KvmError as `findDump`, and what `unpack` throws
 */
export function unwrap(
  file: BlockCache,
  options: ContainerOptions,
  recognised: (head: Uint8Array) => boolean,
): Unwrapped {
  let cache = file;
  let dumpHeader: KernelDumpHeader | undefined;
  let dataOffset = 0;
  let compressed = false;
  const warnings: string[] = [];
  const enter = (bytes: ByteSource, remarks: readonly string[]): void => {
    cache = new BlockCache(bytes, options.cacheBytes);
    warnings.push(...remarks);
  };
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const head = readHead(cache);
    if (recognised(head)) break;
    const kind = compressionOf(head);
    if (kind !== undefined) {
      if (options.unpack === undefined) break;
      const unpacked = options.unpack({ kind, bytes: cache.source });
      enter(unpacked.bytes, unpacked.warnings);
      compressed = true;
      continue;
    }
    const dump = dumpHeader
      ? undefined
      : findDump(cache.source, (start) => recognised(start) || !!compressionOf(start));
    if (dump === undefined) break;
    dumpHeader = dump.header;
    dataOffset = dump.dataOffset;
    enter(dump.data, dump.warnings);
  }
  return {
    cache,
    finish(core) {
      const around = { dataOffset, fileSize: file.size, compressed, warnings };
      const header = dumpHeader ?? trailingHeader(cache, core);
      return surrounded(core, {
        ...around,
        ...(header && { dumpHeader: header }),
        ...(options.info && { info: options.info }),
      });
    },
  };
}

/** Which compression a file starts with: those that kernels and savecore(8) use. */
export function compressionOf(head: Uint8Array): CompressedStream['kind'] | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b && head[2] === 8) return 'gzip';
  // A zstd frame, or a skippable one in front of it (RFC 8878, 3.1).
  if (head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd && head[0] === 0x28) return 'zstd';
  const skippable = head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18;
  return skippable && head[0] >= 0x50 && head[0] <= 0x5f ? 'zstd' : undefined;
}

/** The header behind a live dump that was not cut to its length. Looked for only where the file goes on behind the core. */
function trailingHeader({ source }: BlockCache, core: Core): KernelDumpHeader | undefined {
  const end = Math.max(0, ...core.sections.map(({ offset, length }) => offset + length));
  if (source.size - end < 512) return undefined;
  try {
    return headerBehind(source, end);
  } catch (error) {
    // The core is open all the same.
    if (isKvmError(error, 'CORRUPT', 'UNSUPPORTED')) return undefined;
    throw error;
  }
}

import { KvmError, type ByteSource } from '@libkvm/minidump-core';
import type { CompressedStream, Unpack, UnpackedStream } from './containers.js';
import { gunzip } from './node-gunzip.js';
import { identityOf, openIndex } from './node-gzip-index.js';
import { writeIndex } from './node-gzip-indexer.js';
import { indexedGzip } from './node-indexed-gzip.js';
import type { StreamConsumer, StreamEnd } from './node-stream-input.js';
import { TemporaryFile, limitOf, tooLarge, type TemporaryOptions } from './node-temporary-file.js';
import { unzstd } from './node-unzstd.js';
import { zstdFrames } from './node-zstd-frames.js';

/** How compressed cores are opened. */
export interface UnpackOptions extends TemporaryOptions {
  /**
   * Read a gzip core at random through an index, kept beside it (`vmcore.0.gz.kvmindex`) or in the file named, instead of a
   * temporary file. It is made when it is not there or does not belong to the core. A zstd core of many frames is read at
   * random as it is. Off unless asked for.
   */
  readonly index?: boolean | string;
  /** Called while a core is decompressed, with the bytes taken of all that the file has. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Less than this is no core, whatever it starts with. */
const HEADER_BYTES = 4096;

/**
 * Reads compressed cores by decompressing them, in order, into a temporary file; or gzip at random, where an index is asked
 * for. What is whole before damage is given, with a warning: of a core that is cut most can be read.
 *
 * @param path the core's file
 * @param onOpen takes what closes and removes the files that were opened
 */
export function fileUnpack(
  path: string,
  options: UnpackOptions,
  onOpen: (close: () => void) => void,
): Unpack {
  let index = options.index === true ? `${path}.kvmindex` : (options.index ?? false);
  return (stream) => {
    // Of compression within compression the index is that of the outer one.
    const asked = index;
    index = false;
    if (asked === false) return unpackTemporary(stream, options, onOpen);
    const random =
      stream.kind === 'gzip' ? atIndex(path, asked, stream, options, onOpen) : atFrames(stream, options);
    if (typeof random !== 'string') return { bytes: random, warnings: [] };
    const { bytes, warnings } = unpackTemporary(stream, options, onOpen);
    return { bytes, warnings: [`the core was decompressed, it can have no index: ${random}`, ...warnings] };
  };
}

/** A gzip core through its index, made where there is none; or why it can have none. */
function atIndex(
  path: string,
  indexPath: string,
  { bytes }: CompressedStream,
  options: UnpackOptions,
  onOpen: (close: () => void) => void,
): ByteSource | string {
  const identity = identityOf(path, bytes);
  let index = openIndex(indexPath, bytes, identity);
  if (index === undefined) {
    const reason = makeIndex(indexPath, bytes, identity, options);
    if (reason !== undefined) return reason;
    index = openIndex(indexPath, bytes, identity);
  }
  if (index === undefined) return 'the index could not be read again';
  onOpen(() => index.close());
  return indexedGzip(bytes, index);
}

function makeIndex(
  path: string,
  stream: ByteSource,
  identity: Uint8Array,
  options: UnpackOptions,
): string | undefined {
  const limit = limitOf(options);
  return writeIndex(path, stream, identity, {
    onBytes(done) {
      if (done > limit) throw tooLarge(limit);
    },
    ...(options.onProgress && { onProgress: options.onProgress }),
  });
}

/** A zstd core of many frames, which needs no index; or why it cannot be read at random. */
function atFrames({ bytes }: CompressedStream, { onProgress }: UnpackOptions): ByteSource | string {
  return zstdFrames(bytes, onProgress && ((done) => onProgress(done, bytes.size)));
}

function unpackTemporary(
  { kind, bytes }: CompressedStream,
  options: UnpackOptions,
  onOpen: (close: () => void) => void,
): UnpackedStream {
  const file = new TemporaryFile(options);
  onOpen(() => file.close());
  const consumer: StreamConsumer = {
    write: (piece) => file.write(piece),
    ...(options.onProgress && { progress: (done) => options.onProgress?.(done, bytes.size) }),
  };
  const { damage, warnings }: StreamEnd = kind === 'gzip' ? gunzip(bytes, consumer) : unzstd(bytes, consumer);
  file.finish();
  if (damage === undefined) return { bytes: file, warnings };
  if (file.size < HEADER_BYTES) {
    throw new KvmError('CORRUPT', `${damage}; ${file.size} bytes were decompressed`, {
      ...{ offset: 0, hint: 'copy the core again; nothing of it can be read' },
    });
  }
  return { bytes: file, warnings: [`${damage}; the core is cut after ${file.size} bytes`, ...warnings] };
}

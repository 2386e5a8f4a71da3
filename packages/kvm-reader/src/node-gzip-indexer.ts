import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { crc32, deflateRawSync } from 'node:zlib';
import type { ByteSource } from '@libkvm/minidump-core';
import { gunzip } from './node-gunzip.js';
import {
  INDEX_MAGIC,
  INDEX_VERSION,
  MAX_ENTRIES,
  indexEntry,
  indexHeader,
  indexTrailer,
  spanFits,
} from './node-gzip-index.js';
import { onFile } from './node-system-error.js';

/** Between entries lie at least so many bytes of the core: a read inflates half of them, and a window takes up to 32 KB. */
const SPACING = 4 * 2 ** 20;

/** What is taken note of while an index is made. */
export interface IndexerOptions {
  /** Called with the bytes of the core so far; may throw to end it. */
  readonly onBytes?: (done: number) => void;
  /** Called with the bytes taken of the stream. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Bytes between entries: 4 MB unless given. */
  readonly spacing?: number;
}

/**
 * Makes the index of a gzip stream: inflates it once, and keeps where that can begin again. The file appears when it is
 * whole. Gives the reason where the stream can have none: damage, or blocks too large to be read each on its own.
 *
 * @throws KvmError `IO` when the file cannot be written
 */
export function writeIndex(
  path: string,
  stream: ByteSource,
  identity: Uint8Array,
  options: IndexerOptions = {},
): string | undefined {
  const temporary = `${path}.partial-${process.pid}-${randomBytes(4).toString('hex')}`;
  const fd = onFile(path, () => openSync(temporary, 'wx', 0o600));
  let open = true;
  try {
    const reason = new Indexer(fd, path, options).run(stream, identity);
    if (reason !== undefined) return reason;
    onFile(path, () => {
      fsyncSync(fd);
      open = false;
      closeSync(fd);
      renameSync(temporary, path);
    });
    return undefined;
  } finally {
    if (open) closeSync(fd);
    discard(temporary);
  }
}

class Indexer {
  private readonly bits: number[] = [];
  private readonly offsets: number[] = [];
  private readonly table: Uint8Array[] = [];
  /** Bytes of the core so far, and bytes of the index. */
  private offset = 0;
  private position = 0;
  private readonly spacing: number;

  constructor(
    private readonly fd: number,
    private readonly path: string,
    private readonly options: IndexerOptions,
  ) {
    this.spacing = options.spacing ?? SPACING;
  }

  run(stream: ByteSource, identity: Uint8Array): string | undefined {
    const header = new Uint8Array(indexHeader.size);
    indexHeader.write(header, 0, 'little', { magic: INDEX_MAGIC, version: INDEX_VERSION });
    this.append(header);
    let end = 0;
    const { damage, warnings } = gunzip(stream, {
      write: (bytes) => {
        this.offset += bytes.length;
        this.options.onBytes?.(this.offset);
      },
      boundary: (bit, window) => {
        const first = window.length === 0 && bit % 8 === 0;
        if (first || this.offset - (this.offsets.at(-1) ?? 0) >= this.spacing) this.enter(bit, window);
      },
      progress: (done) => this.options.onProgress?.(done, stream.size),
      end: (bit) => (end = bit),
    });
    if (damage !== undefined || warnings.length > 0) return damage ?? warnings[0];
    this.enter(end, new Uint8Array(0));
    if (this.bits.length > MAX_ENTRIES) return 'it consists of too many members';
    if (this.bits.some((_, i) => i + 1 < this.bits.length && !spanFits(this.bits, this.offsets, i))) {
      return 'its deflate blocks are too large to be read each on its own';
    }
    this.finish(identity);
    return undefined;
  }

  /** Notes a place, with the window before it. */
  private enter(bit: number, window: Uint8Array): void {
    if (this.bits.length > MAX_ENTRIES) return;
    const deflated = window.length === 0 ? window : deflateRawSync(window);
    const entry = new Uint8Array(indexEntry.size);
    indexEntry.write(entry, 0, 'little', {
      bit: BigInt(bit),
      offset: BigInt(this.offset),
      windowOffset: BigInt(this.position),
      windowLength: deflated.length,
      windowCrc: crc32(window),
    });
    this.append(deflated);
    this.bits.push(bit);
    this.offsets.push(this.offset);
    this.table.push(entry);
  }

  private finish(identity: Uint8Array): void {
    const tableOffset = this.position;
    const table = Buffer.concat(this.table);
    this.append(table);
    const trailer = new Uint8Array(indexTrailer.size);
    indexTrailer.write(trailer, 0, 'little', {
      ...{ magic: INDEX_MAGIC, version: INDEX_VERSION, count: this.table.length, identity },
      ...{ tableOffset: BigInt(tableOffset), tableCrc: crc32(table) },
    });
    indexTrailer.write(trailer, 0, 'little', { crc: crc32(trailer) });
    this.append(trailer);
  }

  private append(bytes: Uint8Array): void {
    onFile(this.path, () => {
      for (let done = 0; done < bytes.length;) done += writeSync(this.fd, bytes, done, bytes.length - done);
    });
    this.position += bytes.length;
  }
}

/** Removes what was not given its name; nothing to be done where it was. */
function discard(temporary: string): void {
  try {
    unlinkSync(temporary);
  } catch {
    // It was renamed.
  }
}

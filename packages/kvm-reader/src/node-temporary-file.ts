import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, statfsSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KvmError, clampLength, type ByteSource } from '@libkvm/minidump-core';
import { readDescriptor } from './node-file-source.js';
import { onFile } from './node-system-error.js';

/** Where decompressed cores go, and how large they may be. */
export interface TemporaryOptions {
  /** Folder of temporary files: that of the system unless given. */
  readonly temporaryDirectory?: string;
  /** Bytes that a core may decompress to: 64 GB unless given. It never takes more than the disk has free. */
  readonly temporaryBytes?: number;
}

const GB = 2 ** 30;
const DEFAULT_LIMIT = 64 * GB;
const BLOCK = 4096;
const ZEROS = Buffer.alloc(BLOCK);
const BUFFER_BYTES = 256 * 1024;
/** The free space is asked for again after so many bytes; as many are left to others. */
const CHECK_BYTES = 64 * 2 ** 20;

/**
 * A file of this process alone: private, gone with the process where the system can unlink open files, and sparse, since
 * blocks of zeros are not written. Bytes are appended, then read.
 */
export class TemporaryFile implements ByteSource {
  private fd: number;
  private readonly path: string;
  private readonly limit: number;
  private unlinked = false;
  private readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  private buffered = 0;
  /** Bytes in the file, holes included; the buffer goes behind them. */
  private position = 0;
  /** Bytes that may be written until the free space is looked at. */
  private allowance = 0;

  /** @throws KvmError `IO` when no file can be made there */
  constructor(options: TemporaryOptions) {
    const { temporaryDirectory = tmpdir() } = options;
    this.limit = limitOf(options);
    this.path = join(temporaryDirectory, `libkvm-${process.pid}-${randomBytes(6).toString('hex')}`);
    this.fd = onFile(this.path, () => openSync(this.path, 'wx+', 0o600));
    this.unlink();
  }

  get size(): number {
    return this.position + this.buffered;
  }

  /**
   * Appends bytes.
   *
   * @throws KvmError `UNSUPPORTED` beyond the limit, `IO` when the disk is full or fails
   */
  write(bytes: Uint8Array): void {
    if (this.size + bytes.length > this.limit) throw tooLarge(this.limit);
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, BUFFER_BYTES - this.buffered);
      this.buffer.set(bytes.subarray(at, at + count), this.buffered);
      this.buffered += count;
      at += count;
      if (this.buffered === BUFFER_BYTES) this.flush();
    }
  }

  /** Ends the writing: the file has its size, and can be read. */
  finish(): void {
    this.flush();
    onFile(this.path, () => ftruncateSync(this.fd, this.position));
  }

  /** @throws KvmError `IO` */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    if (this.fd < 0) {
      throw new KvmError('IO', 'the core is closed', { offset, length, hint: 'open it again' });
    }
    const there = clampLength(this.size, offset, length);
    return readDescriptor(this.fd, this.path, offset, target, at, there);
  }

  /** Closes and removes the file. May be called again. */
  close(): void {
    if (this.fd < 0) return;
    const { fd } = this;
    this.fd = -1;
    closeSync(fd);
    this.unlink();
  }

  /** Some systems keep the name of a file until it is closed. */
  private unlink(): void {
    if (this.unlinked) return;
    try {
      unlinkSync(this.path);
      this.unlinked = true;
    } catch {
      // Done again when it is closed.
    }
  }

  /** Writes the stretches of the buffer that are not zeros. */
  private flush(): void {
    const { buffer, buffered } = this;
    let from = -1;
    for (let at = 0; at < buffered + BLOCK; at += BLOCK) {
      const block = buffer.subarray(at, Math.min(at + BLOCK, buffered));
      const zero = block.length === 0 || block.equals(ZEROS.subarray(0, block.length));
      if (!zero && from < 0) from = at;
      if (zero && from >= 0) {
        this.put(buffer.subarray(from, Math.min(at, buffered)), this.position + from);
        from = -1;
      }
    }
    this.position += buffered;
    this.buffered = 0;
  }

  private put(bytes: Uint8Array, position: number): void {
    if (this.allowance < bytes.length) this.checkSpace();
    this.allowance -= bytes.length;
    onFile(this.path, () => {
      for (let done = 0; done < bytes.length;) {
        done += writeSync(this.fd, bytes, done, bytes.length - done, position + done);
      }
    });
  }

  private checkSpace(): void {
    const { bavail, bsize } = onFile(this.path, () => statfsSync(join(this.path, '..')));
    if (bavail * bsize < 2 * CHECK_BYTES) {
      throw new KvmError('IO', `${join(this.path, '..')} has only ${bavail * bsize} bytes free`, {
        field: 'temporaryDirectory',
        hint: 'the core is decompressed to a temporary file: name a folder with more room (temporaryDirectory)',
      });
    }
    this.allowance = CHECK_BYTES;
  }
}

/** The error for a core that decompresses to more than is allowed. */
export function tooLarge(limit: number): KvmError {
  return new KvmError('UNSUPPORTED', `the core decompresses to more than ${limit} bytes`, {
    ...{ offset: 0, field: 'temporaryBytes' },
    hint: 'if that is no trick, allow more (temporaryBytes, --temporary-limit)',
  });
}

/** @throws KvmError `INVALID_ARGUMENT` for a limit that is no number of bytes */
export function limitOf({ temporaryBytes = DEFAULT_LIMIT }: TemporaryOptions): number {
  if (temporaryBytes >= 0) return temporaryBytes;
  throw new KvmError('INVALID_ARGUMENT', `temporaryBytes is ${temporaryBytes}`, { field: 'temporaryBytes' });
}

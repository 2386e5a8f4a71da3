import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { KvmError, type ByteSource } from '@libkvm/minidump-core';
import { onFile, reasonOf } from './node-system-error.js';

/** Linux reads at most this much in one call. */
const MAX_CALL = 0x7fff_f000;

/** A regular file as a source. Its size is taken once, when it is opened. */
export class FileSource implements ByteSource {
  readonly size: number;
  private fd: number;

  /** @throws KvmError `IO` when the file cannot be opened, `INVALID_ARGUMENT` when it is no regular file */
  constructor(readonly path: string) {
    // Looked at before it is opened: opening a pipe waits for its writer.
    const stat = onFile(path, () => statSync(path));
    if (!stat.isFile()) {
      throw new KvmError('INVALID_ARGUMENT', `${path} is not a regular file`, {
        field: 'path',
        hint: 'copy a device or a pipe to a file first',
      });
    }
    this.fd = onFile(path, () => openSync(path, 'r'));
    this.size = onFile(path, () => fstatSync(this.fd)).size;
  }

  /** @throws KvmError `IO` when the file is closed or the system fails to read it */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    if (this.fd < 0) {
      throw new KvmError('IO', `${this.path} is closed`, { offset, length, hint: 'open it again' });
    }
    return readDescriptor(this.fd, this.path, offset, target, at, length);
  }

  /** Closes the file; reads fail from then on. May be called again. */
  close(): void {
    if (this.fd < 0) return;
    const { fd } = this;
    this.fd = -1;
    closeSync(fd);
  }
}

/** Reads from an open file until the bytes are there, or the file ends. */
export function readDescriptor(
  fd: number,
  path: string,
  offset: number,
  target: Uint8Array,
  at: number,
  length: number,
): number {
  let done = 0;
  try {
    while (done < length) {
      const got = readSync(fd, target, at + done, Math.min(length - done, MAX_CALL), offset + done);
      if (got === 0) break;
      done += got;
    }
  } catch (cause) {
    throw new KvmError('IO', `${path}: ${reasonOf(cause)}`, {
      ...{ offset, length, cause },
      hint: 'the disk or what the file lies on fails, or the core was closed',
    });
  }
  return done;
}

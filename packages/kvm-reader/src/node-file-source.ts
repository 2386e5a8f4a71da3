import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { KvmError, type ByteSource } from '@libkvm/minidump-core';

/** Linux reads at most this much in one call. */
const MAX_CALL = 0x7fff_f000;

/** A regular file as a source. Its size is taken once, when it is opened. */
export class FileSource implements ByteSource {
  readonly size: number;
  private fd: number;

  /** @throws KvmError `IO` when the file cannot be opened, `INVALID_ARGUMENT` when it is no regular file */
  constructor(readonly path: string) {
    this.fd = attempt(path, () => openSync(path, 'r'));
    const stat = attempt(path, () => fstatSync(this.fd));
    this.size = stat.size;
    if (stat.isFile()) return;
    this.close();
    throw new KvmError('INVALID_ARGUMENT', `${path} is not a regular file`, {
      field: 'path',
      hint: 'copy a device or a pipe to a file first',
    });
  }

  /** @throws KvmError `IO` when the file is closed or the system fails to read it */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    let done = 0;
    try {
      while (done < length) {
        const got = readSync(this.fd, target, at + done, Math.min(length - done, MAX_CALL), offset + done);
        if (got === 0) break;
        done += got;
      }
    } catch (cause) {
      throw new KvmError('IO', `${this.path}: ${reason(cause)}`, { offset, length, cause });
    }
    return done;
  }

  /** Closes the file; reads fail from then on. May be called again. */
  close(): void {
    if (this.fd < 0) return;
    const { fd } = this;
    this.fd = -1;
    closeSync(fd);
  }
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new KvmError('IO', `${path}: ${reason(cause)}`, { field: 'path', cause });
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

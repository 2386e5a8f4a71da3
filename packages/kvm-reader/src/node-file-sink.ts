import { randomBytes } from 'node:crypto';
import { closeSync, constants, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { writeDump, type ByteSink, type DumpPlan, type WriteOptions } from '@libkvm/minidump-core';
import { onFile } from './node-system-error.js';

/**
 * A file that appears under its name only when it is whole: bytes go to a temporary file beside it, which is flushed and
 * renamed by {@link FileSink.commit}. A run that is killed leaves at most `NAME.partial-...`.
 */
export class FileSink implements ByteSink {
  private readonly temporary: string;
  private fd: number;

  /** @throws KvmError `IO` when no file can be made there */
  constructor(readonly path: string) {
    this.temporary = `${path}.partial-${process.pid}-${randomBytes(4).toString('hex')}`;
    this.fd = onFile(path, () => openSync(this.temporary, 'wx', 0o600));
  }

  /** @throws KvmError `IO`, e.g. when the disk is full */
  write(bytes: Uint8Array): void {
    onFile(this.path, () => {
      for (let at = 0; at < bytes.length;) at += writeSync(this.fd, bytes, at, bytes.length - at);
    });
  }

  /** Flushes the bytes and gives the file its name, replacing what had it. */
  commit(): void {
    onFile(this.path, () => {
      fsyncSync(this.fd);
      this.close();
      renameSync(this.temporary, this.path);
      flushFolder(dirname(this.path));
    });
  }

  /** Forgets what was written. Never fails: it is what is left to do after a failure. */
  discard(): void {
    try {
      this.close();
    } catch {
      // A disk that cannot be written may fail once more.
    }
    try {
      unlinkSync(this.temporary);
    } catch {
      // It was committed, or is gone already.
    }
  }

  private close(): void {
    if (this.fd < 0) return;
    const { fd } = this;
    this.fd = -1;
    closeSync(fd);
  }
}

/**
 * Writes a planned dump to a file, whole or not at all.
 *
 * @throws KvmError `IO`, `ABORTED`; no file is left under the name then, and one that was there is untouched
 * @example
 * const kvm = openKvmFile('guest.elf');
 * await writeDumpFile(planPortable(dumpSourceOf(kvm.core)), 'guest.minidump');
 */
export async function writeDumpFile(plan: DumpPlan, path: string, options: WriteOptions = {}): Promise<void> {
  const sink = new FileSink(path);
  try {
    await writeDump(plan, sink, { crc32, ...options });
    sink.commit();
  } catch (error) {
    sink.discard();
    throw error;
  }
}

/** Makes the rename itself durable. Not every system can open a folder, and then nothing more can be done. */
function flushFolder(folder: string): void {
  let fd: number;
  try {
    fd = openSync(folder, constants.O_RDONLY);
  } catch {
    return;
  }
  try {
    fsyncSync(fd);
  } catch {
    // As above.
  } finally {
    closeSync(fd);
  }
}

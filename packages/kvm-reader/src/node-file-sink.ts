import { randomBytes } from 'node:crypto';
import {
  close,
  constants,
  fdatasync,
  fsync,
  open,
  openSync,
  rename,
  statSync,
  unlink,
  write,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { KvmError, writeDump, type ByteSink, type DumpPlan, type WriteOptions } from '@libkvm/minidump-core';
import { onFile, onFileAsync } from './node-system-error.js';

const system = {
  close: promisify(close),
  fdatasync: promisify(fdatasync),
  fsync: promisify(fsync),
  open: promisify(open),
  rename: promisify(rename),
  unlink: promisify(unlink),
  write: promisify(write),
};

/** From this length on a write goes to another thread, and whoever writes can make the next piece meanwhile. */
const LARGE = 65536;
/** So many bytes are sent on to the disk while more are made, or the last flush would have to wait for all of them. */
const FLUSH_BYTES = 32 * 1024 * 1024;

/**
 * A file that appears under its name only when it is whole: bytes go to a temporary file beside it, which is flushed and
 * renamed by {@link FileSink.commit}. A run that is killed leaves at most `NAME.partial-...`.
 *
 * One call at a time: the promise of one has to be settled before the next is made.
 */
export class FileSink implements ByteSink {
  private readonly temporary: string;
  private fd: number;
  private position = 0;
  private flushedTo = 0;
  private flushing: Promise<void> | undefined;
  /** What a flush in between failed with: the system says so only once. */
  private flushFailure: { readonly cause: unknown } | undefined;

  /** @throws KvmError `IO` when no file can be made there, or what has the name is none (a folder, a device) */
  constructor(readonly path: string) {
    requireFile(path);
    this.temporary = `${path}.partial-${process.pid}-${randomBytes(4).toString('hex')}`;
    this.fd = onFile(path, () => openSync(this.temporary, 'wx', 0o600));
  }

  /** @throws KvmError `IO`, e.g. when the disk is full */
  write(bytes: Uint8Array): void | Promise<void> {
    if (bytes.length >= LARGE) return onFileAsync(this.path, () => this.writeLarge(bytes));
    onFile(this.path, () => {
      for (let at = 0; at < bytes.length;) {
        const count = writeSync(this.fd, bytes, at, bytes.length - at, this.position);
        at += count;
        this.position += count;
      }
    });
  }

  /** Flushes the bytes and gives the file its name, replacing what had it. */
  commit(): Promise<void> {
    return onFileAsync(this.path, async () => {
      await this.flushing;
      if (this.flushFailure) throw this.flushFailure.cause;
      await system.fsync(this.fd);
      await this.close();
      await system.rename(this.temporary, this.path);
      await flushFolder(dirname(this.path));
    });
  }

  /** Forgets what was written. Never fails: it is what is left to do after a failure. */
  async discard(): Promise<void> {
    // A disk that cannot be written may fail once more; and the file was committed, or is gone already.
    await this.close().catch(() => undefined);
    await system.unlink(this.temporary).catch(() => undefined);
  }

  private async writeLarge(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await system.write(this.fd, bytes, at, bytes.length - at, this.position);
      at += bytesWritten;
      this.position += bytesWritten;
    }
    if (this.flushFailure) throw this.flushFailure.cause;
    if (this.flushing === undefined && this.position - this.flushedTo >= FLUSH_BYTES) this.flush();
  }

  /** Begins to flush what there is; nobody waits for it. */
  private flush(): void {
    this.flushedTo = this.position;
    this.flushing = system
      .fdatasync(this.fd)
      .catch((cause: unknown) => void (this.flushFailure = { cause }))
      .then(() => void (this.flushing = undefined));
  }

  private async close(): Promise<void> {
    if (this.fd < 0) return;
    const { fd } = this;
    this.fd = -1;
    await this.flushing;
    await system.close(fd);
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
    await sink.commit();
  } catch (error) {
    await sink.discard();
    throw error;
  }
}

/** The new file takes the place of what has its name: a superuser's /dev/null would be gone. */
function requireFile(path: string): void {
  if (onFile(path, () => statSync(path, { throwIfNoEntry: false }))?.isFile() ?? true) return;
  throw new KvmError('IO', `${path}: not a regular file`, {
    field: 'path',
    hint: 'give the name of a new file, or of one to replace',
  });
}

/** Makes the rename itself durable. Not every system can open a folder, and then nothing more can be done. */
async function flushFolder(folder: string): Promise<void> {
  const fd = await system.open(folder, constants.O_RDONLY).catch(() => -1);
  if (fd < 0) return;
  await system.fsync(fd).catch(() => undefined);
  await system.close(fd).catch(() => undefined);
}

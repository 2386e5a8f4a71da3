import { KvmError, checkedNumber, type Core } from '@libkvm/minidump-core';
import { physicalRuns, readRuns, runsLength, virtualRuns } from './async-runs.js';
import { blobSource, type AsyncByteSource, type Cancellable } from './async-source.js';
import { BlockStore } from './block-store.js';
import { physicalFault, virtualFault } from './faults.js';
import type { MatchReport } from './kernel-match.js';
import type { PartialRead, ReadOptions, Resolved } from './answers.js';
import type { Kvm } from './kvm.js';
import type { MessageBuffer } from './message-buffer.js';
import { PageWalk, type PageEntry, type WalkRange } from './page-walk.js';
import { searchPhysical, searchVirtual, type SearchRange } from './search.js';

/** Longer reads translate first, then fetch all their runs together past the store. */
const BULK = 65536;
/** Rows or matches made in one step. */
const BATCH = 256;

/** Options of an asynchronous read. */
export interface AsyncReadOptions extends ReadOptions, Cancellable {}

/**
 * An opened core, read asynchronously: the methods, answers and errors of {@link Kvm}, each as a promise. Made by
 * `openKvmAsync`. Calls may be made while others are under way.
 *
 * It is the same code: a synchronous step that lacks bytes says which, they are fetched, and the step is taken again.
 */
export class AsyncKvm {
  constructor(
    private readonly kvm: Kvm,
    private readonly store: BlockStore,
    /** The kernel's bytes, where they are fetched as well. */
    private readonly kernelStore: BlockStore | undefined,
    private readonly concurrency: number,
    private readonly onClose: () => void,
  ) {}

  /** The two maps and the facts of the file. Its facts can be looked at; its memory cannot be read synchronously. */
  get core(): Core {
    return this.kvm.core;
  }

  /** Requests made and bytes fetched so far, of the core. */
  get fetched(): Readonly<{ requests: number; bytes: number }> {
    return this.store.fetched;
  }

  resolve(kva: number | bigint, options?: Cancellable): Promise<Resolved> {
    return this.step(() => this.kvm.resolve(kva), options);
  }

  async read(
    kva: number | bigint,
    length: number,
    options: AsyncReadOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (!(length > BULK) || options.pad === true)
      return this.step(() => this.kvm.read(kva, length, options), options);
    // The length is checked, and the runs are found, before memory is taken.
    const { bytes, fault } = await this.readPartial(kva, length, options);
    if (fault) throw fault;
    return bytes;
  }

  async readInto(kva: number | bigint, target: Uint8Array, options: AsyncReadOptions = {}): Promise<void> {
    if (target.length > BULK && options.pad !== true)
      target.set(await this.read(kva, target.length, options));
    else await this.step(() => this.kvm.readInto(kva, target, options), options);
  }

  async readPartial(kva: number | bigint, length: number, options: Cancellable = {}): Promise<PartialRead> {
    if (!(length > BULK) || !this.core.memory.fileOffsets) {
      return this.step(() => this.kvm.readPartial(kva, length), options);
    }
    this.kvm.checkLength(length);
    const { reader } = this.kvm;
    const found = await this.step(() => {
      const { page, offset } = reader.split(kva);
      const runs = virtualRuns(reader.translator, page, offset, length);
      const bytesDone = runsLength(runs);
      if (bytesDone === length) return { runs };
      const end = offset + bytesDone;
      const progress = { length, bytesDone };
      return {
        runs,
        fault: virtualFault(reader.translator, page + Math.floor(end / 4096), end % 4096, progress),
      };
    }, options);
    const bytes = new Uint8Array(runsLength(found.runs));
    await readRuns(this.store, found.runs, bytes, this.concurrency, options);
    return found.fault ? { bytes, fault: found.fault } : { bytes };
  }

  async readPhysical(
    pa: number | bigint,
    length: number,
    options: Cancellable = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (!(length > BULK) || !this.core.memory.fileOffsets) {
      return this.step(() => this.kvm.readPhysical(pa, length), options);
    }
    this.kvm.checkLength(length);
    const from = checkedNumber(pa, 'pa');
    const runs = await this.step(() => {
      const found = physicalRuns(this.core, from, length);
      const bytesDone = runsLength(found);
      if (bytesDone < length) throw physicalFault(this.core.memory, from + bytesDone, { length, bytesDone });
      return found;
    }, options);
    const bytes = new Uint8Array(length);
    await readRuns(this.store, runs, bytes, this.concurrency, options);
    return bytes;
  }

  readU8(kva: number | bigint, options?: Cancellable): Promise<number> {
    return this.step(() => this.kvm.readU8(kva), options);
  }

  readU16(kva: number | bigint, options?: Cancellable): Promise<number> {
    return this.step(() => this.kvm.readU16(kva), options);
  }

  readU32(kva: number | bigint, options?: Cancellable): Promise<number> {
    return this.step(() => this.kvm.readU32(kva), options);
  }

  readU64(kva: number | bigint, options?: Cancellable): Promise<bigint> {
    return this.step(() => this.kvm.readU64(kva), options);
  }

  readPointer(kva: number | bigint, options?: Cancellable): Promise<bigint> {
    return this.step(() => this.kvm.readPointer(kva), options);
  }

  readCString(kva: number | bigint, maxLength?: number, options?: Cancellable): Promise<string> {
    return this.step(() => this.kvm.readCString(kva, maxLength), options);
  }

  /** The address of a kernel symbol. */
  symbol(name: string, options?: Cancellable): Promise<bigint> {
    return this.step(() => this.kvm.symbol(name), options);
  }

  messageBuffer(options?: Cancellable): Promise<MessageBuffer | undefined> {
    return this.step(() => this.kvm.messageBuffer(), options);
  }

  checkMatch(options?: Cancellable): Promise<MatchReport> {
    return this.step(() => this.kvm.checkMatch(), options);
  }

  pages(range?: WalkRange, options?: Cancellable): AsyncGenerator<PageEntry, void, undefined> {
    const walk = new PageWalk(this.kvm.reader.translator, range);
    return this.drain(walk, options);
  }

  search(
    needle: Uint8Array | string,
    range?: SearchRange,
    options?: Cancellable,
  ): AsyncGenerator<bigint, void, undefined> {
    return this.drain(searchVirtual(this.kvm.reader, needle, range), options);
  }

  searchPhysical(
    needle: Uint8Array | string,
    options?: Cancellable,
  ): AsyncGenerator<number, void, undefined> {
    return this.drain(searchPhysical(this.kvm.reader, needle), options);
  }

  close(): void {
    this.onClose();
  }

  /** Takes a step until neither core nor kernel lack bytes for it. */
  private step<T>(action: () => T, options?: Cancellable): Promise<T> {
    return BlockStore.step(this.kernelStore ? [this.store, this.kernelStore] : [this.store], action, options);
  }

  /** Batches of a cursor, which loses nothing when a step is taken again: what it gave before is kept here. */
  private async *drain<T>(
    cursor: { next(): T | undefined },
    options?: Cancellable,
  ): AsyncGenerator<T, void, undefined> {
    for (let more = true; more;) {
      const batch: T[] = [];
      more = await this.step(() => {
        while (batch.length < BATCH) {
          const item = cursor.next();
          if (item === undefined) return false;
          batch.push(item);
        }
        return true;
      }, options);
      yield* batch;
    }
  }
}

/** What an asynchronous core can be opened from. */
export type AsyncBytes = AsyncByteSource | Blob;

/** A source or a `Blob`, as a source. */
export function toAsyncSource(input: AsyncBytes): AsyncByteSource {
  if (typeof Blob !== 'undefined' && input instanceof Blob) return blobSource(input);
  const source = input as AsyncByteSource;
  if (typeof source?.read === 'function' && Number.isSafeInteger(source.size) && source.size >= 0)
    return source;
  throw new KvmError('INVALID_ARGUMENT', 'a core is given as a Blob or as a source with size and read', {
    hint: 'pass a Blob, a File, httpSource(url) or an AsyncByteSource',
  });
}

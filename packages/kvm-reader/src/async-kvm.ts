import { KvmError } from '@libkvm/minidump-core';
import type { PartialRead, ReadOptions, Resolved } from './answers.js';
import { AsyncBulk, type TakeStep } from './async-bulk.js';
import { blobSource, isBlob, type AsyncByteSource, type Cancellable } from './async-source.js';
import { AsyncSymbols } from './async-symbols.js';
import { takeStep } from './block-steps.js';
import type { BlockStore } from './block-store.js';
import type { MatchReport } from './kernel-match.js';
import type { Kvm } from './kvm.js';
import type { MessageBuffer } from './message-buffer.js';
import type { OpenedCore } from './opened-core.js';
import { PageWalk, type PageEntry, type WalkRange } from './page-walk.js';
import { searchPhysical, searchVirtual, type SearchRange } from './search.js';

/** Longer reads translate first, then fetch all their runs together past the store. */
const BULK = 65536;
/** Rows or matches handed out together, at most. */
const BATCH = 256;

/** Options of an asynchronous read. */
export interface AsyncReadOptions extends ReadOptions, Cancellable {}

/**
 * An opened core, read asynchronously: the methods, answers and errors of {@link Kvm}, each as a promise. Made by
 * `openKvmAsync`. Calls may be made while others are under way. A call that fails, with `IO` or as its source does, or
 * that its signal ends (`ABORTED`), leaves nothing behind: it can be made again.
 *
 * It is the same code: a synchronous step that lacks bytes says which, they are fetched, and the step is taken again.
 */
export class AsyncKvm {
  /** The kernel's symbols; empty when no kernel file and no resolver were given. */
  readonly symbols: AsyncSymbols;
  private readonly bulk: AsyncBulk;
  private readonly step: TakeStep;

  /** @internal */
  constructor(
    private readonly kvm: Kvm,
    private readonly store: BlockStore,
    /** The kernel's bytes, where they are fetched as well. */
    kernelStore: BlockStore | undefined,
    concurrency: number,
    private readonly onClose: () => void,
  ) {
    const stores = kernelStore ? [store, kernelStore] : [store];
    this.step = (action, options) => takeStep(stores, action, options);
    this.symbols = new AsyncSymbols(kvm.symbols, this.step);
    this.bulk = new AsyncBulk(kvm, store, this.step, concurrency);
  }

  /** The two maps and the facts of the file. Its facts can be looked at; its memory cannot be read synchronously. */
  get core(): OpenedCore {
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
    if (this.isLong(length)) return this.bulk.read(kva, length, options);
    return this.step(() => this.kvm.read(kva, length, options), options);
  }

  /** As {@link AsyncKvm.read}, into `target`. Before an error it holds the bytes done; after an abort, any of them. */
  async readInto(kva: number | bigint, target: Uint8Array, options: AsyncReadOptions = {}): Promise<void> {
    if (this.isLong(target.length)) await this.bulk.readInto(kva, target, options);
    else await this.step(() => this.kvm.readInto(kva, target, options), options);
  }

  async readPartial(kva: number | bigint, length: number, options: Cancellable = {}): Promise<PartialRead> {
    if (this.isLong(length)) return this.bulk.readPartial(kva, length, options);
    return this.step(() => this.kvm.readPartial(kva, length), options);
  }

  async readPhysical(
    pa: number | bigint,
    length: number,
    options: Cancellable = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.isLong(length)) return this.step(() => this.kvm.readPhysical(pa, length), options);
    const { bytes, fault } = await this.bulk.readPhysical(pa, length, options);
    if (fault) throw fault;
    return bytes;
  }

  /** Reads as many bytes of physical memory as `target` has into it. */
  async readPhysicalInto(pa: number | bigint, target: Uint8Array, options: Cancellable = {}): Promise<void> {
    if (!this.isLong(target.length)) {
      await this.step(() => this.kvm.readPhysicalInto(pa, target), options);
      return;
    }
    const { bytes, fault } = await this.bulk.readPhysical(pa, target.length, options);
    target.set(bytes);
    if (fault) throw fault;
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
    return this.drain(() => new PageWalk(this.kvm.reader.translator, range), options);
  }

  search(
    needle: Uint8Array | string,
    range?: SearchRange,
    options?: Cancellable,
  ): AsyncGenerator<bigint, void, undefined> {
    return this.drain(() => searchVirtual(this.kvm.reader, needle, range), options);
  }

  searchPhysical(
    needle: Uint8Array | string,
    options?: Cancellable,
  ): AsyncGenerator<number, void, undefined> {
    return this.drain(() => searchPhysical(this.kvm.reader, needle), options);
  }

  /** Lets go of the sources behind core and kernel; reads of what is not at hand may fail from then on. */
  close(): void {
    this.onClose();
  }

  /** Long reads go past the store; not where located offsets are none of the file (compressed pages). */
  private isLong(length: number): boolean {
    return length > BULK && this.core.memory.fileOffsets;
  }

  /**
   * What a cursor gives, in batches. It loses nothing when a step is interrupted, and what it gave before is handed out
   * before more is fetched.
   */
  private async *drain<T>(
    open: () => Cursor<T>,
    options: Cancellable = {},
  ): AsyncGenerator<T, void, undefined> {
    let cursor: Cursor<T> | undefined;
    for (let more = true; more;) {
      const batch: T[] = [];
      // To open a cursor is part of a step: it looks for where to begin.
      const step = (): boolean => fillBatch((cursor ??= open()), batch);
      more = await this.step(step, { ...options, resumes: true });
      yield* batch;
    }
  }
}

/** Gives what it finds one by one, and goes on where it was when a source throws. */
interface Cursor<T> {
  next(): T | undefined;
}

/** Fills a batch; false at the end of the cursor. */
function fillBatch<T>(cursor: Cursor<T>, batch: T[]): boolean {
  try {
    while (batch.length < BATCH) {
      const item = cursor.next();
      if (item === undefined) return false;
      batch.push(item);
    }
  } catch (error) {
    // What is there is handed out first; the next step meets the same again.
    if (batch.length === 0) throw error;
  }
  return true;
}

/** What an asynchronous core can be opened from. */
export type AsyncBytes = AsyncByteSource | Blob;

/** A source or a `Blob`, as a source. */
export function toAsyncSource(input: AsyncBytes): AsyncByteSource {
  if (isBlob(input)) return blobSource(input);
  const source = input;
  if (typeof source?.read === 'function' && Number.isSafeInteger(source.size) && source.size >= 0)
    return source;
  throw new KvmError('INVALID_ARGUMENT', 'a core is given as a Blob or as a source with size and read', {
    hint: 'pass a Blob, a File, httpSource(url) or an AsyncByteSource',
  });
}

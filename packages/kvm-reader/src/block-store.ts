import { KvmError, clampLength, copyBytes, type ByteSource } from '@libkvm/minidump-core';
import { abortedBy, type AsyncByteSource, type Cancellable } from './async-source.js';

/** Bytes fetched at once at least: one round trip costs more than so many bytes. */
const BLOCK = 65536;
/** Needs that follow each other fetch up to so many blocks ahead: 4 MB. */
const MAX_AHEAD = 64;

/** Thrown through a synchronous step that needs blocks which are not there. Never seen by users. */
export const NEEDS_BLOCKS = Symbol('blocks are needed');

/** A block being fetched, and who waits for it. */
interface Fetch {
  readonly done: Promise<void>;
  readonly controller: AbortController;
  waiters: number;
}

/**
 * The bridge from asynchronous bytes to the synchronous heart: a source that answers from a bounded store of blocks and,
 * where one is missing, says which and throws {@link NEEDS_BLOCKS}. {@link BlockStore.step} fetches them and takes the
 * step again.
 */
export class BlockStore implements ByteSource {
  readonly size: number;
  /** Requests made and bytes fetched so far. */
  readonly fetched = { requests: 0, bytes: 0 };
  /** Blocks by number, the one used longest ago first. */
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly fetching = new Map<number, Fetch>();
  private readonly pins = new Map<number, number>();
  private readonly capacity: number;
  /** What the step under way asked for: the first missing block and how many. */
  private needFirst = -1;
  private needCount = 0;
  private used: Set<number> | undefined;
  private nextExpected = -1;
  private ahead = 1;

  /** @param storeBytes upper bound of the blocks kept, but for those that the steps under way need */
  constructor(
    private readonly source: AsyncByteSource,
    storeBytes: number,
  ) {
    this.size = source.size;
    this.capacity = Math.max(4, Math.floor(storeBytes / BLOCK));
  }

  /** Copies bytes that are there; otherwise notes the blocks that are missing and throws {@link NEEDS_BLOCKS}. */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    if (wanted === 0) return 0;
    const first = Math.floor(offset / BLOCK);
    const last = Math.floor((offset + wanted - 1) / BLOCK);
    for (let block = first; block <= last; block++) {
      this.used?.add(block);
      if (!this.blocks.has(block)) this.need(block, last - block + 1);
    }
    let done = 0;
    for (let block = first; block <= last; block++) {
      const bytes = this.touch(block);
      const from = offset + done - block * BLOCK;
      const count = Math.min(wanted - done, bytes.length - from);
      copyBytes(bytes, from, target, at + done, count);
      done += count;
    }
    return done;
  }

  /**
   * Takes a synchronous step until it no longer lacks blocks of any of the stores that it reads. What it read before stays
   * there until it ends, so it comes further each time.
   *
   * @throws KvmError `ABORTED`, `IO`; what the step throws
   */
  static async step<T>(
    stores: readonly BlockStore[],
    action: () => T,
    { signal }: Cancellable = {},
  ): Promise<T> {
    const pins = stores.map(() => new Set<number>());
    try {
      for (;;) {
        if (signal?.aborted === true) throw abortedBy(signal);
        const taken = attempt(stores, action, pins);
        if ('value' in taken) return taken.value;
        await taken.lacking.fetch(pins[stores.indexOf(taken.lacking)], signal);
      }
    } finally {
      stores.forEach((store, i) => store.release(pins[i]));
    }
  }

  /** Reads a run past the store, in one request; for bulk reads. Blocks that are there are not fetched again. */
  async readThrough(offset: number, target: Uint8Array, options: Cancellable = {}): Promise<void> {
    if (this.holds(offset, target.length)) {
      this.readSync(offset, target, 0, target.length);
      return;
    }
    target.set(await this.request(offset, target.length, options.signal));
  }

  /** Whether a run can be read without fetching. */
  private holds(offset: number, length: number): boolean {
    for (let block = Math.floor(offset / BLOCK); block * BLOCK < offset + length; block++) {
      if (!this.blocks.has(block)) return false;
    }
    return true;
  }

  /** @internal Notes what the step that follows reads. */
  begin(): void {
    this.used = new Set();
    this.needFirst = -1;
  }

  /** @internal Pins what the step read, and says whether it lacked something. */
  end(pinned: Set<number>): boolean {
    for (const block of this.used ?? []) this.pin(block, pinned);
    this.used = undefined;
    return this.needFirst >= 0;
  }

  /** @internal */
  release(pinned: ReadonlySet<number>): void {
    for (const block of pinned) this.unpin(block);
    this.evict();
  }

  private need(block: number, count: number): never {
    this.needFirst = block;
    this.needCount = count;
    // A signal, not a failure: an error object with its stack would cost more than the step.
    // eslint-disable-next-line @typescript-eslint/only-throw-error
    throw NEEDS_BLOCKS;
  }

  /** Fetches missing blocks, and more behind them when the needs of late have followed each other. */
  private async fetch(pinned: Set<number>, signal?: AbortSignal): Promise<void> {
    const { needFirst: first, needCount: count } = this;
    this.ahead = first === this.nextExpected ? Math.min(this.ahead * 2, MAX_AHEAD) : 1;
    const wanted = Math.min(Math.max(count, this.ahead), Math.ceil(this.size / BLOCK) - first);
    this.nextExpected = first + wanted;
    for (let i = 0; i < count; i++) this.pin(first + i, pinned);
    const waits: Fetch[] = [];
    for (let block = first; block < first + wanted;) {
      const end = this.missingRun(block, first + wanted);
      if (end > block) this.start(block, end - block);
      const pending = this.fetching.get(block);
      if (pending && (block < first + count || end > block)) waits.push(pending);
      block = Math.max(end, block + 1);
    }
    await this.waitFor(waits, signal);
  }

  /** The end of the run of blocks from `block` on that are neither there nor on their way. */
  private missingRun(block: number, limit: number): number {
    let end = block;
    while (end < limit && !this.blocks.has(end) && !this.fetching.has(end)) end++;
    return end;
  }

  /** Starts one request for a run of blocks. */
  private start(first: number, count: number): void {
    const controller = new AbortController();
    const offset = first * BLOCK;
    const length = Math.min(count * BLOCK, this.size - offset);
    const done = this.request(offset, length, controller.signal)
      .then((bytes) => {
        for (let i = 0; i < count; i++) this.blocks.set(first + i, bytes.slice(i * BLOCK, (i + 1) * BLOCK));
      })
      .finally(() => {
        for (let i = 0; i < count; i++) this.fetching.delete(first + i);
      });
    done.catch(() => undefined);
    const fetch: Fetch = { done, controller, waiters: 0 };
    for (let i = 0; i < count; i++) this.fetching.set(first + i, fetch);
  }

  /** Waits for requests. One that nobody waits for any more is cancelled. */
  private async waitFor(waits: readonly Fetch[], signal: AbortSignal | undefined): Promise<void> {
    const fetches = [...new Set(waits)];
    for (const fetch of fetches) fetch.waiters++;
    try {
      const all = Promise.all(fetches.map(({ done }) => done));
      await (signal ? Promise.race([all, whenAborted(signal, all)]) : all);
    } finally {
      for (const fetch of fetches) if (--fetch.waiters === 0) fetch.controller.abort();
    }
  }

  /** One request, with what came back checked. */
  private async request(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted === true) throw abortedBy(signal);
    this.fetched.requests++;
    const bytes = await this.source.read(offset, length, signal ? { signal } : {});
    this.fetched.bytes += bytes.length;
    if (bytes.length === length) return bytes;
    throw new KvmError('IO', `the source gave ${bytes.length} of ${length} bytes at offset ${offset}`, {
      offset,
      length,
      hint: 'the file changed while it was read; open it again',
    });
  }

  private touch(block: number): Uint8Array {
    const bytes = this.blocks.get(block)!;
    this.blocks.delete(block);
    this.blocks.set(block, bytes);
    return bytes;
  }

  private pin(block: number, pinned: Set<number>): void {
    if (pinned.has(block)) return;
    pinned.add(block);
    this.pins.set(block, (this.pins.get(block) ?? 0) + 1);
  }

  private unpin(block: number): void {
    const count = (this.pins.get(block) ?? 1) - 1;
    if (count === 0) this.pins.delete(block);
    else this.pins.set(block, count);
  }

  private evict(): void {
    if (this.blocks.size <= this.capacity) return;
    for (const block of this.blocks.keys()) {
      if (this.pins.has(block)) continue;
      this.blocks.delete(block);
      if (this.blocks.size <= this.capacity) return;
    }
  }
}

type Taken<T> = { readonly value: T } | { readonly lacking: BlockStore };

function attempt<T>(stores: readonly BlockStore[], action: () => T, pins: readonly Set<number>[]): Taken<T> {
  for (const store of stores) store.begin();
  let taken: Taken<T> | undefined;
  try {
    taken = { value: action() };
  } catch (error) {
    if (error !== NEEDS_BLOCKS) throw error;
  } finally {
    stores.forEach((store, i) => {
      if (store.end(pins[i])) taken ??= { lacking: store };
    });
  }
  return taken!;
}

/** Rejects when the signal is raised; forgets about it when `until` is settled. */
function whenAborted(signal: AbortSignal, until: Promise<unknown>): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = (): void => reject(abortedBy(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    const forget = (): void => signal.removeEventListener('abort', onAbort);
    until.then(forget, forget);
  });
}

import { KvmError, clampLength, copyBytes, type ByteSource } from '@libkvm/minidump-core';
import type { AsyncByteSource } from './async-source.js';
import { CheckedSource, untilAborted } from './checked-source.js';

/** Bytes fetched at once at least, unless told otherwise: one round trip costs more than so many bytes. */
export const BLOCK_BYTES = 65536;
/** Needs that follow each other fetch up to so many bytes ahead. */
const MAX_AHEAD = 4 * 1024 * 1024;
/** However small the store, so many blocks have room in it. */
const MIN_BLOCKS = 4;

/** Thrown through a synchronous step that needs blocks which are not there. Never seen by users. */
export const NEEDS_BLOCKS = Symbol('blocks are needed');

/** Blocks being fetched in one request, and who waits for them. */
interface Fetch {
  readonly done: Promise<void>;
  readonly controller: AbortController;
  readonly first: number;
  readonly count: number;
  waiters: number;
}

/**
 * The bridge from asynchronous bytes to the synchronous heart: a source that answers from a bounded store of blocks and,
 * where one is missing, says which and throws {@link NEEDS_BLOCKS}. `takeStep` fetches them and takes the step again.
 */
export class BlockStore implements ByteSource {
  readonly size: number;
  private readonly source: CheckedSource;
  /** Blocks by number, the one used longest ago first. */
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly fetching = new Map<number, Fetch>();
  private readonly pins = new Map<number, number>();
  private readonly capacity: number;
  /** Blocks that may be fetched ahead: what is fetched must not push itself out again. */
  private readonly maxAhead: number;
  /** What the step under way asked for: the first missing block and how many; -1 for none. */
  private needFirst = -1;
  private needCount = 0;
  private used: Set<number> | undefined;
  private nextExpected = -1;
  private ahead = 1;

  /**
   * @param storeBytes upper bound of the blocks kept, but for those that the steps under way need
   * @param block bytes of a block
   */
  constructor(
    source: AsyncByteSource,
    storeBytes: number,
    private readonly block: number = BLOCK_BYTES,
  ) {
    checkBlock(block);
    this.source = new CheckedSource(source);
    this.size = source.size;
    this.capacity = Math.max(MIN_BLOCKS, Math.floor(storeBytes / block));
    this.maxAhead = Math.min(Math.ceil(MAX_AHEAD / block), Math.ceil(this.capacity / 2));
  }

  /** Requests made and bytes fetched so far. */
  get fetched(): Readonly<{ requests: number; bytes: number }> {
    return this.source.fetched;
  }

  /** Copies bytes that are there; otherwise notes the blocks that are missing and throws {@link NEEDS_BLOCKS}. */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    if (wanted === 0) return 0;
    const first = Math.floor(offset / this.block);
    const last = Math.floor((offset + wanted - 1) / this.block);
    for (let block = first; block <= last; block++) {
      this.used?.add(block);
      if (!this.blocks.has(block)) this.need(block, last - block + 1);
    }
    let done = 0;
    for (let block = first; block <= last; block++) {
      const bytes = this.touch(block);
      const from = offset + done - block * this.block;
      const count = Math.min(wanted - done, bytes.length - from);
      copyBytes(bytes, from, target, at + done, count);
      done += count;
    }
    return done;
  }

  /** Reads a run past the store, in one request; for bulk reads. Blocks that are there are not fetched again. */
  async readThrough(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.holds(offset, target.length)) this.readSync(offset, target, 0, target.length);
    else target.set(await this.source.read(offset, target.length, signal));
  }

  /** Notes what the step that follows reads. */
  begin(): void {
    this.used = new Set();
    this.needFirst = -1;
  }

  /** Pins what the step read; says whether it lacked something. */
  end(pinned: Set<number>): boolean {
    for (const block of this.used ?? []) this.pin(block, pinned);
    this.used = undefined;
    return this.needFirst >= 0;
  }

  /** Lets go of what was pinned. */
  release(pinned: ReadonlySet<number>): void {
    for (const block of pinned) this.unpin(block);
    this.evict();
  }

  /** Fetches the blocks that the last step lacked, and more behind them when the needs of late have followed each other. */
  async fetchNeeded(pinned: Set<number>, signal?: AbortSignal): Promise<void> {
    const { needFirst: first, needCount: count } = this;
    this.ahead = first === this.nextExpected ? Math.min(this.ahead * 2, this.maxAhead) : 1;
    const wanted = Math.min(Math.max(count, this.ahead), Math.ceil(this.size / this.block) - first);
    this.nextExpected = first + wanted;
    for (let i = 0; i < count; i++) this.pin(first + i, pinned);
    const waits = new Set<Fetch>();
    for (let block = first; block < first + wanted;) {
      const end = this.missingRun(block, first + wanted);
      const started = end > block ? this.start(block, end - block) : undefined;
      const fetch = started ?? (block < first + count ? this.fetching.get(block) : undefined);
      if (fetch) waits.add(fetch);
      block = Math.max(end, block + 1);
    }
    await this.waitFor([...waits], signal);
  }

  /** Whether a run can be read without fetching. */
  private holds(offset: number, length: number): boolean {
    for (let block = Math.floor(offset / this.block); block * this.block < offset + length; block++) {
      if (!this.blocks.has(block)) return false;
    }
    return true;
  }

  private need(block: number, count: number): never {
    this.needFirst = block;
    this.needCount = count;
    // A signal, not a failure: an error object with its stack would cost more than the step.
    // eslint-disable-next-line @typescript-eslint/only-throw-error
    throw NEEDS_BLOCKS;
  }

  /** The end of the run of blocks from `block` on that are neither there nor on their way. */
  private missingRun(block: number, limit: number): number {
    let end = block;
    while (end < limit && !this.blocks.has(end) && !this.fetching.has(end)) end++;
    return end;
  }

  /** Starts one request for a run of blocks. */
  private start(first: number, count: number): Fetch {
    const controller = new AbortController();
    const offset = first * this.block;
    const length = Math.min(count * this.block, this.size - offset);
    const done = this.source
      .read(offset, length, controller.signal)
      .then((bytes) => {
        for (let i = 0; i < count; i++) {
          this.blocks.set(first + i, bytes.slice(i * this.block, (i + 1) * this.block));
        }
      })
      .finally(() => this.forget(fetch));
    done.catch(() => undefined);
    const fetch: Fetch = { done, controller, first, count, waiters: 0 };
    for (let i = 0; i < count; i++) this.fetching.set(first + i, fetch);
    return fetch;
  }

  private forget(fetch: Fetch): void {
    for (let i = 0; i < fetch.count; i++) {
      if (this.fetching.get(fetch.first + i) === fetch) this.fetching.delete(fetch.first + i);
    }
  }

  /** Waits for requests. One that nobody waits for any more is cancelled, and forgotten: others ask anew. */
  private async waitFor(fetches: readonly Fetch[], signal: AbortSignal | undefined): Promise<void> {
    for (const fetch of fetches) fetch.waiters++;
    try {
      await untilAborted(Promise.all(fetches.map(({ done }) => done)), signal);
    } finally {
      for (const fetch of fetches) {
        if (--fetch.waiters > 0) continue;
        this.forget(fetch);
        fetch.controller.abort();
      }
    }
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

function checkBlock(block: number): void {
  if (Number.isInteger(block) && block >= 512 && block <= MAX_AHEAD) return;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `blockBytes is an integer from 512 to ${MAX_AHEAD}, not ${String(block)}`,
    { field: 'blockBytes', hint: `it is the least that one request asks for; ${BLOCK_BYTES} unless given` },
  );
}

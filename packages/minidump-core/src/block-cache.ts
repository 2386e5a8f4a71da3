import { clampLength, MemorySource, type ByteSource } from './byte-source.js';
import { KvmError } from './errors.js';

const BLOCK = 4096;
const WAYS = 4;
/** Blocks read at once when misses follow each other in the file: 64 KB, aligned. */
const READ_AHEAD = 16;

/** Bytes of file that a cache holds unless told otherwise: 32 MB. */
export const DEFAULT_CACHE_BYTES = 32 * 1024 * 1024;

/**
 * A bounded cache of 4 KB blocks over a source: 4-way set associative, in one flat buffer, nothing allocated per access.
 * Sequential misses read ahead. A source in memory is used in place, without a copy.
 *
 * Usage on the hot path: `const at = cache.position(offset)` brings the block of that byte into {@link BlockCache.bytes}
 * and says where; the bytes up to the next multiple of 4096 follow it. The position holds until the next call.
 *
 * The source may throw in the middle of any call (a source that is fetched asynchronously does, to ask for blocks): a
 * block is forgotten before its place is overwritten and entered only when its bytes are there.
 */
export class BlockCache implements ByteSource {
  readonly size: number;
  /** The cached bytes; index it with {@link BlockCache.position}. */
  readonly bytes: Uint8Array;
  /** The same memory, for words. */
  readonly view: DataView;
  /** Low and high half of the word that {@link BlockCache.load64} read. */
  low = 0;
  high = 0;

  private readonly direct: boolean;
  private readonly sets: number;
  private readonly tags: Float64Array;
  private readonly victims: Uint8Array;
  private readonly small = new Uint8Array(8);
  private readonly smallView = new DataView(this.small.buffer);
  private lastBlock = -1;
  private lastAt = 0;
  private lastMiss = -2;

  /**
   * @param source what to read
   * @param cacheBytes upper bound of the memory held, rounded down to a power of two of at least 256 KB
   */
  constructor(
    readonly source: ByteSource,
    cacheBytes: number = DEFAULT_CACHE_BYTES,
  ) {
    if (!(cacheBytes >= 0) || cacheBytes > 2 ** 31) {
      throw new KvmError('INVALID_ARGUMENT', `cacheBytes must be between 0 and 2^31, not ${cacheBytes}`, {
        field: 'cacheBytes',
      });
    }
    this.size = source.size;
    this.direct = source instanceof MemorySource;
    this.sets = this.direct ? 0 : setsFor(cacheBytes, source.size);
    this.tags = new Float64Array(this.sets * WAYS).fill(-1);
    this.victims = new Uint8Array(this.sets);
    this.bytes = source instanceof MemorySource ? source.bytes : new Uint8Array(this.sets * WAYS * BLOCK);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
  }

  /** Index in {@link BlockCache.bytes} of the byte at file offset `offset`, which must lie in `[0, size)`. */
  position(offset: number): number {
    if (this.direct) return offset;
    const block = Math.floor(offset / BLOCK);
    const inBlock = offset - block * BLOCK;
    if (block === this.lastBlock) return this.lastAt + inBlock;
    const set = block & (this.sets - 1);
    const tags = this.tags;
    const base = set * WAYS;
    let way = 0;
    while (way < WAYS && tags[base + way] !== block) way++;
    if (way === WAYS) way = this.fill(block, set);
    this.lastBlock = block;
    this.lastAt = (way * this.sets + set) * BLOCK;
    return this.lastAt + inBlock;
  }

  /** Bytes that lie behind {@link BlockCache.position} of `offset` without another call: at most to the block's end. */
  available(offset: number): number {
    return this.direct ? this.size - offset : Math.min(BLOCK - (offset & (BLOCK - 1)), this.size - offset);
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    let done = 0;
    while (done < wanted) {
      const from = this.position(offset + done);
      const count = Math.min(wanted - done, this.available(offset + done));
      copyBytes(this.bytes, from, target, at + done, count);
      done += count;
    }
    return done;
  }

  /** Reads past the cache, for long runs that would only push other blocks out. `length` bytes must be there. */
  readThrough(offset: number, target: Uint8Array, at: number, length: number): void {
    checkRead(offset, length, this.source.readSync(offset, target, at, length));
  }

  /** The 32-bit word at `offset` (unsigned), or -1 where the source ends before its last byte. */
  load32(offset: number, little: boolean): number {
    if (offset < 0 || offset + 4 > this.size) return -1;
    if (this.direct || (offset & (BLOCK - 1)) <= BLOCK - 4) {
      return this.view.getUint32(this.position(offset), little);
    }
    this.readSync(offset, this.small, 0, 4);
    return this.smallView.getUint32(0, little);
  }

  /** Loads the 64-bit word at `offset` into {@link BlockCache.low} and `high`; false where the source ends before it. */
  load64(offset: number, little: boolean): boolean {
    if (offset < 0 || offset + 8 > this.size) return false;
    let view = this.view;
    let at = 0;
    if (this.direct || (offset & (BLOCK - 1)) <= BLOCK - 8) at = this.position(offset);
    else {
      this.readSync(offset, this.small, 0, 8);
      view = this.smallView;
    }
    this.low = view.getUint32(little ? at : at + 4, little);
    this.high = view.getUint32(little ? at + 4 : at, little);
    return true;
  }

  /** Reads a block, or an aligned group of blocks when the misses are sequential; returns its way. */
  private fill(block: number, set: number): number {
    const sequential = block === this.lastMiss + 1;
    const count = sequential ? READ_AHEAD - (block % READ_AHEAD) : 1;
    const way = this.victims[set];
    const slot = way * this.sets + set;
    for (let i = 0; i < count; i++) this.tags[(set + i) * WAYS + way] = -1;
    this.lastBlock = -1;
    const wanted = clampLength(this.size, block * BLOCK, count * BLOCK);
    checkRead(block * BLOCK, wanted, this.source.readSync(block * BLOCK, this.bytes, slot * BLOCK, wanted));
    const filled = Math.ceil(wanted / BLOCK);
    for (let i = 0; i < filled; i++) {
      this.tags[(set + i) * WAYS + way] = block + i;
      this.victims[set + i] = (way + 1) % WAYS;
    }
    this.lastMiss = block + filled - 1;
    return way;
  }
}

/** Copies a few bytes one by one, more in one go; neither allocates for up to 32 bytes. */
export function copyBytes(from: Uint8Array, start: number, to: Uint8Array, at: number, length: number): void {
  if (length <= 32) for (let i = 0; i < length; i++) to[at + i] = from[start + i];
  else to.set(from.subarray(start, start + length), at);
}

function checkRead(offset: number, wanted: number, got: number): void {
  if (got >= wanted) return;
  throw new KvmError('IO', `the source gave ${got} of ${wanted} bytes at offset ${offset}`, {
    offset,
    length: wanted,
    hint: 'the file changed while it was read; open it again',
  });
}

/** Sets (a power of two, a multiple of the read-ahead) that hold the whole source, or whose blocks fit in so many bytes. */
function setsFor(bytes: number, size: number): number {
  let sets = READ_AHEAD;
  while (sets * WAYS * BLOCK < size && sets * 2 * WAYS * BLOCK <= bytes) sets *= 2;
  return sets;
}

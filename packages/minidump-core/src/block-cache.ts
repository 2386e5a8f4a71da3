import { clampLength, MemorySource, type ByteSource } from './byte-source.js';
import { KvmError } from './errors.js';

const BLOCK = 4096;
/** Blocks read at once when misses follow each other in the file: 64 KB, aligned. */
const READ_AHEAD = 16;
/** Blocks of the smallest cache: 256 KB. */
const MIN_SLOTS = 64;
/** Blocks that a cache starts with: 1 MB. Most uses of a core need no more, and opening one stays cheap. */
const FIRST_SLOTS = 256;

/**
 * A cache that has been full is asked for more than fits, so most of what it reads goes unused before it has to give way;
 * and writing that all over 32 MB takes half as long again as reading it into memory that the processor has at hand.
 * From then on one read in eight gets slots among those that stay long, and the others take turns in a 64th of all.
 */
const KEEP_ONE_OF = 8;
const PASSING_SHARE = 64;

/** Bytes of file that a cache holds unless told otherwise: 32 MB. */
export const DEFAULT_CACHE_BYTES = 32 * 1024 * 1024;

/**
 * A bounded cache of 4 KB blocks over a source, in one flat buffer, nothing allocated per access: blocks go to slots in
 * the order in which they are read, the oldest ones give way. Sequential misses read ahead. A source in memory is used
 * in place, without a copy.
 *
 * Usage on the hot path: `const at = cache.position(offset)` brings the block of that byte into {@link BlockCache.bytes}
 * and says where; the bytes up to the next multiple of 4096 follow it. The position holds until the next call, and so
 * does the array: look at `bytes` and `view` after the call.
 *
 * The source may throw in the middle of any call (a source that is fetched asynchronously does, to ask for blocks): a
 * block is forgotten before its place is overwritten and entered only when its bytes are there.
 */
export class BlockCache implements ByteSource {
  readonly size: number;
  /** Low and high half of the word that {@link BlockCache.load64} read. */
  low = 0;
  high = 0;

  private readonly direct: boolean;
  private readonly maxSlots: number;
  private buffer: Uint8Array;
  private words: DataView;
  /** The block in each slot, or -1. */
  private blocks = new Float64Array(0);
  /**
   * Where a block may be, by its low bits: a guess that `blocks` confirms. One comparison finds it, where looking
   * through the ways of a set mispredicts a branch; with four entries a slot, few blocks push each other out of it.
   */
  private index = new Int32Array(1);
  private indexMask = 0;
  /** Slots `[0, passing)` are for blocks that pass through, as soon as the cache is full. */
  private readonly passing: number;
  private nextPassing = 0;
  private nextKept = 0;
  private full = false;
  private fills = 0;
  private lastMiss = -2;
  private readonly small = new Uint8Array(8);
  private readonly smallView = new DataView(this.small.buffer);

  /**
   * @param source what to read
   * @param cacheBytes upper bound of the memory held, at least 256 KB; it is taken when it is needed
   */
  constructor(
    readonly source: ByteSource,
    cacheBytes: number = DEFAULT_CACHE_BYTES,
  ) {
    checkCacheBytes(cacheBytes);
    this.size = source.size;
    this.direct = source instanceof MemorySource;
    this.buffer = source instanceof MemorySource ? source.bytes : new Uint8Array(0);
    this.words = viewOf(this.buffer);
    this.maxSlots = slotsFor(cacheBytes, source.size);
    this.passing = Math.floor(this.maxSlots / PASSING_SHARE / READ_AHEAD) * READ_AHEAD;
    if (!this.direct) this.resize(Math.min(FIRST_SLOTS, this.maxSlots));
  }

  /** The cached bytes; index them with {@link BlockCache.position}. */
  get bytes(): Uint8Array {
    return this.buffer;
  }

  /** The same memory, for words. */
  get view(): DataView {
    return this.words;
  }

  /** Index in {@link BlockCache.bytes} of the byte at file offset `offset`, which must lie in `[0, size)`. */
  position(offset: number): number {
    if (this.direct) return offset;
    const block = Math.floor(offset / BLOCK);
    let slot = this.index[block & this.indexMask];
    if (this.blocks[slot] !== block) slot = this.fill(block);
    return slot * BLOCK + (offset - block * BLOCK);
  }

  /** Bytes that lie behind {@link BlockCache.position} of `offset` without another call: at most to the block's end. */
  available(offset: number): number {
    return this.direct ? this.size - offset : Math.min(BLOCK - (offset & (BLOCK - 1)), this.size - offset);
  }

  /** Reads through the cache, but for more than 64 KB, which would push too much out of it. */
  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const wanted = clampLength(this.size, offset, length);
    if (wanted > READ_AHEAD * BLOCK) {
      this.readThrough(offset, target, at, wanted);
      return wanted;
    }
    let done = 0;
    while (done < wanted) {
      const from = this.position(offset + done);
      const count = Math.min(wanted - done, this.available(offset + done));
      copyBytes(this.buffer, from, target, at + done, count);
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
      const at = this.position(offset);
      return this.words.getUint32(at, little);
    }
    this.readSync(offset, this.small, 0, 4);
    return this.smallView.getUint32(0, little);
  }

  /** Loads the 64-bit word at `offset` into {@link BlockCache.low} and `high`; false where the source ends before it. */
  load64(offset: number, little: boolean): boolean {
    if (offset < 0 || offset + 8 > this.size) return false;
    let at = 0;
    let view: DataView = this.smallView;
    if (this.direct || (offset & (BLOCK - 1)) <= BLOCK - 8) {
      at = this.position(offset);
      view = this.words;
    } else {
      this.readSync(offset, this.small, 0, 8);
    }
    this.low = view.getUint32(little ? at : at + 4, little);
    this.high = view.getUint32(little ? at + 4 : at, little);
    return true;
  }

  /** Reads a block, and those behind it in its aligned group when the misses are sequential; returns its slot. */
  private fill(block: number): number {
    const end = block === this.lastMiss + 1 ? block + READ_AHEAD - (block % READ_AHEAD) : block + 1;
    let count = 1;
    while (block + count < end && !this.holds(block + count)) count++;
    const passing = this.full && this.fills % KEEP_ONE_OF !== 0;
    const slot = passing ? this.passingSlots(count) : this.keptSlots(count);
    for (let i = 0; i < count; i++) this.blocks[slot + i] = -1;
    const wanted = clampLength(this.size, block * BLOCK, count * BLOCK);
    checkRead(block * BLOCK, wanted, this.source.readSync(block * BLOCK, this.buffer, slot * BLOCK, wanted));
    const filled = Math.ceil(wanted / BLOCK);
    for (let i = 0; i < filled; i++) {
      this.blocks[slot + i] = block + i;
      this.index[(block + i) & this.indexMask] = slot + i;
    }
    if (passing) this.nextPassing = slot + filled;
    else this.nextKept = slot + filled;
    this.fills++;
    this.lastMiss = block + filled - 1;
    return slot;
  }

  private holds(block: number): boolean {
    return this.blocks[this.index[block & this.indexMask]] === block;
  }

  /** The first of `count` slots in a row for blocks that pass through. */
  private passingSlots(count: number): number {
    return this.nextPassing + count <= this.passing ? this.nextPassing : 0;
  }

  /** The first of `count` slots in a row for blocks that stay: new ones, or the oldest. */
  private keptSlots(count: number): number {
    if (this.nextKept + count <= this.blocks.length) return this.nextKept;
    if (this.blocks.length < this.maxSlots) {
      this.resize(this.maxSlots);
      return this.nextKept;
    }
    this.full = this.passing > 0;
    return this.passing;
  }

  /** Takes memory for so many slots. What is cached keeps its place. */
  private resize(slots: number): void {
    const buffer = new Uint8Array(slots * BLOCK);
    const blocks = new Float64Array(slots).fill(-1);
    const index = new Int32Array(2 ** Math.ceil(Math.log2(slots * 4)));
    buffer.set(this.buffer);
    blocks.set(this.blocks);
    this.blocks.forEach((block, slot) => (index[block & (index.length - 1)] = slot));
    this.buffer = buffer;
    this.words = viewOf(buffer);
    this.blocks = blocks;
    this.index = index;
    this.indexMask = index.length - 1;
  }
}

/**
 * Checks a size of cache.
 *
 * @throws KvmError `INVALID_ARGUMENT` for what is not between 0 and 2^31
 */
export function checkCacheBytes(cacheBytes: number): void {
  if (cacheBytes >= 0 && cacheBytes <= 2 ** 31) return;
  throw new KvmError('INVALID_ARGUMENT', `cacheBytes must be between 0 and 2^31, not ${String(cacheBytes)}`, {
    field: 'cacheBytes',
    hint: 'it is a number of bytes; 32 MB unless given',
  });
}

/** Copies a few bytes one by one, more in one go; neither allocates for up to 32 bytes. */
export function copyBytes(from: Uint8Array, start: number, to: Uint8Array, at: number, length: number): void {
  if (length <= 32) for (let i = 0; i < length; i++) to[at + i] = from[start + i];
  else to.set(from.subarray(start, start + length), at);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Slots that hold the whole source, or as many as fit in so many bytes; a multiple of the read-ahead. */
function slotsFor(bytes: number, size: number): number {
  const groups = Math.min(Math.ceil(size / BLOCK / READ_AHEAD), Math.floor(bytes / BLOCK / READ_AHEAD));
  return Math.max(MIN_SLOTS, groups * READ_AHEAD);
}

function checkRead(offset: number, wanted: number, got: number): void {
  if (got >= wanted) return;
  throw new KvmError('IO', `the source gave ${got} of ${wanted} bytes at offset ${offset}`, {
    offset,
    length: wanted,
    hint: 'the file changed while it was read; open it again',
  });
}

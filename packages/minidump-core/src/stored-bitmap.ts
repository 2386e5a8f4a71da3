import type { ByteSource } from './byte-source.js';
import { KvmError } from './errors.js';

/**
 * How a kernel stores bit N of its page bitmap. `little`: bit N & 7 of byte N >> 3, whatever the word size.
 * `big32`, `big64`: counted from the least significant end of big-endian words of 32 or 64 bits.
 */
export type BitOrder = 'little' | 'big32' | 'big64';

const WORD_BYTES: Readonly<Record<BitOrder, number>> = { little: 1, big32: 4, big64: 8 };
const CHUNK_BYTES = 4096;
const CHUNK_BITS = CHUNK_BYTES * 8;
const CHUNK_WORDS = CHUNK_BYTES / 4;
/** At most 256 chunks (1 MB of bitmap, 1.5 MB with its counts) stay in memory; others are read again when needed. */
const MAX_RESIDENT = 256;
const SCAN_BYTES = 64 * CHUNK_BYTES;
const HOST_LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * The page bitmap of a core, read on demand: membership and rank in constant time, in bounded memory however much
 * physical memory the machine had.
 *
 * One pass over the bits of pages when it is opened counts the set bits before each chunk of 4 KB; a chunk in memory also
 * has the counts before each of its words.
 */
export class StoredBitmap {
  /** Set bits in all. */
  readonly count: number;
  /**
   * Set bits behind the last page, which mean nothing; 0 in a sound file. Padding is counted in the first 256 KB behind
   * the bits of pages only: kernels have less than a page of it, and a damaged size may claim gigabytes.
   */
  readonly paddingCount: number;
  /** Whether all of the padding was counted. */
  readonly paddingCounted: boolean;
  private readonly chunkRank: Float64Array;
  private readonly slotMask: number;
  private readonly slotChunk: Float64Array;
  private readonly words: Uint32Array;
  private readonly wordRank: Uint16Array;
  private readonly scratch = new Uint8Array(CHUNK_BYTES);

  /**
   * @param section the bitmap's bytes
   * @param bits how many of its bits stand for pages
   * @throws KvmError `CORRUPT` when the section is too short for that many bits; this and every look-up, `IO` when it
   *   gives less than it has
   */
  constructor(
    private readonly section: ByteSource,
    readonly bits: number,
    private readonly order: BitOrder,
  ) {
    // Half a big-endian word holds the high bits of it, not the low ones: only whole words count.
    const stored = (section.size - (section.size % WORD_BYTES[order])) * 8;
    if (bits > stored) {
      throw new KvmError('CORRUPT', `the page bitmap has ${stored} bits for ${bits} pages`, {
        field: 'bitmapsize',
        hint: 'the physical ranges and the bitmap contradict each other; the header is damaged',
      });
    }
    const chunks = Math.ceil(bits / CHUNK_BITS);
    let slots = 1;
    while (slots < chunks && slots < MAX_RESIDENT) slots *= 2;
    this.slotMask = slots - 1;
    this.slotChunk = new Float64Array(slots).fill(-1);
    this.words = new Uint32Array(slots * CHUNK_WORDS);
    this.wordRank = new Uint16Array(slots * CHUNK_WORDS);
    this.chunkRank = new Float64Array(chunks + 1);
    const counted = Math.min(section.size, chunks * CHUNK_BYTES + SCAN_BYTES);
    const total = this.countAll(chunks, counted);
    this.count = this.chunkRank[chunks];
    this.paddingCount = total - this.count;
    this.paddingCounted = counted === section.size;
  }

  /** Whether the bit is set; false outside `[0, bits)`. */
  has(bit: number): boolean {
    return this.rankIfSet(bit) >= 0;
  }

  /** The number of set bits below `bit` when `bit` itself is set, otherwise -1. */
  rankIfSet(bit: number): number {
    if (!(bit >= 0 && bit < this.bits)) return -1;
    const chunk = Math.floor(bit / CHUNK_BITS);
    const inChunk = bit - chunk * CHUNK_BITS;
    const index = this.slotOf(chunk) * CHUNK_WORDS + (inChunk >>> 5);
    const word = this.words[index];
    const mask = 1 << (inChunk & 31);
    if ((word & mask) === 0) return -1;
    return this.chunkRank[chunk] + this.wordRank[index] + popcount(word & (mask - 1));
  }

  /** The number of set bits below `bit`, for any bit in `[0, bits]`. */
  rank(bit: number): number {
    if (bit >= this.bits) return this.count;
    const chunk = Math.floor(bit / CHUNK_BITS);
    const inChunk = bit - chunk * CHUNK_BITS;
    const index = this.slotOf(chunk) * CHUNK_WORDS + (inChunk >>> 5);
    const below = this.words[index] & ((1 << (inChunk & 31)) - 1);
    return this.chunkRank[chunk] + this.wordRank[index] + popcount(below);
  }

  /** The first set bit at or above `from` and below `limit`, or `limit`. */
  nextSet(from: number, limit: number): number {
    return this.next(from, Math.min(limit, this.bits), 0) ?? limit;
  }

  /** The first clear bit at or above `from` and below `limit`, or `limit`. */
  nextClear(from: number, limit: number): number {
    return this.next(from, Math.min(limit, this.bits), -1) ?? Math.min(limit, Math.max(from, this.bits));
  }

  /** The set bit of the given rank; `rank` in `[0, count)`. The inverse of {@link StoredBitmap.rankIfSet}. */
  select(rank: number): number {
    let low = 0;
    let high = this.chunkRank.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.chunkRank[middle] <= rank) low = middle;
      else high = middle - 1;
    }
    const base = this.slotOf(low) * CHUNK_WORDS;
    const wanted = rank - this.chunkRank[low];
    let word = CHUNK_WORDS - 1;
    while (this.wordRank[base + word] > wanted) word--;
    let left = wanted - this.wordRank[base + word];
    let value = this.words[base + word];
    for (; left > 0; left--) value &= value - 1;
    return low * CHUNK_BITS + word * 32 + lowestBit(value);
  }

  /** Scans word-wise for the first bit that differs from `flip` (0 looks for set, -1 for clear bits). */
  private next(from: number, limit: number, flip: 0 | -1): number | undefined {
    let bit = Math.max(0, from);
    while (bit < limit) {
      const chunk = Math.floor(bit / CHUNK_BITS);
      const start = chunk * CHUNK_BITS;
      if (this.chunkRank[chunk + 1] - this.chunkRank[chunk] === (flip === 0 ? 0 : CHUNK_BITS)) {
        bit = start + CHUNK_BITS;
        continue;
      }
      const base = this.slotOf(chunk) * CHUNK_WORDS;
      let word = (bit - start) >>> 5;
      let value = (this.words[base + word] ^ flip) & (-1 << ((bit - start) & 31));
      while (value === 0 && ++word < CHUNK_WORDS) value = this.words[base + word] ^ flip;
      if (value !== 0) {
        const found = start + word * 32 + lowestBit(value);
        return found < limit ? found : undefined;
      }
      bit = start + CHUNK_BITS;
    }
    return undefined;
  }

  /** The slot that holds a chunk, read in when it is not there. */
  private slotOf(chunk: number): number {
    const slot = chunk & this.slotMask;
    if (this.slotChunk[slot] !== chunk) this.load(chunk, slot);
    return slot;
  }

  private load(chunk: number, slot: number): void {
    this.scratch.fill(0);
    const at = chunk * CHUNK_BYTES;
    readWhole(this.section, at, this.scratch, Math.min(CHUNK_BYTES, this.section.size - at));
    this.slotChunk[slot] = -1;
    const base = slot * CHUNK_WORDS;
    decodeWords(this.scratch, this.words, base, CHUNK_WORDS, this.order);
    clearFrom(this.words, base, this.bits - chunk * CHUNK_BITS);
    let rank = 0;
    for (let i = base; i < base + CHUNK_WORDS; i++) {
      this.wordRank[i] = rank;
      rank += popcount(this.words[i]);
    }
    this.slotChunk[slot] = chunk;
  }

  /** Fills {@link chunkRank}; returns the set bits of the first `size` bytes of the section, padding included. */
  private countAll(chunks: number, size: number): number {
    const { section, chunkRank } = this;
    const buffer = new Uint8Array(Math.min(SCAN_BYTES, Math.ceil(size / CHUNK_BYTES) * CHUNK_BYTES));
    // How many bits are set in a chunk does not depend on their order.
    const words = new Uint32Array(buffer.buffer);
    let total = 0;
    for (let at = 0; at < size; at += buffer.length) {
      const length = Math.min(buffer.length, size - at);
      buffer.fill(0, length);
      readWhole(section, at, buffer, length);
      for (let piece = 0; piece < length; piece += CHUNK_BYTES) {
        const chunk = (at + piece) / CHUNK_BYTES;
        const bytes = buffer.subarray(piece, piece + CHUNK_BYTES);
        const count = popcountAll(words, piece / 4, CHUNK_WORDS);
        total += count;
        const whole = (chunk + 1) * CHUNK_BITS <= this.bits;
        if (chunk < chunks)
          chunkRank[chunk + 1] = chunkRank[chunk] + (whole ? count : this.countLast(bytes, chunk));
      }
    }
    return total;
  }

  /** Set bits of the chunk in which the bits that stand for pages end. */
  private countLast(bytes: Uint8Array, chunk: number): number {
    const words = new Uint32Array(CHUNK_WORDS);
    decodeWords(bytes, words, 0, CHUNK_WORDS, this.order);
    clearFrom(words, 0, this.bits - chunk * CHUNK_BITS);
    return popcountAll(words, 0, CHUNK_WORDS);
  }
}

function readWhole(section: ByteSource, offset: number, target: Uint8Array, length: number): void {
  const got = section.readSync(offset, target, 0, length);
  if (got >= length) return;
  throw new KvmError('IO', `the page bitmap: the source gave ${got} of ${length} bytes`, {
    length,
    hint: 'the file changed while it was read; open it again',
  });
}

/** Number of set bits of a 32-bit word. */
export function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

function popcountAll(words: Uint32Array, start: number, length: number): number {
  let count = 0;
  // Most words of most bitmaps are all ones or all zeros.
  for (let i = start; i < start + length; i++) {
    const word = words[i];
    if (word === 0xffff_ffff) count += 32;
    else if (word !== 0) count += popcount(word);
  }
  return count;
}

/** Index of the lowest set bit of a non-zero 32-bit word. */
function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** Bitmap bytes as 32-bit words in which bit N of the map is bit N & 31 of word N >> 5. */
function decodeWords(
  bytes: Uint8Array,
  words: Uint32Array,
  at: number,
  count: number,
  order: BitOrder,
): void {
  if (order === 'little' && HOST_LITTLE) {
    words.set(new Uint32Array(bytes.buffer, bytes.byteOffset, count), at);
    return;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const swap = order === 'big64' ? 1 : 0;
  for (let i = 0; i < count; i++) words[at + i] = view.getUint32((i ^ swap) * 4, order === 'little');
}

/** Clears the bits from `bit` on, counted from word `at`, within one chunk. */
function clearFrom(words: Uint32Array, at: number, bit: number): void {
  if (bit >= CHUNK_BITS) return;
  const word = Math.max(0, bit) >>> 5;
  if (bit > 0) words[at + word] &= (1 << (bit & 31)) - 1;
  words.fill(0, at + word + (bit > 0 ? 1 : 0), at + CHUNK_WORDS);
}

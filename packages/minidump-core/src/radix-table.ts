import { POWERS } from './powers.js';
import { TABLE_ABSENT, TABLE_TRUNCATED } from './address-space.js';
import type { BlockCache } from './block-cache.js';
import { PhysicalWords, TRUNCATED } from './physical-memory.js';
import type { RadixRegion } from './radix-format.js';
import type { RadixSpace } from './radix-space.js';

/** A table in memory is read by pages, the table section of a file in larger pieces; less where less is asked for. */
const MEMORY_CHUNK = 4096;
const SECTION_CHUNK = 65536;
const HOST_LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * One table under a {@link RadixCursor}: where it lies, which part of it is asked for, the entry that the walk is at,
 * and a copy of the piece of the table around it, so that scanning it costs no look-ups.
 */
export class RadixTable {
  level = 0;
  /** Bytes that an entry spans, and log2 of them. */
  span = 0;
  shift = 0;
  /** Rights that the tables above leave. */
  rights = 0;
  /** The entry that the walk is at. */
  index = 0;
  /** The walk's window, in pages. */
  fromPage = 0;
  toPage = 0;
  /** Halves of the entry at `index`, after {@link RadixTable.seekEntry} and {@link RadixTable.peek}. */
  low = 0;
  high = 0;
  /** Why the entries at `index` cannot be read: TABLE_ABSENT, TABLE_TRUNCATED, or 0. */
  missing: 0 | typeof TABLE_ABSENT | typeof TABLE_TRUNCATED = 0;
  /** How many of them. */
  missingEntries = 0;

  private section: BlockCache | undefined;
  private base = 0;
  private entries = 0;
  private basePage = 0;
  private pagesPerEntry = 0;
  private endIndex = 0;
  /** Entries `[chunkStart, chunkEnd)` are in {@link words}. */
  private chunkStart = 0;
  private chunkEnd = 0;
  private words = new Uint32Array(0);
  private wordBytes = new Uint8Array(this.words.buffer);
  private torn: PhysicalWords | undefined;
  private readonly perEntry: 1 | 2;
  private readonly swap: boolean;
  private readonly lowWord: 0 | 1;

  constructor(private readonly space: RadixSpace) {
    const little = space.order === 'little';
    this.perEntry = space.format.entryBytes === 8 ? 2 : 1;
    this.swap = little !== HOST_LITTLE;
    this.lowWord = little || this.perEntry === 1 ? 0 : 1;
  }

  /** Starts on a table; `region` only for the root of a region. */
  enter(
    region: RadixRegion | undefined,
    base: number,
    level: number,
    shift: number,
    entries: number,
    basePage: number,
    rights: number,
  ): void {
    this.section = region?.section;
    this.base = base;
    this.level = level;
    this.shift = shift;
    this.span = POWERS[shift];
    this.pagesPerEntry = this.span / 4096;
    this.entries = entries;
    this.basePage = basePage;
    this.rights = rights;
    this.chunkStart = this.chunkEnd = 0;
    this.missing = 0;
  }

  /** Restricts the walk to pages `[fromPage, toPage)`. */
  limit(fromPage: number, toPage: number): void {
    this.fromPage = fromPage;
    this.toPage = toPage;
    const perPage = 2 ** (12 - this.shift);
    this.index = Math.max(0, Math.floor((fromPage - this.basePage) * perPage));
    this.endIndex = Math.min(this.entries, Math.ceil((toPage - this.basePage) * perPage));
  }

  /**
   * Moves to the first entry at or behind `index` that is not all zeros, or that cannot be read (then `missing` is set).
   * False when there is none.
   */
  seekEntry(): boolean {
    this.missing = 0;
    while (this.index < this.endIndex) {
      if (this.index >= this.chunkEnd || this.index < this.chunkStart) {
        if (!this.loadChunk()) return true;
        if (this.index >= this.endIndex) return false;
      }
      const end = Math.min(this.chunkEnd, this.endIndex);
      const { words, perEntry, chunkStart } = this;
      const stop = (end - chunkStart) * perEntry;
      const from = (this.index - chunkStart) * perEntry;
      const at = perEntry === 2 ? skipZeroPairs(words, from, stop) : skipZeros(words, from, stop);
      // Not `at / perEntry`: dividing integers takes longer than everything else here.
      this.index = chunkStart + (perEntry === 2 ? at >>> 1 : at);
      if (at < stop) {
        this.setEntry(at);
        return true;
      }
    }
    return false;
  }

  /** Reads the entry at `index` if it lies in the window and in the piece at hand; it never loads. */
  peek(): boolean {
    if (this.index >= this.chunkEnd || this.index >= this.endIndex) return false;
    this.setEntry((this.index - this.chunkStart) * this.perEntry);
    return true;
  }

  /** Page number at which the entry under the walk starts. */
  pageOfIndex(): number {
    return this.basePage + Math.floor(this.index * this.pagesPerEntry);
  }

  /** Offset in that page: not 0 only in tables of 1 KB pages. */
  offsetOfIndex(): number {
    return this.span < 4096 ? (this.index * this.span) & 4095 : 0;
  }

  /** PA of the table (for the root of a section: its file offset). */
  get address(): number {
    return this.base;
  }

  /** The same of the entry under the walk. */
  private entryAddress(): number {
    return this.base + this.index * this.perEntry * 4;
  }

  private setEntry(at: number): void {
    const { words, lowWord } = this;
    this.low = words[at + lowWord];
    this.high = this.perEntry === 2 ? words[at + 1 - lowWord] : 0;
  }

  private loadChunk(): boolean {
    return this.section === undefined ? this.loadFromMemory() : this.loadFromSection(this.section);
  }

  private loadFromMemory(): boolean {
    const { memory, format } = this.space;
    const pa = this.entryAddress();
    const bytes = Math.min(
      MEMORY_CHUNK - (pa % MEMORY_CHUNK),
      (this.endIndex - this.index) * format.entryBytes,
    );
    const offset = memory.locate(pa);
    if (offset < 0) return this.setMissing(offset, Math.ceil(memory.hole(pa, bytes) / format.entryBytes));
    const there = Math.floor(memory.run(pa, bytes) / format.entryBytes);
    if (there === 0) return this.loadTorn(pa, bytes);
    this.makeRoom(there * format.entryBytes);
    memory.cache.readSync(offset, this.wordBytes, 0, there * format.entryBytes);
    return this.setChunk(there);
  }

  /** Loads an entry that does not lie in one piece: the file ends inside it, or a segment of the memory does. */
  private loadTorn(pa: number, bytes: number): boolean {
    const { memory, format, order } = this.space;
    const { entryBytes } = format;
    const torn = (this.torn ??= new PhysicalWords(memory, order === 'little'));
    const status = entryBytes === 8 ? torn.load64(pa) : torn.load32(pa);
    if (status < 0) {
      const behind = bytes > entryBytes && memory.locate(pa + entryBytes) === status;
      const more = behind ? memory.hole(pa + entryBytes, bytes - entryBytes) : 0;
      return this.setMissing(status, 1 + Math.ceil(more / entryBytes));
    }
    this.makeRoom(8);
    this.words[this.lowWord] = torn.low;
    if (this.perEntry === 2) this.words[1 - this.lowWord] = torn.high;
    this.chunkStart = this.index;
    this.chunkEnd = this.index + 1;
    return true;
  }

  /** Loads the next piece of the section that is not all zeros; most of a kernel's address space is not mapped. */
  private loadFromSection(section: BlockCache): boolean {
    const { entryBytes } = this.space.format;
    while (this.index < this.endIndex) {
      const count = Math.min(SECTION_CHUNK / entryBytes, this.endIndex - this.index);
      this.makeRoom(count * entryBytes);
      const got = section.source.readSync(this.entryAddress(), this.wordBytes, 0, count * entryBytes);
      const there = Math.floor(got / entryBytes);
      if (there === 0) return this.setMissing(TRUNCATED, count);
      if (!allZeros(this.words, there * this.perEntry)) return this.setChunk(there);
      this.index += there;
    }
    return true;
  }

  /** Forgets the piece at hand, which the next one overwrites. */
  private makeRoom(bytes: number): void {
    this.chunkStart = this.chunkEnd = 0;
    if (bytes <= this.wordBytes.length) return;
    this.words = new Uint32Array(bytes / 4);
    this.wordBytes = new Uint8Array(this.words.buffer);
  }

  private setChunk(count: number): boolean {
    this.chunkStart = this.index;
    this.chunkEnd = this.index + count;
    if (this.swap) swapWords(this.words, count * this.perEntry);
    return true;
  }

  private setMissing(status: number, entries: number): boolean {
    this.missing = status === TRUNCATED ? TABLE_TRUNCATED : TABLE_ABSENT;
    this.missingEntries = Math.min(entries, this.endIndex - this.index);
    return false;
  }
}

/** Looks at whole pieces; a loop of its own, and eight words at a time, since it is what a walk spends its time on. */
function allZeros(words: Uint32Array, count: number): boolean {
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const some = words[i] | words[i + 1] | words[i + 2] | words[i + 3];
    if ((some | words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7]) !== 0) return false;
  }
  return skipZeros(words, i, count) === count;
}

function skipZeroPairs(words: Uint32Array, from: number, stop: number): number {
  let at = from;
  while (at < stop && (words[at] | words[at + 1]) === 0) at += 2;
  return at;
}

function skipZeros(words: Uint32Array, from: number, stop: number): number {
  let at = from;
  while (at < stop && words[at] === 0) at++;
  return at;
}

function swapWords(words: Uint32Array, count: number): void {
  for (let i = 0; i < count; i++) {
    const word = words[i];
    words[i] = ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
  }
}

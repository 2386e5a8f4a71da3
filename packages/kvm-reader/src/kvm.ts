import {
  KvmError,
  MAPPED,
  checkedNumber,
  entryOf,
  isKvmError,
  kvaOf,
  protectionOf,
  type KvaParts,
} from '@libkvm/minidump-core';
import type { PartialRead, ReadOptions, Resolved } from './answers.js';
import { physicalFault, virtualFault } from './faults.js';
import { checkMatch, type MatchReport } from './kernel-match.js';
import { MemoryReader } from './memory-reader.js';
import { readMessageBuffer, type MessageBuffer } from './message-buffer.js';
import type { OpenedCore } from './opened-core.js';
import { walkPages, type PageEntry, type WalkRange } from './page-walk.js';
import { searchPhysical, searchVirtual, type SearchRange } from './search.js';
import type { Symbols } from './symbols.js';

/** Reads of more than this many bytes are surveyed before memory is taken for them. */
const SURVEY = 1024 * 1024;
/** More than this in one piece is a mistake of the caller. */
const MAX_READ = 2 ** 32;
const STRING_STEP = 64;

/**
 * An opened core, read synchronously. Made by `openKvm` and `openKvmFile`.
 *
 * KVAs are numbers or bigints (numbers only up to 2^53 - 1), and bigints when given back; lengths, PAs and file offsets
 * are numbers. Reads throw a {@link KvmError} at the first byte they cannot give: `NOT_MAPPED`, `NOT_DUMPED`,
 * `TRUNCATED`, `NOT_CANONICAL`, `INVALID_ARGUMENT` or `IO`, with the address, the bytes done and the length of the hole.
 *
 * @example
 * const kvm = openKvmFile('vmcore.0', { kernel: 'kernel.debug' });
 * console.log(kvm.readU32(kvm.symbol('hz')));
 */
export class Kvm {
  /** @internal */
  readonly reader: MemoryReader;
  private readonly little: boolean;
  private readonly small = new Uint8Array(8);
  private readonly smallView = new DataView(this.small.buffer);

  constructor(
    /** The two maps and the facts of the file. */
    readonly core: OpenedCore,
    /** The kernel's symbols; empty when no kernel file and no resolver were given. */
    readonly symbols: Symbols,
    private readonly onClose?: () => void,
  ) {
    this.reader = new MemoryReader(core);
    this.little = core.byteOrder === 'little';
  }

  /**
   * KVA -> PA -> offset in the file.
   *
   * @throws KvmError `NOT_MAPPED`, `NOT_DUMPED`, `TRUNCATED`, `NOT_CANONICAL`; where the address is mapped and only its
   *   page is missing, the error has `physicalAddress`
   */
  resolve(kva: number | bigint): Resolved {
    const { page, offset } = this.reader.split(kva);
    const { translator } = this.reader;
    const { memory } = this.core;
    const { translation } = translator;
    const located = translator.translate(page, offset) === MAPPED ? memory.locate(translation.pa) : -1;
    if (located < 0) throw virtualFault(translator, page, offset);
    const entry = entryOf(translation);
    return {
      kva: kvaOf(page, offset),
      physicalAddress: translation.pa,
      ...(memory.fileOffsets && { fileOffset: located }),
      protection: protectionOf(translation.flags),
      pageSize: translation.pageSize,
      contiguous: memory.run(translation.pa, translation.length),
      ...(entry !== undefined && { entry }),
      ...(translation.level > 0 && { level: translation.level }),
    };
  }

  /** Reads `length` bytes into new memory. */
  read(kva: number | bigint, length: number, options?: ReadOptions): Uint8Array<ArrayBuffer> {
    const { page, offset } = this.reader.split(kva);
    checkLength(length);
    if (length > SURVEY && options?.pad !== true) {
      const bytesDone = this.reader.extent(page, offset, length);
      if (bytesDone < length) throw this.faultAt(page, offset, { length, bytesDone });
    }
    const bytes = new Uint8Array(length);
    this.fill(page, offset, bytes, options);
    return bytes;
  }

  /** Reads as many bytes as `target` has into it, without allocating. Before an error it holds the bytes done. */
  readInto(kva: number | bigint, target: Uint8Array, options?: ReadOptions): void {
    const { page, offset } = this.reader.split(kva);
    this.fill(page, offset, target, options);
  }

  /** Reads up to `length` bytes: what there is, and the fault where there is one. Throws only for bad arguments. */
  readPartial(kva: number | bigint, length: number): PartialRead {
    const { page, offset } = this.reader.split(kva);
    checkLength(length);
    const there = length > SURVEY ? this.reader.extent(page, offset, length) : length;
    const bytes = new Uint8Array(there);
    const bytesDone = this.reader.copy(page, offset, bytes, 0, there);
    if (bytesDone === length) return { bytes };
    return { bytes: bytes.slice(0, bytesDone), fault: this.faultAt(page, offset, { length, bytesDone }) };
  }

  /** Reads `length` bytes of physical memory into new memory. */
  readPhysical(pa: number | bigint, length: number): Uint8Array<ArrayBuffer> {
    const from = checkedNumber(pa, 'pa');
    checkLength(length);
    const bytesDone = length > SURVEY ? this.reader.extentPhysical(from, length) : length;
    if (bytesDone < length) throw physicalFault(this.core.memory, from + bytesDone, { length, bytesDone });
    const bytes = new Uint8Array(length);
    this.readPhysicalInto(from, bytes);
    return bytes;
  }

  /** Reads as many bytes of physical memory as `target` has into it. */
  readPhysicalInto(pa: number | bigint, target: Uint8Array): void {
    const from = checkedNumber(pa, 'pa');
    const bytesDone = this.reader.copyPhysical(from, target, 0, target.length);
    if (bytesDone < target.length) {
      throw physicalFault(this.core.memory, from + bytesDone, { length: target.length, bytesDone });
    }
  }

  readU8(kva: number | bigint): number {
    const at = this.positionOf(kva, 1);
    return at < 0 ? this.small[0] : this.core.memory.cache.bytes[at];
  }

  /** An unsigned 16-bit integer in the machine's byte order. */
  readU16(kva: number | bigint): number {
    const at = this.positionOf(kva, 2);
    return at < 0
      ? this.smallView.getUint16(0, this.little)
      : this.core.memory.cache.view.getUint16(at, this.little);
  }

  /** An unsigned 32-bit integer in the machine's byte order. */
  readU32(kva: number | bigint): number {
    const at = this.positionOf(kva, 4);
    return at < 0
      ? this.smallView.getUint32(0, this.little)
      : this.core.memory.cache.view.getUint32(at, this.little);
  }

  /** An unsigned 64-bit integer in the machine's byte order. */
  readU64(kva: number | bigint): bigint {
    const at = this.positionOf(kva, 8);
    if (at < 0) return this.smallView.getBigUint64(0, this.little);
    return this.core.memory.cache.view.getBigUint64(at, this.little);
  }

  /** A pointer of the machine: 4 or 8 bytes, zero-extended. */
  readPointer(kva: number | bigint): bigint {
    return this.core.bits === 64 ? this.readU64(kva) : BigInt(this.readU32(kva));
  }

  /**
   * The characters up to a NUL, or `maxLength` bytes where there is none, decoded as UTF-8.
   *
   * @throws KvmError as for reads, when a byte before the NUL cannot be read
   */
  readCString(kva: number | bigint, maxLength = 4096): string {
    checkLength(maxLength);
    let { page, offset } = this.reader.split(kva);
    const parts: number[] = [];
    const step = new Uint8Array(STRING_STEP);
    while (parts.length < maxLength) {
      const wanted = Math.min(STRING_STEP - (offset % STRING_STEP), maxLength - parts.length);
      const got = this.reader.copy(page, offset, step, 0, wanted);
      const end = step.subarray(0, got).indexOf(0);
      parts.push(...step.subarray(0, end < 0 ? got : end));
      if (end >= 0) break;
      if (got < wanted) {
        throw virtualFault(this.reader.translator, page, offset + got, {
          length: maxLength,
          bytesDone: parts.length,
        });
      }
      offset += got;
      page += Math.floor(offset / 4096);
      offset %= 4096;
    }
    return new TextDecoder().decode(Uint8Array.from(parts));
  }

  /**
   * The address of a kernel symbol.
   *
   * @throws KvmError `NO_SYMBOL`
   */
  symbol(name: string): bigint {
    return this.symbols.address(name);
  }

  /**
   * The page walk of kvm_walk_pages(3), complete: first the mappings by ascending KVA, superpages whole but split where
   * presence or contiguity in the file changes; then, once each, the dumped pages that no KVA in the walk maps. With a
   * `from` or `to` only the mappings in that window.
   */
  pages(range?: WalkRange): Generator<PageEntry, void, undefined> {
    return walkPages(this.reader.translator, range);
  }

  /** The KVAs at which the bytes (or UTF-8 text) stand, ascending within the page tables, then in the direct map. */
  *search(needle: Uint8Array | string, range?: SearchRange): Generator<bigint, void, undefined> {
    const cursor = searchVirtual(this.reader, needle, range);
    for (let kva = cursor.next(); kva !== undefined; kva = cursor.next()) yield kva;
  }

  /** The PAs at which the bytes (or UTF-8 text) stand, ascending. */
  *searchPhysical(needle: Uint8Array | string): Generator<number, void, undefined> {
    const cursor = searchPhysical(this.reader, needle);
    for (let pa = cursor.next(); pa !== undefined; pa = cursor.next()) yield pa;
  }

  /** The kernel's message buffer in logical order; undefined when the core has none that can be found. */
  messageBuffer(): MessageBuffer | undefined {
    return readMessageBuffer(this);
  }

  /** Whether kernel file and core belong together, as far as their contents tell. */
  checkMatch(): MatchReport {
    return checkMatch(this);
  }

  /** Closes the files behind the core, where it was opened by path; reads of what is not cached fail from then on. */
  close(): void {
    this.onClose?.();
  }

  /** @internal */
  checkLength(length: number): void {
    checkLength(length);
  }

  private fill(page: number, offset: number, target: Uint8Array, options?: ReadOptions): void {
    let bytesDone = this.reader.copy(page, offset, target, 0, target.length);
    while (bytesDone < target.length) {
      const fault = this.faultAt(page, offset, { length: target.length, bytesDone });
      if (options?.pad !== true || !isKvmError(fault, 'NOT_MAPPED', 'NOT_DUMPED', 'TRUNCATED')) throw fault;
      const end = Math.min(target.length, bytesDone + Math.max(1, fault.holeLength ?? 1));
      target.fill(0, bytesDone, end);
      const [nextPage, nextOffset] = advance(page, offset, end);
      bytesDone = end + this.reader.copy(nextPage, nextOffset, target, end, target.length - end);
    }
  }

  /** Position of a small value in the cache, or -1 after reading it to {@link small}. */
  private positionOf(kva: number | bigint, length: number): number {
    const parts = this.reader.split(kva);
    const at = this.reader.position(parts.page, parts.offset, length);
    if (at < 0) this.readSmall(parts, length);
    return at;
  }

  private readSmall({ page, offset }: KvaParts, length: number): void {
    const bytesDone = this.reader.copy(page, offset, this.small, 0, length);
    if (bytesDone < length) throw this.faultAt(page, offset, { length, bytesDone });
  }

  /** The fault behind the bytes done of a read. */
  private faultAt(page: number, offset: number, progress: { length: number; bytesDone: number }): KvmError {
    const [faultPage, faultOffset] = advance(page, offset, progress.bytesDone);
    return virtualFault(this.reader.translator, faultPage, faultOffset, progress);
  }
}

/** Page and offset of the address so many bytes on. */
export function advance(page: number, offset: number, bytes: number): [number, number] {
  const end = offset + bytes;
  return [page + Math.floor(end / 4096), end % 4096];
}

function checkLength(length: number): void {
  if (Number.isSafeInteger(length) && length >= 0 && length <= MAX_READ) return;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `a length is an integer from 0 to ${MAX_READ}, not ${String(length)}`,
    {
      field: 'length',
      hint: 'read in pieces',
    },
  );
}

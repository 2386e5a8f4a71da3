import {
  KVA_PAGE,
  PageBitmap,
  withDirectMap,
  type PageSelection,
  type PhysicalRun,
} from '@libkvm/minidump-core';

/** READ, WRITE and EXECUTE of a mapping's flags. */
const RIGHTS = 7;

/** A run of KVA with the same rights. The object is reused. */
export interface KvaSegment {
  /** Page number (KVA >> 12) and offset in the page of its first byte. */
  page: number;
  offset: number;
  length: number;
  /** READ, WRITE, EXECUTE. */
  rights: number;
  /** PA of its first byte. */
  pa: number;
  /** Where its bytes are, from the first byte of memory in the file. */
  fileOffset: number;
}

/** A part of a mapping whose pages are in the dump. */
interface KvaPiece {
  page: number;
  offset: number;
  pa: number;
  length: number;
  rights: number;
  /** Whether it is the same memory as the piece before it. */
  repeated: boolean;
}

/** How the bytes of an ELF core by KVA are stored. */
export type KvaStorage = 'kva' | 'shared';

/**
 * The pages of a selection by the KVAs that reach them. Everything is told by walking the mappings again, so that nothing
 * has to be kept of them.
 *
 * - stored by KVA, each segment has bytes of its own; only a page that is mapped again and again in a row is there once;
 * - stored `shared`, each page is there once, by ascending PA, and segments end where PAs do not go on.
 */
export class KvaSegments {
  /** Pages that some KVA reaches. */
  readonly reached: PageBitmap;
  /** Bytes when stored by KVA. */
  kvaBytes = 0;
  /** Start and offset of each run of pages, for `shared`. */
  private readonly runStarts: number[] = [];
  private readonly runOffsets: number[] = [];

  constructor(private readonly selection: PageSelection) {
    this.reached = new PageBitmap(selection.bitmap.ranges);
    for (const { pa, length, repeated } of this.pieces()) {
      this.reached.addRun(pa, length);
      if (!repeated) this.kvaBytes += length;
    }
  }

  /** Bytes of the pages that some KVA reaches, each once. */
  get pageBytes(): number {
    return this.reached.count * this.reached.ranges.pageSize;
  }

  /** The segments by ascending KVA. */
  *segments(storage: KvaStorage): Generator<KvaSegment, void, undefined> {
    if (storage === 'shared') this.indexRuns();
    const open: KvaSegment = { page: 0, offset: 0, length: 0, rights: 0, pa: 0, fileOffset: 0 };
    let stored = 0;
    let pieceOffset = 0;
    for (const piece of this.pieces()) {
      const { page, offset, pa, length, rights, repeated } = piece;
      if (storage === 'shared') pieceOffset = this.sharedOffset(pa);
      else if (!repeated) {
        pieceOffset = stored;
        stored += length;
      }
      const goesOn =
        open.length > 0 &&
        rights === open.rights &&
        pieceOffset === open.fileOffset + open.length &&
        (page - open.page) * KVA_PAGE + offset - open.offset === open.length;
      if (!goesOn) {
        if (open.length > 0) yield open;
        Object.assign(open, { page, offset, length: 0, rights, pa, fileOffset: pieceOffset });
      }
      open.length += length;
    }
    if (open.length > 0) yield open;
  }

  /** The physical memory to store, in file order. */
  runs(storage: KvaStorage): Iterable<PhysicalRun> {
    return storage === 'shared' ? this.reached.runs() : this.stored();
  }

  private indexRuns(): void {
    if (this.runStarts.length > 0) return;
    let offset = 0;
    for (const { pa, length } of this.reached.runs()) {
      this.runStarts.push(pa);
      this.runOffsets.push(offset);
      offset += length;
    }
  }

  /** Where the byte at `pa` lies when each page is stored once. */
  private sharedOffset(pa: number): number {
    let low = 0;
    let high = this.runStarts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runStarts[middle] <= pa) low = middle + 1;
      else high = middle;
    }
    return this.runOffsets[low - 1] + (pa - this.runStarts[low - 1]);
  }

  private *stored(): Generator<PhysicalRun, void, undefined> {
    for (const piece of this.pieces()) if (!piece.repeated) yield piece;
  }

  /** Runs of pages that are there, as far as one mapping has them: KVA, PA and rights. The object is reused. */
  private *pieces(): Generator<KvaPiece, void, undefined> {
    const { bitmap, walk } = this.selection;
    const piece: KvaPiece = { page: 0, offset: 0, pa: -1, length: 0, rights: 0, repeated: false };
    for (const mapping of withDirectMap(walk, bitmap.runs())) {
      for (let done = 0; done < mapping.length;) {
        const length = this.extent(mapping.pa + done, mapping.length - done, true);
        if (length > 0) {
          const at = mapping.offset + done;
          const pa = mapping.pa + done;
          piece.repeated = pa === piece.pa && length === piece.length;
          piece.page = mapping.page + Math.floor(at / KVA_PAGE);
          piece.offset = at % KVA_PAGE;
          piece.pa = pa;
          piece.length = length;
          piece.rights = mapping.flags & RIGHTS;
          yield piece;
        }
        done += length || this.extent(mapping.pa + done, mapping.length - done, false);
      }
    }
  }

  /** Bytes from `pa` on, at most `limit`, of pages that are in the dump, or that are not. */
  private extent(pa: number, limit: number, there: boolean): number {
    const { bitmap } = this.selection;
    const { pageSize } = bitmap.ranges;
    let bytes = 0;
    while (bytes < limit && bitmap.has(pa + bytes) === there) bytes += pageSize - ((pa + bytes) % pageSize);
    return Math.min(bytes, limit);
  }
}

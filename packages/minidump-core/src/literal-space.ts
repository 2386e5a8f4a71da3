import {
  EXECUTE,
  GLOBAL,
  KVA_PAGE,
  MAPPED,
  MEMORY_TYPE_MASK,
  MEMORY_TYPE_SHIFT,
  READ,
  UNMAPPED,
  USER,
  WRITE,
  type AddressSpace,
  type Mapping,
  type MappingCursor,
  type Outcome,
  type Translation,
} from './address-space.js';
import type { DumpMemory } from './dump-source.js';
import { KvmError, toHex } from './errors.js';
import { KvaParts } from './kva.js';
import { PageRanges, type ByteRange } from './page-ranges.js';

/** One mapping of a {@link literalAddressSpace}, said outright. */
export interface LiteralMapping {
  readonly kva: number | bigint;
  readonly pa: number;
  /** Bytes: a multiple of 1 KB, of pages that lie one behind the other in KVA and PA. */
  readonly length: number;
  /** `r--`, `rw-`, `r-x`, `rwx`; `rw-` unless given. */
  readonly protection?: string;
  /** Bytes of the hardware's pages: 4096 unless given. */
  readonly pageSize?: number;
  readonly user?: boolean;
  readonly global?: boolean;
  /** Index of the memory type, 0 to 31, in the terms of the entry format. */
  readonly memoryType?: number;
  /** The exact hardware entry, for one mapping of one page. */
  readonly entry?: bigint;
  /** Its level: 1 unless given. */
  readonly level?: number;
  /** Its bits: 64 unless given. */
  readonly entryBits?: 32 | 64;
}

/**
 * An address space without page tables, for test cores, simulators and whoever knows the mappings already.
 *
 * @param mappings in any order; they must not overlap
 * @param bits width of a KVA
 * @throws KvmError `INVALID_ARGUMENT` for mappings that overlap or are not in units of 1 KB
 * @example
 * literalAddressSpace([{ kva: 0xffffffff80200000n, pa: 0x200000, length: 0x4000, protection: 'r-x' }]);
 */
export function literalAddressSpace(mappings: Iterable<LiteralMapping>, bits: 32 | 64 = 64): AddressSpace {
  return new LiteralSpace([...mappings].map((mapping) => rowOf(mapping, bits)));
}

/**
 * Physical memory that is given as bytes, for test cores. Pages are 4 KB; what no piece says of a page is zeros.
 *
 * @param pieces in any order; they must not overlap
 * @param ram the machine's RAM where it is more than the pages of the pieces; that is there as well, all zeros
 */
export function literalMemory(
  pieces: Iterable<{ readonly pa: number; readonly bytes: Uint8Array }>,
  ram: readonly ByteRange[] = [],
): DumpMemory {
  const held = [...pieces].sort((a, b) => a.pa - b.pa);
  const touched = held.map(({ pa, bytes }) => ({ start: pa, end: pa + bytes.length }));
  const ranges = new PageRanges(wholePages([...touched, ...ram]), KVA_PAGE);
  return {
    ranges,
    available(pa, limit) {
      const pfn = Math.floor(pa / KVA_PAGE);
      const bit = ranges.bitOf(pfn);
      return bit < 0 ? 0 : Math.min(limit, (pfn + ranges.endBitOf(pfn) - bit) * KVA_PAGE - pa);
    },
    readSync(pa, target, at, length) {
      target.fill(0, at, at + length);
      for (const piece of held) {
        const from = Math.max(pa, piece.pa);
        const to = Math.min(pa + length, piece.pa + piece.bytes.length);
        if (from < to) target.set(piece.bytes.subarray(from - piece.pa, to - piece.pa), at + from - pa);
      }
    },
  };
}

interface Row {
  readonly page: number;
  readonly offset: number;
  readonly endPage: number;
  readonly endOffset: number;
  readonly mapping: LiteralMapping;
  readonly flags: number;
}

class LiteralSpace implements AddressSpace {
  private readonly rows: readonly Row[];

  constructor(rows: Row[]) {
    this.rows = rows.sort((a, b) => a.page - b.page || a.offset - b.offset);
    rows.forEach((row, i) => {
      const next = rows[i + 1];
      if (i + 1 < rows.length && comparePlaces(row.endPage, row.endOffset, next.page, next.offset) > 0)
        throw bad(next.mapping, 'overlaps another');
    });
  }

  translate(page: number, offset: number, out: Translation): Outcome {
    out.setEntry(0, 0, 0, 0);
    const i = this.endingAfter(page, offset);
    const row = this.rows[i];
    if (i === this.rows.length) return out.miss(UNMAPPED, KVA_PAGE - offset);
    const within = (page - row.page) * KVA_PAGE + offset - row.offset;
    if (within < 0) return out.miss(UNMAPPED, Math.min(-within, 2 ** 52));
    return fill(out, row, within);
  }

  mappings(fromPage: number, toPage: number): MappingCursor {
    const { rows } = this;
    let i = this.endingAfter(fromPage, 0);
    return {
      next(out: Mapping): boolean {
        if (i >= rows.length || rows[i].page >= toPage) return false;
        const row = rows[i++];
        const cut = Math.max(0, (fromPage - row.page) * KVA_PAGE - row.offset);
        fill(out, row, cut);
        out.page = cut > 0 ? fromPage : row.page;
        out.offset = cut > 0 ? 0 : row.offset;
        out.length = Math.min(out.length, (toPage - out.page) * KVA_PAGE - out.offset);
        return true;
      },
    };
  }

  /** Index of the first row that ends behind an address. */
  private endingAfter(page: number, offset: number): number {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { endPage, endOffset } = this.rows[middle];
      if (comparePlaces(endPage, endOffset, page, offset) > 0) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function comparePlaces(page: number, offset: number, otherPage: number, otherOffset: number): number {
  return page - otherPage || offset - otherOffset;
}

function fill(out: Translation, { mapping, flags }: Row, within: number): Outcome {
  const { pa, length, pageSize = KVA_PAGE, entry, level = 1, entryBits = 64 } = mapping;
  if (entry === undefined) out.setEntry(mapping.level ?? 0, 0, 0, 0);
  else out.setEntry(level, Number(entry & 0xffff_ffffn), Number(entry >> 32n), entryBits);
  out.outcome = MAPPED;
  out.pa = pa + within;
  out.length = length - within;
  out.flags = flags;
  out.pageSize = pageSize;
  return MAPPED;
}

function rowOf(mapping: LiteralMapping, bits: 32 | 64): Row {
  const { kva, pa, length, protection = 'rw-', user, global, memoryType = 0 } = mapping;
  const parts = new KvaParts(bits);
  parts.set(kva);
  const { page, offset } = parts;
  const units = [offset, pa, length].every((value) => Number.isSafeInteger(value) && value % 1024 === 0);
  if (!units || length <= 0) throw bad(mapping, 'is not in units of 1 KB');
  if (!/^[r-][w-][x-]$/.test(protection)) throw bad(mapping, `has the protection ${protection}`);
  const flags =
    (protection.startsWith('r') ? READ : 0) |
    (protection[1] === 'w' ? WRITE : 0) |
    (protection.endsWith('x') ? EXECUTE : 0) |
    (user === true ? USER : 0) |
    (global === true ? GLOBAL : 0) |
    ((memoryType << MEMORY_TYPE_SHIFT) & MEMORY_TYPE_MASK);
  const end = offset + length;
  return {
    ...{ page, offset, mapping, flags },
    ...{ endPage: page + Math.floor(end / KVA_PAGE), endOffset: end % KVA_PAGE },
  };
}

/** Ranges in whole pages, ascending, those that touch made one. */
function wholePages(ranges: readonly ByteRange[]): ByteRange[] {
  const pages = ranges
    .filter(({ start, end }) => start < end)
    .map(({ start, end }) => ({
      start: Math.floor(start / KVA_PAGE) * KVA_PAGE,
      end: Math.ceil(end / KVA_PAGE) * KVA_PAGE,
    }))
    .sort((a, b) => a.start - b.start);
  const joined: { start: number; end: number }[] = [];
  for (const range of pages) {
    const last = joined.at(-1);
    if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
    else joined.push(range);
  }
  return joined;
}

function bad({ kva, length }: LiteralMapping, what: string): KvmError {
  return new KvmError('INVALID_ARGUMENT', `the mapping of ${length} bytes at ${toHex(kva)} ${what}`, {
    address: BigInt(kva),
    addressSpace: 'virtual',
    field: 'mappings',
  });
}

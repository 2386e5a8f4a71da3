import { KVA_PAGE, type Mapping } from './address-space.js';
import { MAX_RANGES } from './dump-avail.js';
import type { DumpSource } from './dump-source.js';
import { KvmError, toHex } from './errors.js';
import { kvaOf } from './kva.js';
import { PageRanges, type ByteRange } from './page-ranges.js';

/** PAs of every dump lie below this: the leaf entry of portable minidumps has room for no more, nor has any machine. */
export const PHYSICAL_LIMIT = 2 ** 52;
/** The PAs of a direct map may lie above all memory (LA57 kernels reserve 8 PB), and still have to be exact numbers. */
export const MAX_DIRECT_PA = 1n << 53n;
/** The smallest hardware mapping there is: ARM's subpages. */
const UNIT = 1024;

/**
 * Checks what a source says of its machine.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function checkMachine({ machine, messageBuffer }: DumpSource): void {
  const { bits, pageSize, directMap } = machine;
  requireFact(isPageSize(pageSize), 'pageSize', pageSize);
  const { ring, start } = messageBuffer ?? { ring: { size: 0 }, start: 0 };
  requireFact(start === 0 || (start > 0 && start < ring.size), 'messageBuffer.start', start);
  if (directMap === undefined) return;
  const { base, end, phys } = directMap;
  const top = 1n << BigInt(bits);
  requireFact(base >= 0n && base < top && base % BigInt(KVA_PAGE) === 0n, 'directMap.base', base);
  requireFact(end > base && end <= top, 'directMap.end', end);
  requireFact(isPhysical(phys) && phys % KVA_PAGE === 0, 'directMap.phys', phys);
  requireFact(BigInt(phys) + (end - base) <= MAX_DIRECT_PA, 'directMap.end', end);
}

/**
 * The ranges that a dump's bitmap is counted over: those of the source, with those that share a page made one, so that
 * no page has two bits.
 *
 * @throws KvmError `INVALID_ARGUMENT` when a dump cannot hold them
 */
export function dumpRanges({ ranges, pageSize }: PageRanges): PageRanges {
  requireFact(isPageSize(pageSize), 'ranges.pageSize', pageSize);
  const joined: ByteRange[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    const shared = last !== undefined && Math.ceil(last.end / pageSize) > Math.floor(range.start / pageSize);
    if (shared) joined[joined.length - 1] = { start: last.start, end: range.end };
    else joined.push(range);
  }
  const end = joined.at(-1)?.end ?? 0;
  requireFact(Math.ceil(end / pageSize) * pageSize <= PHYSICAL_LIMIT, 'ranges', end);
  requireFact(joined.length <= MAX_RANGES, 'ranges.length', joined.length);
  return new PageRanges(joined, pageSize);
}

/** Checks the mappings of one walk, one after the other: an address space may be anybody's code. */
export class MappingOrder {
  private page: number;
  private offset = 0;
  /** The last one that was sound. */
  private pageSize = KVA_PAGE;

  /** @param toPage the page behind the window that the walk was asked for */
  constructor(
    fromPage: number,
    private readonly toPage: number,
  ) {
    this.page = fromPage;
  }

  /** @throws KvmError `INVALID_ARGUMENT` for a mapping out of order, outside of the window, or of an impossible shape */
  check(mapping: Mapping): void {
    const { page, offset, pa, length, pageSize } = mapping;
    const end = offset + length;
    const endPage = page + Math.floor(end / KVA_PAGE);
    const endOffset = end % KVA_PAGE;
    const sound =
      (page > this.page || (page === this.page && offset >= this.offset)) &&
      offset >= 0 &&
      offset < KVA_PAGE &&
      (endPage < this.toPage || (endPage === this.toPage && endOffset === 0)) &&
      (offset | pa | length) % UNIT === 0 &&
      Number.isSafeInteger(page) &&
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(length) &&
      isPhysical(pa) &&
      length > 0 &&
      pa + length <= PHYSICAL_LIMIT &&
      (pageSize === this.pageSize || (pageSize >= UNIT && Math.log2(pageSize) % 1 === 0));
    if (!sound) throw this.unsound(mapping);
    this.pageSize = pageSize;
    this.page = endPage;
    this.offset = endOffset;
  }

  private unsound({ page, offset, pa, length, pageSize }: Mapping): KvmError {
    const parts = [
      `${length} bytes at ${kvaOf(page, offset).toString(16)}`,
      `PA ${toHex(pa)}`,
      `pages of ${pageSize}`,
    ];
    return new KvmError(
      'INVALID_ARGUMENT',
      `the address space gives an unsound mapping: ${parts.join(', ')}`,
      {
        address: kvaOf(page, offset),
        addressSpace: 'virtual',
        hint: 'mappings ascend without overlap within the window asked for, in units of 1 KB, to PAs below 2^52',
      },
    );
  }
}

function isPageSize(size: number): boolean {
  return size >= KVA_PAGE && size <= 2 ** 30 && Math.log2(size) % 1 === 0;
}

function isPhysical(pa: number): boolean {
  return Number.isSafeInteger(pa) && pa >= 0 && pa < PHYSICAL_LIMIT;
}

function requireFact(sound: boolean, field: string, value: number | bigint): void {
  if (sound) return;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `a dump cannot be made of a source whose ${field} is ${toHex(value)}`,
    {
      field,
    },
  );
}

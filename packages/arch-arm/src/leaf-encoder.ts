import {
  ENTRY_LEAF,
  GLOBAL,
  MEMORY_TYPE_MASK,
  TableEntry,
  toHex,
  type ByteOrder,
  type EncodedLeaf,
  type LeafEncoder,
  type PageMapping,
  type RadixFormat,
  type TableEncoder,
} from '@libkvm/minidump-core';
import { ALL_RIGHTS } from './access.js';

export const LARGE_PAGE = 0x1_0000;
export const SECTION = 0x10_0000;
/** Memory type and the global flag: what an entry is kept for, beside the place that it maps. */
const KIND = GLOBAL | MEMORY_TYPE_MASK;

/** How the entries of an arm minidump are made. */
export interface ArmLeafOptions {
  readonly byteOrder: ByteOrder;
  /** Whether exact entries of mappings are of this format: they are kept, as far as they say the same here. */
  readonly exact: boolean;
}

/**
 * Makes the entries of arm minidumps, one for each 4 KB. What all formats share: exact entries that map the same place are
 * kept, or lent their attributes to the parts of a section; all others are made anew, as for page tables.
 */
export abstract class ArmLeafEncoder implements LeafEncoder {
  /** As the dialect reads entries. */
  abstract readonly format: RadixFormat;
  readonly byteOrder: ByteOrder;
  protected readonly entry = new TableEntry();

  constructor(
    protected readonly anew: TableEncoder,
    protected readonly options: ArmLeafOptions,
  ) {
    this.byteOrder = options.byteOrder;
  }

  encode(mapping: PageMapping, out: EncodedLeaf): string | undefined {
    const { pa, length } = mapping;
    const { physicalLimit } = this.anew.leaves[0];
    if (pa + length > physicalLimit) {
      return `its PA is above ${toHex(physicalLimit - 1)}, the last one that an entry of ${this.format.name} has`;
    }
    out.step = 4096;
    if (!this.mapsSame(mapping) || !this.keep(mapping, out)) this.make(mapping, out);
    return undefined;
  }

  /** Puts the exact entry or, of a section, what it says of the part at hand into `out`; false when it says otherwise. */
  protected abstract keep(mapping: PageMapping, out: EncodedLeaf): boolean;

  /** Makes an entry anew. */
  protected abstract make(mapping: PageMapping, out: EncodedLeaf): void;

  /** Whether there is an exact entry that maps what the mapping does, whatever rights it gives. */
  private mapsSame({ entryBits, level, entryLow, entryHigh, page, pa, pageSize }: PageMapping): boolean {
    const { entry, format } = this;
    if (!this.options.exact || entryBits !== format.entryBytes * 8 || level < 1) return false;
    format.decode(level, entryLow, entryHigh, entry, 12);
    return (
      entry.kind === ENTRY_LEAF &&
      entry.size === pageSize &&
      pa >= entry.pa &&
      pa < entry.pa + entry.size &&
      isAligned(page, pa, Math.min(entry.size, LARGE_PAGE))
    );
  }

  /** Whether the exact entry that was decoded gives these flags but for rights. */
  protected isOfKind(flags: number): boolean {
    return ((this.entry.flags ^ flags) & KIND) === 0;
  }

  /** Whether it gives these rights. */
  protected hasRights(flags: number): boolean {
    return ((this.entry.flags ^ flags) & ALL_RIGHTS) === 0;
  }
}

/** Whether a page (KVA >> 12) and a PA have the same place in a page of `size` bytes. */
export function isAligned(page: number, pa: number, size: number): boolean {
  return ((page % 0x1_0000) * 4096 - pa) % size === 0;
}

/** Whether a mapping is to be held by the descriptors of large pages. */
export function isLarge({ page, pa, pageSize }: PageMapping): boolean {
  return pageSize >= LARGE_PAGE && pageSize < SECTION && isAligned(page, pa, LARGE_PAGE);
}

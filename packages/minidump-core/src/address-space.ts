import type { LeafTable } from './leaf-table.js';

/** Outcome of a translation. */
export const MAPPED = 0;
/** No valid entry. */
export const UNMAPPED = 1;
/** A page table on the way is not in the core: whether the address is mapped is unknown. */
export const TABLE_ABSENT = 2;
/** A page table on the way lies past the end of the file. */
export const TABLE_TRUNCATED = 3;
/** The machine has no such address. */
export const NOT_CANONICAL = 4;
/** An entry whose meaning this format does not define. */
export const UNSUPPORTED_ENTRY = 5;

/** A walk was given up: page tables refer to each other without end. Only enumerations say so. */
export const TABLE_LOOP = 6;

/** One of the outcomes above. */
export type Outcome = 0 | 1 | 2 | 3 | 4 | 5 | 6;

/** Flags of a mapping: the first three as FreeBSD's `kp_prot` (lib/libkvm/kvm.h). */
export const READ = 1;
export const WRITE = 2;
export const EXECUTE = 4;
/** Reachable from user mode. */
export const USER = 8;
/** Not flushed on a change of address space. */
export const GLOBAL = 16;
/** Made by a dumper or writer: no hardware entry looked like this. */
export const SYNTHESISED = 32;

/**
 * Bits 12:8 of the flags hold the hardware's memory type as the entry names it: an index whose meaning is the entry
 * format's (x86: PAT, PCD, PWT; ARM short descriptors: TEX, C, B; LPAE and arm64: AttrIndx).
 */
export const MEMORY_TYPE_SHIFT = 8;
export const MEMORY_TYPE_MASK = 0x1f00;

/** KVAs are split at 4 KB, whatever the page size of the machine: page number (below 2^52) and offset. */
export const KVA_PAGE = 4096;

/**
 * The answer to one translation; the caller keeps one and reuses it. Fields other than `outcome` and `length` have a
 * meaning only as said.
 */
export class Translation {
  outcome: Outcome = UNMAPPED;
  /** Physical address of the byte asked for, when mapped. When a table is missing: the PA of that table. */
  pa = 0;
  /** Bytes from the byte asked for on for which the same answer holds (contiguous in PA when mapped); at least 1. */
  length = 0;
  /** READ, WRITE, EXECUTE, USER, GLOBAL, SYNTHESISED, when mapped. */
  flags = 0;
  /** Bytes of the hardware mapping (page, superpage, section), when mapped. */
  pageSize = 0;
  /** The exact entry that ended the walk, low and high half; `entryBits` is its width, 0 when there is none. */
  entryLow = 0;
  entryHigh = 0;
  entryBits = 0;
  /** Level of that entry: 1 is the last level (pages), 2 the one above, and so on; 0 when there is none. */
  level = 0;

  /** Sets the answer to one without a mapping and returns the outcome. */
  miss(outcome: Outcome, length: number, pa = 0): Outcome {
    this.outcome = outcome;
    this.length = length;
    this.pa = pa;
    this.flags = 0;
    this.pageSize = 0;
    return outcome;
  }

  /** Sets the entry that ended the walk. */
  setEntry(level: number, low: number, high: number, bits: number): void {
    this.level = level;
    this.entryLow = low;
    this.entryHigh = high;
    this.entryBits = bits;
  }
}

/** One hardware mapping, superpages whole, or a part of the address space whose page table is missing. */
export class Mapping extends Translation {
  /** Page number of its first byte: KVA >> 12, below 2^52. */
  page = 0;
  /** Offset of its first byte in that 4 KB page: 0, but for 1 KB pages. */
  offset = 0;
}

/** A walk over mappings in ascending order. It can be left and taken up again at any time. */
export interface MappingCursor {
  /**
   * Moves to the next mapping and fills `out`: outcome MAPPED, or TABLE_ABSENT, TABLE_TRUNCATED, UNSUPPORTED_ENTRY or
   * TABLE_LOOP for what cannot be told. False at the end. Nothing changes when the source throws: call it again.
   */
  next(out: Mapping): boolean;
  /**
   * Passes over mappings at hand that go on where `out`, the answer of the last {@link MappingCursor.next}, ends, both in
   * KVA and in PA, whatever their protection; returns their bytes. It reads nothing and may stop anywhere: a short cut for
   * bulk reads.
   */
  follow?(out: Mapping): number;
}

/**
 * The second map of a core: KVA -> PA, protection, page size. Invalid and damaged tables are answers, never exceptions,
 * and every look-up and walk is bounded by the format.
 */
export interface AddressSpace {
  /** Name of the page-table entry format, where entries have one. */
  readonly pteFormat?: string;
  /**
   * Translates one address, given as page number (KVA >> 12, zero-extended) and offset in the page. Fills `out` and
   * returns its outcome.
   */
  translate(page: number, offset: number, out: Translation): Outcome;
  /** The mappings that lie in pages `[fromPage, toPage)`, ascending; those at the edges are cut to it. */
  mappings(fromPage: number, toPage: number): MappingCursor;
  /**
   * Fills `out` with the last-level table that translates a page, where there is one in physical memory; false otherwise.
   * Formats that refer to page-table pages keep it; without this method they make tables up.
   */
  leafTable?(page: number, out: LeafTable): boolean;
}

/** An entry as a bigint, for the public edge. */
export function entryOf(translation: Translation): bigint | undefined {
  if (translation.entryBits === 0) return undefined;
  return (BigInt(translation.entryHigh >>> 0) << 32n) | BigInt(translation.entryLow >>> 0);
}

/** `r--`, `rw-`, `r-x`, `rwx` and the like. */
export function protectionOf(flags: number): string {
  return (flags & READ ? 'r' : '-') + (flags & WRITE ? 'w' : '-') + (flags & EXECUTE ? 'x' : '-');
}

import type { Registers } from './architecture.js';
import type { RadixFormat } from './radix-format.js';
import type { AddressHole } from './radix-space.js';
import type { ByteOrder } from './struct.js';

/** The tables of one level of a page-table tree. */
export interface TableLevel {
  /** log2 of the bytes that one entry spans. */
  readonly shift: number;
  /** Entries of a table. */
  readonly entries: number;
  /** Bytes from one table to the next, a power of two: no less than the alignment that hardware asks for. */
  readonly tableBytes: number;
}

/** A size of pages that hardware can map. */
export interface LeafKind {
  /** Bytes; more than an entry spans where hardware repeats the entry. */
  readonly size: number;
  /** Level of its entries: 1 is the last one. */
  readonly level: number;
  /** PAs from here on do not fit into the entry. */
  readonly physicalLimit: number;
}

/** An entry as it is written: its halves; `high` is 0 in entries of 4 bytes. */
export interface EntryHalves {
  low: number;
  high: number;
}

/**
 * How page tables of one format are made: what {@link RadixFormat} is for reading. Every entry that is made is read back
 * with `format`, and what comes out otherwise is counted as lost; so an encoder just does its best.
 */
export interface TableEncoder {
  readonly format: RadixFormat;
  readonly byteOrder: ByteOrder;
  /** From the last level (1) on upwards; the last one is the root. */
  readonly levels: readonly TableLevel[];
  /** Page sizes, ascending. */
  readonly leaves: readonly LeafKind[];
  /** All tables have to lie below this PA. */
  readonly tableLimit: number;
  /** Addresses that these tables cannot map. */
  readonly hole?: AddressHole;
  /** Where mappings that these tables cannot hold may be held: by 5 levels, by tables of smaller pages. */
  readonly alternative?: TableEncoder;
  /** The entry of the root that a page (KVA >> 12) belongs to; its number modulo the entries unless given. */
  rootIndex?(page: number): number;
  /** The entry that maps `kind.size` bytes from `pa` on, with the flags of a mapping. */
  encodeLeaf(kind: LeafKind, pa: number, flags: number, out: EntryHalves): void;
  /** The sizes of pages whose quarters can have rights of their own (ARMv5), all of them among `leaves`. */
  readonly quarteredSizes?: readonly number[];
  /** Makes the entry of such a page; false for pages of another size. */
  encodeQuarters?(kind: LeafKind, pa: number, flags: readonly number[], out: EntryHalves): boolean;
  /** The entry of a table of level `level` that names a table of the level below, and takes no right away. */
  encodeTable(level: number, pa: number, out: EntryHalves): void;
  /** The control registers with which a processor, and this library's walker, reads the tables. */
  registers(root: number): Registers;
  /**
   * The registers that tables in memory are walked with, completed so that they alone tell the format and the byte order,
   * even where those were told by hand. The same ones unless given.
   */
  completeRegisters?(registers: Registers): Registers;
}

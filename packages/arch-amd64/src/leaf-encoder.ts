import {
  ENTRY_LEAF,
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_MASK,
  TableEntry,
  USER,
  WRITE,
  type EncodedLeaf,
  type EntryHalves,
  type LeafEncoder,
  type Mapping,
  type RadixFormat,
} from '@libkvm/minidump-core';
import { amd64Format } from './format.js';
import { amd64TableEncoder } from './table-encoder.js';

const RW = 2;
const US = 4;
const PS = 0x80;
const PAT_LARGE = 0x1000;
const XD_HIGH = 0x8000_0000;
/**
 * Present, writable, accessed, dirty: what FreeBSD puts into entries that name a table, and its flat minidumps into the
 * parts of superpages.
 */
const FREEBSD_DEFAULT = 0x63;
/** Bits 11:0 that mean the same in leaf entries of all levels: all but PS and PAT. */
const COMMON_LOW = 0xf7f;
/** Bits 63:52. */
const COMMON_HIGH = 0xfff0_0000;
/** Rights that an entry can take away. */
const RIGHTS = WRITE | EXECUTE | USER;

/**
 * Makes an entry that names a table and takes no right away from what lies below it, other than those of user mode
 * unless it has any there.
 */
export function encodeAmd64Table(pa: number, user: boolean, out: EntryHalves): void {
  setEntry(out, pa, FREEBSD_DEFAULT | (user ? US : 0), 0);
}

/** Takes from an entry the rights that `flags` lack. */
export function restrictAmd64Entry(flags: number, out: EntryHalves): void {
  const denied = (flags & WRITE ? 0 : RW) | (flags & USER ? 0 : US);
  out.low = (out.low & ~denied) >>> 0;
  if ((flags & EXECUTE) === 0) out.high = (out.high | XD_HIGH) >>> 0;
}

/** Entries of the page directory read as such whatever level is asked for. */
const directoryFormat: RadixFormat = {
  ...amd64Format,
  decode: (_level, low, high, out, shift) => amd64Format.decode(2, low, high, out, shift),
};

/** How {@link Amd64LeafEncoder} makes entries. */
export interface Amd64LeafOptions {
  /** 1: entries of page tables, for 4 KB each; 2: entries of page directories, for 2 MB each. */
  readonly level: 1 | 2;
  /** Whether exact entries of mappings are of this format: they are kept, as far as the level and the rights allow. */
  readonly exact: boolean;
  /** Whether parts of superpages get what FreeBSD's version 1 dumper gave them: 0x63, whatever the superpage allowed. */
  readonly fixedParts?: boolean;
}

/** Makes the entries of amd64 minidumps. PAs of mappings are checked before: there is none that it cannot hold. */
export class Amd64LeafEncoder implements LeafEncoder {
  readonly format: RadixFormat;
  readonly byteOrder = 'little';
  private readonly entry = new TableEntry();

  constructor(private readonly options: Amd64LeafOptions) {
    this.format = options.level === 1 ? amd64Format : directoryFormat;
  }

  encode(mapping: Mapping, out: EncodedLeaf): undefined {
    const { level, fixedParts } = this.options;
    const { pa, flags, pageSize } = mapping;
    out.step = 4096;
    if (fixedParts === true && pageSize > 4096) setEntry(out, pa, FREEBSD_DEFAULT, 0);
    else if (this.readsAs(mapping)) this.keep(mapping, out);
    else amd64TableEncoder.encodeLeaf(amd64TableEncoder.leaves[level - 1], pa, flags, out);
  }

  /** Whether the exact entry of a mapping says no less than the mapping does. */
  private readsAs({ entryBits, entryLow, entryHigh, level, pa, flags, pageSize }: Mapping): boolean {
    if (!this.options.exact || entryBits !== 64 || level < this.options.level || level > 3) return false;
    const { entry } = this;
    amd64Format.decode(level, entryLow, entryHigh, entry, 12);
    return (
      entry.kind === ENTRY_LEAF &&
      entry.size === pageSize &&
      pa >= entry.pa &&
      pa < entry.pa + entry.size &&
      ((entry.flags ^ flags) & (GLOBAL | MEMORY_TYPE_MASK)) === 0 &&
      (flags & ~entry.flags & RIGHTS) === 0
    );
  }

  /** The exact entry; of a larger page the part at `pa`, with all attributes in their places. */
  private keep({ entryLow, entryHigh, level, pa, flags }: Mapping, out: EncodedLeaf): void {
    const large = level > 1;
    if (level === this.options.level && pa === this.entry.pa) {
      out.low = entryLow >>> 0;
      out.high = entryHigh >>> 0;
    } else {
      const pat = entryLow & (large ? PAT_LARGE : PS) ? (this.options.level === 1 ? PS : PAT_LARGE) : 0;
      const ps = this.options.level === 1 ? 0 : PS;
      setEntry(out, pa, (entryLow & COMMON_LOW) | pat | ps, entryHigh & COMMON_HIGH);
    }
    restrictAmd64Entry(flags, out);
  }
}

function setEntry(out: EntryHalves, pa: number, low: number, high: number): void {
  out.low = ((pa % 0x1_0000_0000) | low) >>> 0;
  out.high = (Math.floor(pa / 0x1_0000_0000) | high) >>> 0;
}

import {
  ENTRY_LEAF,
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_MASK,
  TableEntry,
  USER,
  WRITE,
  type EncodedLeaf,
  type LeafEncoder,
  type Mapping,
  type RadixFormat,
  type TableEncoder,
} from '@libkvm/minidump-core';
import { PAT_LARGE, PAT_SMALL } from './leaf-flags.js';
import { i386NopaeTableEncoder, i386PaeTableEncoder } from './table-encoder.js';

const FOUR_GB = 2 ** 32;
const RW = 2;
const US = 4;
const XD_HIGH = 0x8000_0000;
/** Present, writable, accessed, dirty: what FreeBSD's dumper gives the parts of superpages. */
const FREEBSD_PART = 0x63;
/** Bits 11:0 that mean the same in entries of 4 KB pages and of superpages: all but PS and PAT. */
const COMMON_LOW = 0xf7f;
/** Bits 63:52, which PAE entries of both have in common. */
const COMMON_HIGH = 0xfff0_0000;
/** Rights that an entry can take away. */
const RIGHTS = WRITE | EXECUTE | USER;

/** How {@link I386LeafEncoder} makes entries. */
export interface I386LeafOptions {
  /** Entries of 8 bytes instead of 4. */
  readonly pae: boolean;
  /** Whether exact entries of mappings are of this format: they are kept, as far as the rights allow. */
  readonly exact: boolean;
  /** Whether parts of superpages get what FreeBSD's dumper gives them, whatever the superpage allowed. */
  readonly fixedParts: boolean;
}

/** Makes the entries of i386 minidumps, one for each 4 KB. */
export class I386LeafEncoder implements LeafEncoder {
  readonly format: RadixFormat;
  readonly byteOrder = 'little';
  private readonly anew: TableEncoder;
  private readonly entry = new TableEntry();

  constructor(private readonly options: I386LeafOptions) {
    this.anew = options.pae ? i386PaeTableEncoder : i386NopaeTableEncoder;
    this.format = this.anew.format;
  }

  encode(mapping: Mapping, out: EncodedLeaf): string | undefined {
    const { pae, fixedParts } = this.options;
    const { pa, length, flags, pageSize } = mapping;
    if (!pae && pa + length > FOUR_GB) return 'its PA is above 4 GB, and entries have 4 bytes without PAE';
    out.step = 4096;
    if (fixedParts && pageSize > 4096) setEntry(out, pa, FREEBSD_PART, 0);
    else if (this.saysNoLess(mapping)) this.keep(mapping, out);
    else this.anew.encodeLeaf(this.anew.leaves[0], pa, flags, out);
    return undefined;
  }

  /** Whether the exact entry of a mapping allows what the mapping does, or more, and is the same otherwise. */
  private saysNoLess({ entryBits, entryLow, entryHigh, level, pa, flags, pageSize }: Mapping): boolean {
    const { entry, format } = this;
    if (!this.options.exact || entryBits !== format.entryBytes * 8 || level < 1 || level > 2) return false;
    format.decode(level, entryLow, entryHigh, entry, 12);
    return (
      entry.kind === ENTRY_LEAF &&
      entry.size === pageSize &&
      pa >= entry.pa &&
      pa < entry.pa + entry.size &&
      ((entry.flags ^ flags) & (GLOBAL | MEMORY_TYPE_MASK)) === 0 &&
      (flags & ~entry.flags & RIGHTS) === 0
    );
  }

  /** The exact entry without the rights that upper levels take away; of a superpage the part at `pa`. */
  private keep({ entryLow, entryHigh, level, pa, flags }: Mapping, out: EncodedLeaf): void {
    if (level === 1) {
      out.low = entryLow >>> 0;
      out.high = entryHigh >>> 0;
    } else {
      const pat = entryLow & PAT_LARGE ? PAT_SMALL : 0;
      setEntry(out, pa, (entryLow & COMMON_LOW) | pat, entryHigh & COMMON_HIGH);
    }
    const denied = (flags & WRITE ? 0 : RW) | (flags & USER ? 0 : US);
    out.low = (out.low & ~denied) >>> 0;
    if (this.options.pae && (flags & EXECUTE) === 0) out.high = (out.high | XD_HIGH) >>> 0;
  }
}

function setEntry(out: EncodedLeaf, pa: number, low: number, high: number): void {
  out.low = ((pa % FOUR_GB) | low) >>> 0;
  out.high = (Math.floor(pa / FOUR_GB) | high) >>> 0;
}

import { EXECUTE, USER, WRITE, type EncodedLeaf, type PageMapping } from '@libkvm/minidump-core';
import { ArmLeafEncoder, type ArmLeafOptions } from './leaf-encoder.js';
import { armLpaeFormat } from './lpae-format.js';
import { armLpaeTableEncoder } from './table-encoder.js';

/** Bits 11:2, and in the high half 63:53: all attributes but the contiguous hint (bit 52). */
const LOW_ATTRIBUTES = 0xffc;
const HIGH_ATTRIBUTES = 0xffe0_0000;
const AP1_USER = 1 << 6;
const AP2_READ_ONLY = 1 << 7;
/** Bits 54 and 53, XN and PXN, in the high half. */
const NEVER_EXECUTED = 0x60_0000;
const PAGE = 3;

/**
 * Entries of mmuformat 3: the third-level descriptors of the Large Physical Address Extension. Blocks become pages with
 * the same attributes; what tables of upper levels take away (Arm ARM DDI 0406, B3.6.2) is taken away in the page.
 */
export class ArmLpaeLeafEncoder extends ArmLeafEncoder {
  readonly format = armLpaeFormat;

  constructor(options: ArmLeafOptions) {
    super(armLpaeTableEncoder(options.byteOrder), options);
  }

  protected override keep({ level, pa, flags, entryLow, entryHigh }: PageMapping, out: EncodedLeaf): boolean {
    if (!this.isOfKind(flags)) return false;
    out.low = entryLow >>> 0;
    out.high = entryHigh >>> 0;
    if (level > 1) {
      out.low = ((pa & ~0xfff) | (entryLow & LOW_ATTRIBUTES) | PAGE) >>> 0;
      out.high = (Math.floor(pa / 0x1_0000_0000) | (entryHigh & HIGH_ATTRIBUTES)) >>> 0;
    }
    if (!this.hasRights(flags)) setRights(out, flags);
    return true;
  }

  protected override make({ pa, flags }: PageMapping, out: EncodedLeaf): void {
    this.anew.encodeLeaf(this.anew.leaves[0], pa, flags, out);
  }
}

function setRights(out: EncodedLeaf, flags: number): void {
  const access = (flags & USER ? AP1_USER : 0) | (flags & WRITE ? 0 : AP2_READ_ONLY);
  out.low = ((out.low & ~(AP1_USER | AP2_READ_ONLY)) | access) >>> 0;
  if (flags & EXECUTE) out.high &= ~NEVER_EXECUTED;
  else if ((out.high & NEVER_EXECUTED) === 0) out.high |= NEVER_EXECUTED;
  out.high >>>= 0;
}

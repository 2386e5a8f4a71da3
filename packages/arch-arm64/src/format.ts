import {
  EXECUTE,
  GLOBAL,
  MEMORY_TYPE_SHIFT,
  READ,
  USER,
  WRITE,
  type RadixFormat,
  type TableEntry,
} from '@libkvm/minidump-core';
import { hasBlocks, levelShift, pageShift, type Granule } from './granule.js';

/**
 * Whose reading of the execute bits the flags of a mapping show.
 *
 * - `hardware`: privileged code may execute unless PXN says no. The default.
 * - `libkvm`: nobody executes if UXN or PXN is set (lib/libkvm/kvm_minidump_aarch64.c): for comparison.
 */
export type Arm64View = 'hardware' | 'libkvm';

const AP1_USER = 1 << 6;
const AP2_READ_ONLY = 1 << 7;
const NOT_GLOBAL = 1 << 11;
/** Bits 54 and 53, in the high half. */
const UXN = 1 << 22;
const PXN = 1 << 21;
/** Bits 62, 61 and 59 of a table entry: APTable and PXNTable. */
const TABLE_NO_WRITE = 1 << 30;
const TABLE_NO_USER = 1 << 29;
const TABLE_PXN = 1 << 27;
/** PA[47:32]. */
const HIGH_ADDRESS = 0xffff;

const ALL_RIGHTS = READ | WRITE | EXECUTE | USER;

/**
 * Descriptors of VMSAv8-64, stage 1, with addresses of 48 bits (Arm ARM DDI 0487, D8.3): level 1 here is the manual's
 * level 3. Reserved bits are masked, the contiguous hint and the access flag are ignored, and what DBM would let the
 * hardware make writable is read-only until it has.
 */
export class Arm64Format implements RadixFormat {
  readonly name: string;
  readonly entryBytes = 8;
  private readonly shift: number;
  private readonly entries: number;

  constructor(
    readonly granule: Granule,
    private readonly view: Arm64View = 'hardware',
  ) {
    this.name = `arm64-${granule / 1024}k`;
    this.shift = pageShift(granule);
    this.entries = granule / 8;
  }

  decode(level: number, low: number, high: number, out: TableEntry): void {
    if ((low & 1) === 0) return out.setInvalid();
    const upper = (high & HIGH_ADDRESS) * 0x1_0000_0000;
    const pageOrTable = (low & 2) !== 0;
    const frame = upper + maskLow(low, this.shift);
    if (level === 1) {
      if (!pageOrTable) return out.setInvalid();
      return out.setLeaf(frame, this.granule, this.leafRights(low, high));
    }
    if (pageOrTable) {
      return out.setTable(frame, levelShift(this.granule, level - 1), this.entries, tableRights(high));
    }
    if (!hasBlocks(this.granule, level)) return out.setInvalid();
    const shift = levelShift(this.granule, level);
    out.setLeaf(upper + maskLow(low, shift), 1 << shift, this.leafRights(low, high));
  }

  /**
   * AP[2:1] as in DDI 0487, table D8-43: bit 7 forbids writing, bit 6 lets EL0 in. The memory type is AttrIndx, bits 4:2.
   */
  private leafRights(low: number, high: number): number {
    const never = this.view === 'libkvm' ? UXN | PXN : PXN;
    return (
      READ |
      (low & AP2_READ_ONLY ? 0 : WRITE) |
      (high & never ? 0 : EXECUTE) |
      (low & AP1_USER ? USER : 0) |
      (low & NOT_GLOBAL ? 0 : GLOBAL) |
      (((low >>> 2) & 7) << MEMORY_TYPE_SHIFT)
    );
  }
}

/** What APTable and PXNTable leave to the entries below (DDI 0487, D8.4.3). */
function tableRights(high: number): number {
  const lost =
    (high & TABLE_NO_WRITE ? WRITE : 0) |
    (high & TABLE_NO_USER ? USER : 0) |
    (high & TABLE_PXN ? EXECUTE : 0);
  return ALL_RIGHTS & ~lost;
}

/** Bits 31:shift, as an unsigned number: no block or page spans 4 GB. */
function maskLow(low: number, shift: number): number {
  return (low & (-1 << shift)) >>> 0;
}

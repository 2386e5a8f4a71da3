import {
  MEMORY_TYPE_SHIFT,
  USER,
  WRITE,
  type ByteOrder,
  type EntryHalves,
  type LeafKind,
  type TableEncoder,
} from '@libkvm/minidump-core';
import { completeArmRegisters } from './complete-registers.js';
import type { ArmPteFormat } from './pte-format.js';
import { COARSE, FIRST_LEVEL, supersectionAddress } from './short-table-encoder.js';
import {
  armV4Format,
  armV6SubpagesFormat,
  armXscale3Format,
  armXscaleFormat,
  type ArmV4Format,
} from './v4-format.js';

const FOUR_GB = 2 ** 32;
const MB = 0x10_0000;
/** Bit 4 of first-level entries should be 1 before ARMv6. */
const SHOULD_BE_ONE = 0x10;
/** Second-level tables of 4 KB, for pages of 1 KB. */
const FINE = { shift: 10, entries: 1024, tableBytes: 0x1000 };

const TINY: LeafKind = { size: 0x400, level: 1, physicalLimit: FOUR_GB };
const KINDS: readonly LeafKind[] = [
  { size: 0x1000, level: 1, physicalLimit: FOUR_GB },
  { size: 0x1_0000, level: 1, physicalLimit: FOUR_GB },
  { size: MB, level: 2, physicalLimit: FOUR_GB },
];
/** Small and large pages. */
const QUARTERED = [0x1000, 0x1_0000];
const SUPERSECTION: LeafKind = { size: 16 * MB, level: 2, physicalLimit: 2 ** 36 };

/** What the formats before {@link armV6TableEncoder} differ in. */
interface OldFormat {
  readonly format: ArmV4Format;
  readonly supersections: boolean;
  /** Has TEX: sections, large pages, and extended small pages. */
  readonly tex: boolean;
  readonly fine: boolean;
}

type OldName = Exclude<ArmPteFormat, 'v6' | 'lpae'>;

const FORMATS: Readonly<Record<OldName, OldFormat>> = {
  v4: { format: armV4Format, supersections: false, tex: false, fine: true },
  xscale: { format: armXscaleFormat, supersections: false, tex: true, fine: true },
  xscale3: { format: armXscale3Format, supersections: true, tex: true, fine: true },
  'v6-subpages': { format: armV6SubpagesFormat, supersections: true, tex: true, fine: false },
};

/**
 * Short descriptors before ARMv6, and of ARMv6 with subpages (Arm ARM DDI 0100, B3.7): coarse tables, or fine ones
 * throughout where anything is mapped in pages of 1 KB. There is no execute-never, and nobody can be given user access
 * without write access for the kernel.
 */
export function armOldTableEncoder(name: OldName, byteOrder: ByteOrder): TableEncoder {
  const coarse = tables(name, byteOrder, false);
  return FORMATS[name].fine ? { ...coarse, alternative: tables(name, byteOrder, true) } : coarse;
}

function tables(name: OldName, byteOrder: ByteOrder, fine: boolean): TableEncoder {
  const { format, supersections, tex, fine: armv5 } = FORMATS[name];
  return {
    format,
    byteOrder,
    levels: [fine ? FINE : COARSE, FIRST_LEVEL],
    leaves: [...(fine ? [TINY] : []), ...KINDS, ...(supersections ? [SUPERSECTION] : [])],
    tableLimit: FOUR_GB,
    encodeLeaf: (kind, pa, flags, out) => encode(kind, pa, flags, ap(flags) * 0x55, tex && !fine, tex, out),
    quarteredSizes: QUARTERED,
    encodeQuarters(kind, pa, flags, out) {
      if (!QUARTERED.includes(kind.size)) return false;
      const fields = flags.reduce((sum, own, i) => sum | (ap(own) << (2 * i)), 0);
      encode(kind, pa, flags[0], fields, false, tex, out);
      return true;
    },
    encodeTable(_level: number, pa: number, out: EntryHalves): void {
      out.low = (pa | (fine ? 3 : 1) | (armv5 ? SHOULD_BE_ONE : 0)) >>> 0;
      out.high = 0;
    },
    registers: (root) => completeArmRegisters({ TTBR0: BigInt(root) }, name, byteOrder),
    completeRegisters: (registers) => completeArmRegisters(registers, name, byteOrder),
  };
}

/** Access bits: 01 privileged read and write, 11 all, 00 nobody writes. */
function ap(flags: number): number {
  return flags & WRITE ? (flags & USER ? 3 : 1) : 0;
}

/**
 * @param fields the AP bits of the four quarters
 * @param extended whether small pages may be extended ones, which have TEX and no quarters
 */
function encode(
  { size }: LeafKind,
  pa: number,
  flags: number,
  fields: number,
  extended: boolean,
  hasTex: boolean,
  out: EntryHalves,
): void {
  const type = flags >>> MEMORY_TYPE_SHIFT;
  const cacheable = (type & 3) << 2;
  const tex = hasTex ? (type >>> 2) & 7 : 0;
  const own = fields & 3;
  out.high = 0;
  if (size >= MB) {
    const address = size === MB ? pa : supersectionAddress(pa);
    out.low = address | (own << 10) | (tex << 12) | cacheable | SHOULD_BE_ONE | 2;
  } else if (size === 0x1_0000) out.low = pa | (fields << 4) | (tex << 12) | cacheable | 1;
  else if (size === 0x400) out.low = pa | (own << 4) | cacheable | 3;
  else if (extended && tex > 0) out.low = pa | (own << 4) | (tex << 6) | cacheable | 3;
  else out.low = pa | (fields << 4) | cacheable | 2;
  out.low >>>= 0;
}

import { READ, WRITE, type RadixFormat, type TableEntry } from '@libkvm/minidump-core';
import { ALL_RIGHTS, apRights, shortMemoryType, type ArmView } from './access.js';

/** What the members of the ARMv4/v5 family differ in. */
export interface ArmV4Options {
  /** First-level type 3 names a fine table of 1024 entries of 1 KB. ARMv6 has none. Default true. */
  readonly fineTables?: boolean;
  /** Second-level type 3 in a coarse table is an extended small page (XScale, ARMv6), not a fault. Default false. */
  readonly extendedSmallPages?: boolean;
  /** Bit 18 of a section makes it a supersection of 16 MB (third-generation XScale, ARMv6). Default false. */
  readonly supersections?: boolean;
  /** Default `hardware`. */
  readonly view?: ArmView;
}

const MB = 0x10_0000;
const SUPERSECTION = 1 << 18;
/** log2 of the bytes that an entry of a coarse and of a fine table spans. */
const COARSE_SHIFT = 12;
const FINE_SHIFT = 10;
const NO_TEX = -1;

/**
 * Page-table entries of ARMv4 and ARMv5, and of ARMv6 with subpages enabled (Arm ARM DDI 0100, B3.7 and B4.7.3): level 2
 * is the first-level table of 4096 entries, level 1 a coarse or a fine table.
 *
 * The four 16 KB or 1 KB quarters of large and small pages have AP bits of their own. The flags given here are those of
 * the first quarter; {@link SubpageSpace} puts right the others. Domains are ignored.
 */
export class ArmV4Format implements RadixFormat {
  readonly entryBytes = 4;
  readonly view: ArmView;
  private readonly fineTables: boolean;
  private readonly extendedSmallPages: boolean;
  private readonly supersections: boolean;

  constructor(
    readonly name: string,
    options: ArmV4Options = {},
  ) {
    this.view = options.view ?? 'hardware';
    this.fineTables = options.fineTables ?? true;
    this.extendedSmallPages = options.extendedSmallPages ?? false;
    this.supersections = options.supersections ?? false;
  }

  decode(level: number, low: number, _high: number, out: TableEntry, shift: number): void {
    if (level === 2) this.decodeFirst(low, out);
    else this.decodeSecond(low, out, shift);
  }

  private decodeFirst(low: number, out: TableEntry): void {
    switch (low & 3) {
      case 1:
        return out.setTable((low & 0xffff_fc00) >>> 0, COARSE_SHIFT, 256, ALL_RIGHTS);
      case 2:
        return this.decodeSection(low, out);
      case 3:
        if (!this.fineTables) return out.setInvalid();
        return out.setTable((low & 0xffff_f000) >>> 0, FINE_SHIFT, 1024, ALL_RIGHTS);
      default:
        return out.setInvalid();
    }
  }

  private decodeSection(low: number, out: TableEntry): void {
    const flags = apRights((low >>> 10) & 3) | shortMemoryType(low, this.tex(12));
    if (!this.supersections || (low & SUPERSECTION) === 0) {
      return out.setLeaf((low & 0xfff0_0000) >>> 0, MB, flags);
    }
    const high = (low >>> 20) & 0xf;
    out.setLeaf(high * 0x1_0000_0000 + ((low & 0xff00_0000) >>> 0), 16 * MB, flags);
  }

  private decodeSecond(low: number, out: TableEntry, shift: number): void {
    const flags = this.view === 'libkvm' ? libkvmRights(low) : apRights((low >>> 4) & 3);
    switch (low & 3) {
      case 1:
        return out.setLeaf((low & 0xffff_0000) >>> 0, 0x1_0000, flags | shortMemoryType(low, this.tex(12)));
      case 2:
        return out.setLeaf((low & 0xffff_f000) >>> 0, 0x1000, flags | shortMemoryType(low, NO_TEX));
      case 3:
        return this.decodeThird(low, out, shift, flags);
      default:
        return out.setInvalid();
    }
  }

  /** Type 3: a tiny page in a fine table, an extended small page in a coarse one. */
  private decodeThird(low: number, out: TableEntry, shift: number, flags: number): void {
    if (shift === FINE_SHIFT)
      out.setLeaf((low & 0xffff_fc00) >>> 0, 0x400, flags | shortMemoryType(low, NO_TEX));
    else if (this.view === 'libkvm') out.setUnsupported();
    else if (this.extendedSmallPages)
      out.setLeaf((low & 0xffff_f000) >>> 0, 0x1000, flags | shortMemoryType(low, 6));
    else out.setInvalid();
  }

  /** Processors with extended small pages are those with TEX. */
  private tex(position: number): number {
    return this.extendedSmallPages ? position : NO_TEX;
  }
}

/** libkvm takes the low bit of AP0 for all, and nothing for executable. */
function libkvmRights(low: number): number {
  return READ | (low & 0x10 ? WRITE : 0);
}

/** ARMv4 and v5 as the manual has them. */
export const armV4Format = new ArmV4Format('v4');
/** XScale: extended small pages. */
export const armXscaleFormat = new ArmV4Format('xscale', { extendedSmallPages: true });
/** The third generation of XScale: supersections too. */
export const armXscale3Format = new ArmV4Format('xscale3', { extendedSmallPages: true, supersections: true });
/** ARMv6 with subpages enabled (SCTLR.XP clear; ARM1176JZF-S manual, 6.11.1): no fine tables. */
export const armV6SubpagesFormat = new ArmV4Format('v6-subpages', {
  fineTables: false,
  extendedSmallPages: true,
  supersections: true,
});

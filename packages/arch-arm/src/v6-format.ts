import { EXECUTE, GLOBAL, READ, USER, WRITE, type RadixFormat, type TableEntry } from '@libkvm/minidump-core';
import { ALL_RIGHTS, shortMemoryType, type ArmView } from './access.js';

/** How an ARMv6/v7 processor is set up to read access bits. */
export interface ArmV6Options {
  /**
   * SCTLR.AFE: AP[0] is the access flag, and AP[2:1] say it all. FreeBSD sets it (sys/arm/arm/pmap-v6.c), Linux does not.
   * Default false.
   */
  readonly accessFlag?: boolean;
  /** Default `hardware`. */
  readonly view?: ArmView;
}

const MB = 0x10_0000;
const SUPERSECTION = 1 << 18;
const TABLE_PXN = 1 << 2;
const SECTION_PXN = 1 << 0;

/** Positions of the access bits in one kind of descriptor. */
interface AccessBits {
  /** AP[0]; AP[1] is the bit above. */
  readonly ap: number;
  readonly ap2: number;
  readonly notGlobal: number;
  readonly executeNever: number;
  /** TEX[0]; FreeBSD uses TEX[1], the bit above, for "read-only" (PTE1_RO, PTE2_RO in sys/arm/include/pte-v6.h). */
  readonly tex: number;
}

const SECTION: AccessBits = { ap: 10, ap2: 15, notGlobal: 17, executeNever: 4, tex: 12 };
const LARGE_PAGE: AccessBits = { ap: 4, ap2: 9, notGlobal: 11, executeNever: 15, tex: 12 };
const SMALL_PAGE: AccessBits = { ap: 4, ap2: 9, notGlobal: 11, executeNever: 0, tex: 6 };
/** libkvm reads every second-level descriptor as a small page, large ones too. */
const LIBKVM_LARGE_PAGE: AccessBits = { ...LARGE_PAGE, executeNever: 0, tex: 6 };

/**
 * Short descriptors of ARMv6 and ARMv7 (Arm ARM DDI 0406, B3.5.1): level 2 is the first-level table of 4096 entries,
 * level 1 the second-level tables of 256. Domains and NS are ignored.
 *
 * EXECUTE is the privileged view: XN or PXN takes it away. In first-level entries PXN is bit 2 of a table and bit 0 of a
 * section, on processors that have it; on others these bits are zero.
 */
export class ArmV6Format implements RadixFormat {
  readonly name = 'v6';
  readonly entryBytes = 4;
  private readonly accessFlag: boolean;
  private readonly view: ArmView;

  constructor(options: ArmV6Options = {}) {
    this.accessFlag = options.accessFlag ?? false;
    this.view = options.view ?? 'hardware';
  }

  decode(level: number, low: number, _high: number, out: TableEntry): void {
    if (level === 2) this.decodeFirst(low, out);
    else this.decodeSecond(low, out);
  }

  private decodeFirst(low: number, out: TableEntry): void {
    if ((low & 3) === 0) return out.setInvalid();
    if ((low & 3) === 1) {
      const rights = low & TABLE_PXN ? ALL_RIGHTS & ~EXECUTE : ALL_RIGHTS;
      return out.setTable((low & 0xffff_fc00) >>> 0, 12, 256, rights);
    }
    const flags = this.rights(low, SECTION) & (low & SECTION_PXN ? ~EXECUTE : -1);
    if ((low & SUPERSECTION) === 0) return out.setLeaf((low & 0xfff0_0000) >>> 0, MB, flags);
    // Bits 8:5 of a supersection are PA[39:36], not a domain (B3.5.1, supersection descriptor).
    const high = ((low >>> 20) & 0xf) | ((low >>> 1) & 0xf0);
    out.setLeaf(high * 0x1_0000_0000 + ((low & 0xff00_0000) >>> 0), 16 * MB, flags);
  }

  private decodeSecond(low: number, out: TableEntry): void {
    switch (low & 3) {
      case 0:
        return out.setInvalid();
      case 1: {
        const bits = this.view === 'libkvm' ? LIBKVM_LARGE_PAGE : LARGE_PAGE;
        return out.setLeaf((low & 0xffff_0000) >>> 0, 0x1_0000, this.rights(low, bits));
      }
      default:
        return out.setLeaf((low & 0xffff_f000) >>> 0, 0x1000, this.rights(low, SMALL_PAGE));
    }
  }

  private rights(low: number, bits: AccessBits): number {
    const executable = has(low, bits.executeNever) ? 0 : EXECUTE;
    if (this.view === 'libkvm') return READ | (has(low, bits.tex + 1) ? 0 : WRITE) | executable;
    const writable = this.view === 'policy' ? !has(low, bits.tex + 1) : this.hardwareWritable(low, bits);
    return (
      READ |
      (writable ? WRITE : 0) |
      executable |
      (has(low, bits.ap + 1) ? USER : 0) |
      (has(low, bits.notGlobal) ? 0 : GLOBAL) |
      shortMemoryType(low, bits.tex)
    );
  }

  /** Privileged write: AP[2] clear and, without the access flag model, AP[1:0] not 00 (DDI 0406, B3.7.1, table B3-8). */
  private hardwareWritable(low: number, bits: AccessBits): boolean {
    if (has(low, bits.ap2)) return false;
    return this.accessFlag || ((low >>> bits.ap) & 3) !== 0;
  }
}

function has(word: number, bit: number): boolean {
  return ((word >>> bit) & 1) === 1;
}

import { KvmError, type Registers } from '@libkvm/minidump-core';

const CR0_PG = 1n << 31n;
const CR4_LA57 = 1n << 12n;
const EFER_LMA = 1n << 10n;
/** Bits 51:12: above lie LAM and "keep the TLB" flags, below PWT and PCD or the PCID. */
const CR3_FRAME = 0x000f_ffff_ffff_f000n;

/** How a processor pages. */
export interface Amd64Paging {
  /** 0 when paging is off. */
  readonly levels: 0 | 4 | 5;
  /** PA of the root table: PML4 or PML5. */
  readonly root: number;
}

/**
 * Reads the paging mode off the control registers (Intel SDM volume 3, sections 2.5 and 5.1.1).
 *
 * CR3 is needed. Without CR0 paging is on, without EFER the processor is in 64-bit mode, and without CR4 there are 4
 * levels: so it is on every machine whose kernel did not ask for more.
 *
 * @throws KvmError `INVALID_ARGUMENT` without CR3, `UNSUPPORTED` when EFER says that this is no 64-bit mode
 */
export function amd64Paging({ CR0, CR3, CR4, EFER }: Registers): Amd64Paging {
  if (CR0 !== undefined && (CR0 & CR0_PG) === 0n) return { levels: 0, root: 0 };
  if (EFER !== undefined && (EFER & EFER_LMA) === 0n) {
    throw new KvmError('UNSUPPORTED', 'the processor pages, but not in 64-bit mode (EFER.LMA is clear)', {
      field: 'EFER',
      hint: 'walk it with the i386 architecture',
    });
  }
  if (CR3 === undefined) {
    throw new KvmError('INVALID_ARGUMENT', 'walking amd64 page tables needs the register CR3', {
      field: 'CR3',
      hint: 'give CR3, and CR4 where the machine may have 5 levels (bit 12)',
    });
  }
  const levels = CR4 !== undefined && (CR4 & CR4_LA57) !== 0n ? 5 : 4;
  return { levels, root: Number(CR3 & CR3_FRAME) };
}

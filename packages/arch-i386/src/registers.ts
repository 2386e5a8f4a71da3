import { KvmError, type Registers } from '@libkvm/minidump-core';

const CR0_PG = 1n << 31n;
const CR4_PSE = 1n << 4n;
const CR4_PAE = 1n << 5n;
const EFER_LMA = 1n << 10n;
/** CR3 is a 32-bit register outside of 64-bit mode. The table of page-directory pointers is aligned to 32 bytes only. */
const CR3_PAE = 0xffff_ffe0n;
const CR3_NOPAE = 0xffff_f000n;

/** How a processor pages. */
export interface I386Paging {
  /** `small`: without PAE, and without 4 MB pages. */
  readonly mode: 'off' | 'small' | 'nopae' | 'pae';
  /** PA of the root: the page directory, or the four page-directory pointers. */
  readonly root: number;
}

/**
 * Reads the paging mode off the control registers (Intel SDM volume 3, sections 2.5 and 5.1.1). CR3 and CR4 are needed;
 * without CR0 paging is on, without EFER the processor is in 32-bit mode.
 *
 * @throws KvmError `INVALID_ARGUMENT` without CR3 or CR4, `UNSUPPORTED` when EFER says that this is 64-bit mode
 */
export function i386Paging(registers: Registers): I386Paging {
  const { CR0, EFER } = registers;
  if (CR0 !== undefined && (CR0 & CR0_PG) === 0n) return { mode: 'off', root: 0 };
  if (EFER !== undefined && (EFER & EFER_LMA) !== 0n) {
    throw new KvmError('UNSUPPORTED', 'the processor is in 64-bit mode (EFER.LMA is set)', {
      field: 'EFER',
      hint: 'walk it with the amd64 architecture',
    });
  }
  const cr3 = needed(registers, 'CR3', 'CR3 (the root table) and CR4');
  const cr4 = needed(registers, 'CR4', 'CR4: its bit 5 tells PAE, its bit 4 allows 4 MB pages');
  if ((cr4 & CR4_PAE) !== 0n) return { mode: 'pae', root: Number(cr3 & CR3_PAE) };
  return { mode: (cr4 & CR4_PSE) !== 0n ? 'nopae' : 'small', root: Number(cr3 & CR3_NOPAE) };
}

function needed(registers: Registers, name: string, what: string): bigint {
  const value = registers[name];
  if (value !== undefined) return value;
  throw new KvmError('INVALID_ARGUMENT', `walking i386 page tables needs the register ${name}`, {
    field: name,
    hint: `give ${what}`,
  });
}

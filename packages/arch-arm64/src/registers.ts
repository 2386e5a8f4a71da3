import { KvmError, type Registers } from '@libkvm/minidump-core';
import type { Granule } from './granule.js';

/** Bits of SCTLR_EL1 (Arm ARM DDI 0487, D24.2): MMU on, and big-endian tables. */
export const SCTLR_M = 1n << 0n;
export const SCTLR_EE = 1n << 25n;

/** TCR_EL1.DS: descriptors with 52-bit addresses for 4 KB and 16 KB granules (FEAT_LPA2). */
const TCR_DS = 1n << 59n;
/** TCR_EL1.IPS: 6 is a physical address size of 52 bits. */
const IPS_52_BITS = 6n;

/** What TCR_EL1 says about the half of the address space that one base register has. */
export interface Arm64Region {
  /** `TTBR0` or `TTBR1`. */
  readonly base: 'TTBR0' | 'TTBR1';
  /** Bits of an address: 64 - TxSZ. */
  readonly bits: number;
  readonly granule: Granule;
}

/** A register by its short name or with the suffix _EL1: `TTBR1`, `TTBR1_EL1`. */
export function arm64Register(registers: Registers, name: string): bigint | undefined {
  return registers[name] ?? registers[`${name}_EL1`];
}

/**
 * A register that the walk cannot do without.
 *
 * @throws KvmError `INVALID_ARGUMENT` when it is not given
 */
export function neededRegister(registers: Registers, name: string): bigint {
  const value = arm64Register(registers, name);
  if (value !== undefined) return value;
  throw new KvmError('INVALID_ARGUMENT', `walking arm64 page tables needs the register ${name}`, {
    field: name,
    hint: 'give TTBR0, TTBR1 and TCR (of EL1); one base register is enough when TCR.EPD0 or EPD1 is set',
  });
}

/**
 * The region of a base register by TCR_EL1 (DDI 0487, D24.2: T0SZ 5:0, EPD0 7, TG0 15:14; T1SZ 21:16, EPD1 23, TG1 31:30);
 * undefined when it is turned off.
 *
 * @throws KvmError `UNSUPPORTED` for addresses of 52 bits, `INVALID_ARGUMENT` for values that no processor has
 */
export function arm64Region(tcr: bigint, base: 'TTBR0' | 'TTBR1'): Arm64Region | undefined {
  const low = base === 'TTBR0';
  const field = Number((tcr >> (low ? 0n : 16n)) & 0xffffn);
  if ((field & 0x80) !== 0) return undefined;
  const granules = low ? [0x1000, 0x1_0000, 0x4000, undefined] : [undefined, 0x4000, 0x1000, 0x1_0000];
  const granule = granules[field >>> 14] as Granule | undefined;
  const size = field & 0x3f;
  if (granule === undefined || (size > 16 && 2 ** (64 - size) <= granule)) {
    throw new KvmError('INVALID_ARGUMENT', `TCR 0x${tcr.toString(16)} has no meaning for ${base}`, {
      field: 'TCR',
      hint: 'its granule is reserved or its region has no entries; is it TCR_EL1?',
    });
  }
  const physical52 = granule === 0x1_0000 && ((tcr >> 32n) & 7n) === IPS_52_BITS;
  if (size < 16 || (tcr & TCR_DS) !== 0n || physical52) throw tooWide(tcr);
  return { base, bits: 64 - size, granule };
}

/**
 * Bits of the addresses that a base register has, whether it is turned off or not: addresses beyond them are not
 * canonical. 48 where TCR does not say it, as unused fields may hold anything.
 */
export function arm64AddressBits(tcr: bigint, base: 'TTBR0' | 'TTBR1'): number {
  const size = Number((tcr >> (base === 'TTBR0' ? 0n : 16n)) & 0x3fn);
  return size >= 16 && size <= 48 ? 64 - size : 48;
}

function tooWide(tcr: bigint): KvmError {
  return new KvmError('UNSUPPORTED', `TCR 0x${tcr.toString(16)} asks for addresses of 52 bits`, {
    field: 'TCR',
    hint: 'TxSZ below 16, DS, and IPS 6 with 64 KB granules (FEAT_LVA, FEAT_LPA, FEAT_LPA2) are not handled',
  });
}

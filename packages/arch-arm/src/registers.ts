import { KvmError, type Registers } from '@libkvm/minidump-core';

/** Bits of SCTLR that change how tables are read (Arm ARM DDI 0406, B4.1.130; DDI 0100, B3.8.4 for ARMv6 and before). */
export const SCTLR_M = 1 << 0;
/** ARMv6 and before: big-endian memory, in words (BE-32). Without this meaning from ARMv7 on. */
export const SCTLR_B = 1 << 7;
/** ARMv6: 1 for the v6 format, 0 for subpages. Always 1 in ARMv7. */
export const SCTLR_XP = 1 << 23;
/** ARMv6 and later: page tables are big-endian. */
export const SCTLR_EE = 1 << 25;
/** AP[0] is the access flag. */
export const SCTLR_AFE = 1 << 29;

/** Bits of TTBCR (DDI 0406, B4.1.153). */
export const TTBCR_EAE = 1 << 31;
export const TTBCR_PD0 = 1 << 4;
export const TTBCR_PD1 = 1 << 5;
export const TTBCR_EPD0 = 1 << 7;
export const TTBCR_EPD1 = 1 << 23;

/** The low 32 bits of a register, as a signed word for bit tests; undefined when it is not given. */
export function word(registers: Registers, name: string): number | undefined {
  const value = registers[name];
  return value === undefined ? undefined : Number(BigInt.asIntN(32, value));
}

/** A register's value from a word of bits. */
export function unsigned(bits: number): bigint {
  return BigInt(bits >>> 0);
}

/**
 * The physical address in bits `[bits - 1:0]` of a translation table base register, rounded down to the size of the
 * table: below lie attributes, above an ASID or reserved bits.
 *
 * @param tableBytes a power of two
 * @throws KvmError `INVALID_ARGUMENT` when the register is not given
 */
export function tableBase(registers: Registers, name: string, bits: number, tableBytes: number): number {
  const value = registers[name];
  if (value === undefined) {
    throw new KvmError('INVALID_ARGUMENT', `walking these ARM page tables needs the register ${name}`, {
      field: name,
      hint: 'give TTBR0, TTBCR and SCTLR, and TTBR1 where TTBCR makes use of it',
    });
  }
  const address = Number(BigInt.asUintN(bits, value));
  return address - (address % tableBytes);
}

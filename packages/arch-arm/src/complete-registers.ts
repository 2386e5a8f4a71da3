import type { ByteOrder, Registers } from '@libkvm/minidump-core';
import { armPteFormat, type ArmPteFormat } from './pte-format.js';
import { SCTLR_B, SCTLR_EE, SCTLR_M, SCTLR_XP, TTBCR_EAE, unsigned, word } from './registers.js';

/** MIDR of a processor of each format that other registers do not tell: ARM920T, PXA255, PXA320, ARM1136, Cortex-A15. */
const MIDR: Readonly<Record<Exclude<ArmPteFormat, 'lpae'>, bigint>> = {
  v4: 0x4112_9200n,
  xscale: 0x6905_2d06n,
  xscale3: 0x6905_6826n,
  'v6-subpages': 0x4107_b362n,
  v6: 0x414f_c0f0n,
};

/**
 * The registers of tables of a known format, completed so that they alone tell the format and the byte order: SCTLR where
 * it is missing or says another byte order, MIDR where the format would be taken for another.
 */
export function completeArmRegisters(
  registers: Registers,
  format: ArmPteFormat,
  byteOrder: ByteOrder,
): Registers {
  const old = format !== 'v6' && format !== 'lpae';
  const xp = old ? 0 : SCTLR_XP;
  const big = format === 'v6' || format === 'lpae' || format === 'v6-subpages' ? SCTLR_EE : SCTLR_B;
  const sctlr = (word(registers, 'SCTLR') ?? SCTLR_M | xp) & ~(SCTLR_EE | (old ? SCTLR_B : 0));
  const ordered = { ...registers, SCTLR: unsigned(sctlr | (byteOrder === 'big' ? big : 0)) };
  if (armPteFormat(ordered) === format) return ordered;
  const ttbcr = word(registers, 'TTBCR') ?? 0;
  if (format === 'lpae') return { ...ordered, TTBCR: unsigned(ttbcr | TTBCR_EAE) };
  const told = { ...ordered, MIDR: MIDR[format] };
  // ARMv6 has both formats: XP tells them apart.
  return format === 'v6-subpages' ? { ...told, SCTLR: unsigned(word(told, 'SCTLR')! & ~SCTLR_XP) } : told;
}

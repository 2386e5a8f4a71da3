import { KvmError, type Registers } from '@libkvm/minidump-core';
import { SCTLR_XP, TTBCR_EAE, word } from './registers.js';

/**
 * The page-table formats of 32-bit ARM processors.
 *
 * - `v4`: ARMv4 and ARMv5, with coarse and fine tables;
 * - `xscale`: the same with extended small pages; `xscale3`: and with supersections;
 * - `v6-subpages`: ARMv6 with SCTLR.XP clear: as `xscale3` without fine tables, and with TTBR0 and TTBR1;
 * - `v6`: short descriptors of ARMv6 and ARMv7;
 * - `lpae`: long descriptors.
 */
export type ArmPteFormat = (typeof ARM_PTE_FORMATS)[number];

/** All names of {@link ArmPteFormat}. */
export const ARM_PTE_FORMATS = ['v4', 'xscale', 'xscale3', 'v6-subpages', 'v6', 'lpae'] as const;

const INTEL = 0x69;
/** The third generation of XScale, of Intel and of Marvell (MIDR and mask as in Linux, arch/arm/mm/proc-xsc3.S). */
const XSCALE3_MASK = 0xffff_e000;
const XSCALE3 = [0x6905_6000, 0x5605_6000];
/** MIDR part numbers of the ARMv6 cores that announce themselves by CPUID registers: ARM1156, ARM1176, ARM11 MPCore. */
const ARMV6_PARTS = [0xb56, 0xb76, 0xb02];

/**
 * Which format the tables of a processor have. The first rule that applies decides:
 *
 * 1. a format asked for by name;
 * 2. TTBCR.EAE set: `lpae`;
 * 3. MIDR given (Arm ARM DDI 0406, B4.1.105): architecture up to v5TEJ `xscale3` for the third generation of XScale,
 *    `xscale` for others of Intel's, `v4` for the rest; ARMv6 `v6-subpages` if SCTLR says that XP is clear, else `v6`;
 *    anything later `v6`;
 * 4. SCTLR given with XP (bit 23) clear: `v6-subpages` where TTBCR is given, else `v4`. From ARMv7 on the bit is set,
 *    before ARMv6 it is clear;
 * 5. `v6`.
 *
 * @throws KvmError `INVALID_ARGUMENT` for a name that is none of {@link ARM_PTE_FORMATS}
 */
export function armPteFormat(registers: Registers, asked?: string): ArmPteFormat {
  if (asked !== undefined) return checkedName(asked);
  const ttbcr = word(registers, 'TTBCR');
  if (ttbcr !== undefined && (ttbcr & TTBCR_EAE) !== 0) return 'lpae';
  const sctlr = word(registers, 'SCTLR');
  const subpages = sctlr !== undefined && (sctlr & SCTLR_XP) === 0;
  const midr = word(registers, 'MIDR');
  if (midr !== undefined) return byProcessor(midr, subpages);
  if (!subpages) return 'v6';
  return ttbcr === undefined ? 'v4' : 'v6-subpages';
}

/** By the main ID register: implementer 31:24, architecture 19:16, part number 15:4. */
function byProcessor(midr: number, subpages: boolean): ArmPteFormat {
  const architecture = (midr >>> 16) & 0xf;
  const armv6 = architecture === 7 || (architecture === 0xf && ARMV6_PARTS.includes((midr >>> 4) & 0xfff));
  if (XSCALE3.includes((midr & XSCALE3_MASK) >>> 0)) return 'xscale3';
  if (architecture < 7) return midr >>> 24 === INTEL ? 'xscale' : 'v4';
  return armv6 && subpages ? 'v6-subpages' : 'v6';
}

function checkedName(name: string): ArmPteFormat {
  const known = ARM_PTE_FORMATS.find((format) => format === name);
  if (known !== undefined) return known;
  throw new KvmError('INVALID_ARGUMENT', `${name} is not a page-table format of arm`, {
    field: 'pteFormat',
    hint: `it is one of ${ARM_PTE_FORMATS.join(', ')}`,
  });
}

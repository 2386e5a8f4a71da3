import {
  IdentitySpace,
  RadixSpace,
  UNMAPPED,
  type AddressHole,
  type AddressSpace,
  type ByteOrder,
  type PhysicalMemory,
  type RadixFormat,
  type WalkOptions,
} from '@libkvm/minidump-core';
import type { ArmView } from './access.js';
import { armLpaeFormat } from './lpae-format.js';
import { armPteFormat, type ArmPteFormat } from './pte-format.js';
import { PAGES_4GB, longRegions, shortRegions, singleRegion } from './regions.js';
import { SCTLR_AFE, SCTLR_B, SCTLR_EE, SCTLR_M, word } from './registers.js';
import { SubpageSpace } from './subpage-space.js';
import { armV4Format, armV6SubpagesFormat, armXscale3Format, armXscaleFormat } from './v4-format.js';
import { ArmV6Format } from './v6-format.js';

/** How an ARM memory image is to be walked. */
export interface ArmWalkOptions extends WalkOptions {
  /** Default `hardware`. It makes a difference for `v6` only. */
  readonly view?: Exclude<ArmView, 'libkvm'>;
}

/** Addresses that a 32-bit machine does not have. */
export const ABOVE_4GB: AddressHole = { fromPage: PAGES_4GB, toPage: 2 ** 52 };

const V4_FORMATS = {
  v4: armV4Format,
  xscale: armXscaleFormat,
  xscale3: armXscale3Format,
  'v6-subpages': armV6SubpagesFormat,
};

/**
 * The address space that the tables of a 32-bit ARM processor describe, by its registers TTBR0, TTBR1, TTBCR and SCTLR
 * (MIDR is a help where TTBCR and SCTLR are missing). Only TTBR0 is needed always; without TTBCR everything goes through
 * it, without SCTLR the MMU is on and AP[0] is no access flag.
 *
 * Domains, access rights and the access flag are ignored: what is mapped is mapped. With SCTLR.M clear KVA is PA.
 * The tables' byte order is `byteOrder`, or else that of SCTLR.EE (before ARMv6: SCTLR.B), or else little.
 *
 * @throws KvmError `INVALID_ARGUMENT` when a base register that is made use of is not given
 */
export function armWalker(memory: PhysicalMemory, options: ArmWalkOptions): AddressSpace {
  const { registers } = options;
  const sctlr = word(registers, 'SCTLR');
  if (sctlr !== undefined && (sctlr & SCTLR_M) === 0) return new IdentitySpace();
  const name = armPteFormat(registers, options.pteFormat);
  const order = options.byteOrder ?? tableOrder(name, sctlr ?? 0);
  const space = (format: RadixFormat, regions = shortRegions(registers)): RadixSpace =>
    new RadixSpace(memory, format, order, regions, UNMAPPED, ABOVE_4GB);
  if (name === 'lpae') return space(armLpaeFormat, longRegions(registers));
  if (name === 'v6') {
    const accessFlag = ((sctlr ?? 0) & SCTLR_AFE) !== 0;
    return space(new ArmV6Format({ accessFlag, view: options.view ?? 'hardware' }));
  }
  const regions = name === 'v6-subpages' ? shortRegions(registers) : singleRegion(registers);
  return new SubpageSpace(memory, V4_FORMATS[name], order, regions, UNMAPPED, ABOVE_4GB);
}

/** EE says how tables are read from ARMv6 on; before, all memory is big-endian with B, or nothing is. */
function tableOrder(format: ArmPteFormat, sctlr: number): ByteOrder {
  const big = format === 'v6' || format === 'lpae' ? SCTLR_EE : SCTLR_EE | SCTLR_B;
  return (sctlr & big) !== 0 ? 'big' : 'little';
}

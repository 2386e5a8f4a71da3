import {
  IdentitySpace,
  RadixSpace,
  UNMAPPED,
  type AddressHole,
  type AddressSpace,
  type ByteOrder,
  type PhysicalMemory,
  type RadixRegion,
  type Registers,
  type WalkOptions,
} from '@libkvm/minidump-core';
import { Arm64Format } from './format.js';
import { levelShift, pageShift } from './granule.js';
import {
  SCTLR_EE,
  SCTLR_M,
  arm64AddressBits,
  arm64Region,
  arm64Register,
  neededRegister,
  type Arm64Region,
} from './registers.js';
import { SplitSpace } from './split-space.js';

const TOP_PAGE = 2 ** 52;
/** Pages of the 48 address bits of a processor that does not translate. */
const PAGES_48_BITS = 2 ** 36;
/** TTBRx_EL1 bits 47:1; above lie the ASID, below CnP. */
const BASE_MASK = 0x0000_ffff_ffff_fffen;

/**
 * The address space that the stage 1 tables of EL1 describe, by TTBR0, TTBR1, TCR and SCTLR (also as TTBR0_EL1 and so on):
 * granules of 4, 16 and 64 KB, addresses of up to 48 bits. The two halves may have different sizes and granules; what lies
 * between them is not canonical. A half that EPD0 or EPD1 turns off has no mappings.
 *
 * Without SCTLR the MMU is on; with SCTLR.M clear KVA is PA. The tables' byte order is `byteOrder`, or else that of
 * SCTLR.EE, or else little. Address tags (TCR.TBI) are not stripped: a tagged address is not canonical.
 *
 * @throws KvmError `INVALID_ARGUMENT` when TCR or a base register that it makes use of is not given, `UNSUPPORTED` for
 *   addresses of 52 bits
 */
export function arm64Walker(memory: PhysicalMemory, { registers, byteOrder }: WalkOptions): AddressSpace {
  const sctlr = arm64Register(registers, 'SCTLR') ?? SCTLR_M;
  if ((sctlr & SCTLR_M) === 0n) return new IdentitySpace(PAGES_48_BITS);
  const order = byteOrder ?? ((sctlr & SCTLR_EE) !== 0n ? 'big' : 'little');
  const tcr = neededRegister(registers, 'TCR');
  const [low, high] = [arm64Region(tcr, 'TTBR0'), arm64Region(tcr, 'TTBR1')];
  const hole: AddressHole = {
    fromPage: 2 ** (arm64AddressBits(tcr, 'TTBR0') - 12),
    toPage: TOP_PAGE - 2 ** (arm64AddressBits(tcr, 'TTBR1') - 12),
  };
  const half = (region: Arm64Region | undefined): RadixSpace =>
    spaceOf(memory, registers, order, region ? [region] : [], hole);
  if (low && high && low.granule !== high.granule) return new SplitSpace(half(low), half(high), hole.toPage);
  return spaceOf(
    memory,
    registers,
    order,
    [low, high].filter((region) => region !== undefined),
    hole,
  );
}

/** Regions of one granule. */
function spaceOf(
  memory: PhysicalMemory,
  registers: Registers,
  order: ByteOrder,
  regions: readonly Arm64Region[],
  hole: AddressHole,
): RadixSpace {
  const format = new Arm64Format(regions.length > 0 ? regions[0].granule : 0x1000);
  const radix = regions.map((region) => radixRegion(registers, region));
  return new RadixSpace(memory, format, order, radix, UNMAPPED, hole);
}

/** The root has as many levels below it as the address bits need, and no more entries (DDI 0487, D8.2.4 and on). */
function radixRegion(registers: Registers, { base, bits, granule }: Arm64Region): RadixRegion {
  const page = pageShift(granule);
  const level = Math.ceil((bits - page) / (page - 3));
  const shift = levelShift(granule, level);
  const entries = 2 ** (bits - shift);
  const address = Number(neededRegister(registers, base) & BASE_MASK);
  const pages = 2 ** (bits - 12);
  const fromPage = base === 'TTBR0' ? 0 : TOP_PAGE - pages;
  const root = address - (address % (entries * 8));
  return { fromPage, toPage: fromPage + pages, basePage: fromPage, level, shift, entries, root };
}

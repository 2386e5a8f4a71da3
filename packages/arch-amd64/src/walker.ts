import {
  IdentitySpace,
  RadixSpace,
  UNMAPPED,
  type AddressSpace,
  type PhysicalMemory,
  type RadixRegion,
  type WalkOptions,
} from '@libkvm/minidump-core';
import { HOLE_4_LEVEL, HOLE_5_LEVEL } from './canonical.js';
import { amd64Format } from './format.js';
import { amd64Paging } from './registers.js';

const TABLE_ENTRIES = 512;

/**
 * The address space that 4-level or 5-level page tables in physical memory describe (Intel SDM volume 3, section 5.5):
 * pages of 4 KB, 2 MB and 1 GB. Without paging (CR0.PG clear) KVA is PA, in 32 bits: there is no 64-bit mode without it.
 *
 * Bit 7 of an entry of level 3 always means a 1 GB page; on processors without them no kernel sets it.
 *
 * @throws KvmError `INVALID_ARGUMENT` without CR3, `UNSUPPORTED` for a processor that is not in 64-bit mode
 */
export function amd64Walker(memory: PhysicalMemory, { registers }: WalkOptions): AddressSpace {
  const { levels, root } = amd64Paging(registers);
  if (levels === 0) return new IdentitySpace();
  const hole = levels === 5 ? HOLE_5_LEVEL : HOLE_4_LEVEL;
  return new RadixSpace(memory, amd64Format, 'little', halves(levels, root), UNMAPPED, hole);
}

/** The two canonical halves: entries 0 to 255 of the root, and 256 to 511 at the top of the 64-bit space. */
function halves(levels: 4 | 5, root: number): RadixRegion[] {
  const shift = 12 + 9 * (levels - 1);
  const half = (TABLE_ENTRIES / 2) * 2 ** (shift - 12);
  const top = 2 ** 52;
  const common = { level: levels, shift, entries: TABLE_ENTRIES, root };
  return [
    { ...common, fromPage: 0, toPage: half, basePage: 0 },
    { ...common, fromPage: top - half, toPage: top, basePage: top - 2 * half },
  ];
}

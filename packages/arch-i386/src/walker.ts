import {
  IdentitySpace,
  RadixSpace,
  UNMAPPED,
  type AddressSpace,
  type PhysicalMemory,
  type RadixFormat,
  type RadixRegion,
  type WalkOptions,
} from '@libkvm/minidump-core';
import { ABOVE_4_GB, END_PAGE } from './address-width.js';
import { i386NopaeFormat, i386NopaeSmallFormat } from './format-nopae.js';
import { i386PaeFormat } from './format-pae.js';
import { i386Paging } from './registers.js';

interface Geometry {
  readonly format: RadixFormat;
  /** Level, log2 of the span of an entry, and entries of the root. */
  readonly level: number;
  readonly shift: number;
  readonly entries: number;
}

const GEOMETRY: Readonly<Record<'small' | 'nopae' | 'pae', Geometry>> = {
  small: { format: i386NopaeSmallFormat, level: 2, shift: 22, entries: 1024 },
  nopae: { format: i386NopaeFormat, level: 2, shift: 22, entries: 1024 },
  pae: { format: i386PaeFormat, level: 3, shift: 30, entries: 4 },
};

/**
 * The address space that 32-bit or PAE page tables in physical memory describe (Intel SDM volume 3, sections 5.3 and
 * 5.4): CR4.PAE chooses between them, CR4.PSE allows 4 MB pages without PAE. Without paging (CR0.PG clear) KVA is PA.
 *
 * The page-directory pointers are read from memory; a processor keeps copies that may be older (section 5.4.1).
 *
 * @throws KvmError `INVALID_ARGUMENT` without CR3 or CR4, `UNSUPPORTED` for a processor in 64-bit mode
 */
export function i386Walker(memory: PhysicalMemory, { registers }: WalkOptions): AddressSpace {
  const { mode, root } = i386Paging(registers);
  if (mode === 'off') return new IdentitySpace(END_PAGE);
  const { format, level, shift, entries } = GEOMETRY[mode];
  const region: RadixRegion = { fromPage: 0, toPage: END_PAGE, basePage: 0, level, shift, entries, root };
  return new RadixSpace(memory, format, 'little', [region], UNMAPPED, ABOVE_4_GB);
}

import {
  KvmError,
  RadixSpace,
  UNMAPPED,
  latin1,
  overrideHeader,
  roundUp,
  toHex,
  type AddressSpace,
  type ByteOrder,
  type ByteRange,
  type ByteSource,
  type HeaderOverrides,
  type MinidumpDialect,
  type MinidumpLayout,
  type PhysicalMemory,
  type RadixFormat,
  type StructValues,
  type TableSection,
} from '@libkvm/minidump-core';
import type { ArmView } from './access.js';
import { armMinidumpHeader, LPAE_VERSIONS, MAGIC } from './header.js';
import { armLpaeFormat } from './lpae-format.js';
import { armMinidumpWriter, type ArmWriteOptions } from './minidump-writer.js';
import { dumpAvail32, endsUnrounded } from './old-kernels.js';
import type { ArmPteFormat } from './pte-format.js';
import { PAGES_4GB } from './regions.js';
import { SubpageSpace } from './subpage-space.js';
import { ArmV4Format } from './v4-format.js';
import { ArmV6Format } from './v6-format.js';
import { ABOVE_4GB } from './walker.js';

const NEWEST = 2;
const PAGE = 4096;
/** Physical addresses have at most 40 bits (supersections and LPAE). */
const PHYSICAL_LIMIT = 2 ** 40;

/**
 * Entries by mmuformat (sys/arm/include/minidump.h). Dumps of kernels before 11.0 do not say it; libkvm takes them for
 * V6, as nobody used 1 KB pages. No kernel writes 3: what it means here, 8-byte entries, is this library's extension.
 */
const PTE_FORMATS = ['v6', 'v4', 'v6', 'lpae'] as const;
const LPAE = 3;

type Header = StructValues<typeof armMinidumpHeader.fields>;

export interface ArmMinidumpOptions extends ArmWriteOptions {
  /** Default `hardware`. Entries of mmuformat 3 have one reading only. */
  readonly view?: ArmView;
}

/**
 * FreeBSD/arm minidumps (sys/arm/arm/minidump_machdep.c): version 1 (up to 12.x) and version 2 (13.0 on, with dump_avail),
 * of little-endian and big-endian kernels, with one second-level descriptor for each 4 KB of KVA from kernbase on. There
 * is no direct map.
 */
export function armMinidumpDialect({
  view = 'hardware',
  ...writeOptions
}: ArmMinidumpOptions = {}): MinidumpDialect {
  return {
    name: 'FreeBSD/arm minidump',
    probe: (head) => latin1(head.subarray(0, 24)) === MAGIC,
    layout,
    addressSpace: (table, memory, facts) => addressSpace(table, memory, facts, view),
    writer: armMinidumpWriter(writeOptions),
  };
}

/** FreeBSD/arm minidumps with protections as the hardware has them. */
export const armMinidump = armMinidumpDialect();

function layout(
  head: Uint8Array,
  _fileSize: number,
  overrides: HeaderOverrides = {},
  file?: ByteSource,
): MinidumpLayout {
  const byteOrder = byteOrderOf(head);
  const header = readHeader(head, byteOrder, overrides);
  const { version, kernbase, arch, mmuformat } = header;
  const sizes = {
    msgbuf: header.msgbufsize,
    dumpAvail: version >= 2 ? header.dumpavailsize : 0,
    bitmap: header.bitmapsize,
    table: header.ptesize,
  };
  const old = file === undefined ? {} : oddities(file, byteOrder, sizes);
  return {
    format: 'freebsd',
    architecture: 'arm',
    version,
    byteOrder,
    bits: 32,
    pageSize: PAGE,
    kernbase: BigInt(kernbase),
    pteFormat: pteFormatOf(header),
    sizes,
    ...old,
    bitOrder: byteOrder === 'little' ? 'little' : 'big32',
    physicalLimit: PHYSICAL_LIMIT,
    extra: { arch, mmuformat },
    warnings: old.ranges ? ['dump_avail is in 32-bit words, as the first kernels of version 2 wrote it'] : [],
  };
}

/** A version number has one small digit: in the other byte order it is 2^24 times as big. */
function byteOrderOf(head: Uint8Array): ByteOrder {
  return armMinidumpHeader.read(head, 0, 'little').version >= 0x100_0000 ? 'big' : 'little';
}

function readHeader(head: Uint8Array, order: ByteOrder, overrides: HeaderOverrides): Header {
  const stored = armMinidumpHeader.read(head, 0, order);
  const header = overrideHeader(armMinidumpHeader, stored, overrides, 'a FreeBSD/arm minidump');
  const { mmuformat, kernbase } = header;
  const version = header.version - (mmuformat === LPAE && header.version > LPAE_VERSIONS ? LPAE_VERSIONS : 0);
  if (version < 1 || version > NEWEST) {
    throw unsupported('version', `FreeBSD/arm minidump of version ${header.version}; known are 1 and 2`);
  }
  if (mmuformat >= PTE_FORMATS.length) {
    throw unsupported('mmuformat', `page-table entries of mmuformat ${mmuformat}; known are 0 to 3`);
  }
  if (kernbase % PAGE !== 0) {
    throw new KvmError('CORRUPT', `kernbase ${toHex(kernbase)} is not aligned to ${toHex(PAGE)}`, {
      field: 'kernbase',
      offset: armMinidumpHeader.fields.kernbase.at,
      hint: 'the header is damaged; pass the right kernbase as an override',
    });
  }
  return { ...header, version };
}

/** Kernels of ARMv6 with entries of mmuformat 1 have subpages enabled. */
function pteFormatOf({ mmuformat, arch }: Header): ArmPteFormat {
  const name = PTE_FORMATS[mmuformat];
  return name === 'v4' && arch === 6 ? 'v6-subpages' : name;
}

function unsupported(field: 'version' | 'mmuformat', message: string): KvmError {
  return new KvmError('UNSUPPORTED', message, {
    field,
    offset: armMinidumpHeader.fields[field].at,
    hint: `the header is damaged or the kernel is newer than this library; pass the right ${field} as an override`,
  });
}

/** What the header of a few old kernels does not say: an array that is not padded, dump_avail in 32-bit words. */
function oddities(
  file: ByteSource,
  order: ByteOrder,
  sizes: MinidumpLayout['sizes'],
): { tableLength?: number; ranges?: ByteRange[] } {
  const dumpAvail = { offset: PAGE + roundUp(sizes.msgbuf, PAGE), length: sizes.dumpAvail };
  const bitmap = { offset: dumpAvail.offset + roundUp(sizes.dumpAvail, PAGE), length: sizes.bitmap };
  const table = { offset: bitmap.offset + roundUp(sizes.bitmap, PAGE), length: sizes.table };
  const unrounded = endsUnrounded(file, bitmap, table);
  const ranges =
    sizes.dumpAvail > 0
      ? dumpAvail32(file, order === 'little', dumpAvail, sizes.bitmap, PHYSICAL_LIMIT)
      : undefined;
  return { ...(unrounded && { tableLength: sizes.table }), ...(ranges && { ranges }) };
}

function addressSpace(
  table: TableSection,
  memory: PhysicalMemory,
  { byteOrder, kernbase, pteFormat }: MinidumpLayout,
  view: ArmView,
): AddressSpace {
  const format = entryFormat(pteFormat, view);
  const fromPage = Number(kernbase ?? 0n) / PAGE;
  // Entries whose addresses would lie at or above 2^32 do not exist.
  const entries = Math.min(Math.floor(table.length / format.entryBytes), PAGES_4GB - fromPage);
  const region = {
    fromPage,
    toPage: fromPage + entries,
    basePage: fromPage,
    level: 1,
    shift: 12,
    entries,
    root: table.offset,
    section: table.cache,
  };
  const Space = hasSubpages(pteFormat) && view !== 'libkvm' ? SubpageSpace : RadixSpace;
  return new Space(memory, format, byteOrder, [region], UNMAPPED, ABOVE_4GB);
}

/**
 * Entries of type 3 in V4 dumps are extended small pages: XScale kernels made all their 4 KB mappings so, and no FreeBSD
 * kernel made tiny pages. FreeBSD from 11.0 on uses the access flag.
 */
function entryFormat(pteFormat: string | undefined, view: ArmView): RadixFormat {
  if (pteFormat === 'lpae') return armLpaeFormat;
  if (hasSubpages(pteFormat)) return new ArmV4Format(pteFormat, { extendedSmallPages: true, view });
  return new ArmV6Format({ accessFlag: true, view });
}

/** The two that mmuformat 1 is read as. */
function hasSubpages(pteFormat: string | undefined): pteFormat is 'v4' | 'v6-subpages' {
  return pteFormat === 'v4' || pteFormat === 'v6-subpages';
}

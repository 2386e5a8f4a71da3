import {
  KvmError,
  KvaParts,
  RadixSpace,
  UNMAPPED,
  checkedDirectMap,
  latin1,
  overrideHeader,
  toHex,
  type AddressHole,
  type AddressSpace,
  type HeaderOverrides,
  type MinidumpDialect,
  type MinidumpLayout,
  type PhysicalMemory,
  type StructValues,
  type TableSection,
} from '@libkvm/minidump-core';
import { Arm64Format, type Arm64View } from './format.js';
import { pageShift, type Granule } from './granule.js';
import { arm64MinidumpHeader } from './header.js';

const MAGIC = 'minidump FreeBSD/arm64';
const NEWEST = 3;
/** Pages (of 4 KB) from KVA 0 to the top of the 64-bit space. */
const TOP_PAGE = 2 ** 52;
/** Physical addresses have at most 52 bits (Arm ARM DDI 0487, D8.1); entries of these dumps hold 48 of them. */
const PHYSICAL_LIMIT = 2 ** 52;
/** Page sizes by the two low bits of `flags`. */
const PAGE_SIZES: readonly (Granule | undefined)[] = [0x1000, 0x4000, 0x1_0000];
/** FreeBSD gives either half of the address space 48 bits (sys/arm64/include/vmparam.h). */
const HOLE: AddressHole = { fromPage: 2 ** 36, toPage: TOP_PAGE - 2 ** 36 };

type Header = StructValues<typeof arm64MinidumpHeader.fields>;

export interface Arm64MinidumpOptions {
  /** Default `hardware`. */
  readonly view?: Arm64View;
}

/**
 * FreeBSD/arm64 minidumps (sys/arm64/arm64/minidump_machdep.c): version 1 (11.0 to 12.x), version 2 (13.0, with
 * dump_avail), version 3 (with pages of 16 KB); one level-3 descriptor for each page of KVA from kernbase on, blocks
 * expanded, and a direct map.
 */
export function arm64MinidumpDialect({ view = 'hardware' }: Arm64MinidumpOptions = {}): MinidumpDialect {
  return {
    name: 'FreeBSD/arm64 minidump',
    probe: (head) => latin1(head.subarray(0, 24)) === MAGIC,
    layout,
    addressSpace: (table, memory, facts) => addressSpace(table, memory, facts, view),
  };
}

/** FreeBSD/arm64 minidumps with protections as the hardware has them. */
export const arm64Minidump = arm64MinidumpDialect();

function layout(head: Uint8Array, _fileSize: number, overrides: HeaderOverrides = {}): MinidumpLayout {
  const header = readHeader(head, overrides);
  const { version, flags } = header;
  const pageSize = pageSizeOf(header);
  const warnings: string[] = [];
  return {
    format: 'freebsd',
    architecture: 'arm64',
    version,
    byteOrder: 'little',
    bits: 64,
    pageSize,
    kernbase: checkedKernbase(header, pageSize),
    ...checkedDirectMap(dmapOf(header), header.kernbase, warnings),
    sizes: {
      msgbuf: header.msgbufsize,
      dumpAvail: version >= 2 ? header.dumpavailsize : 0,
      bitmap: header.bitmapsize,
      table: header.pmapsize,
    },
    bitOrder: 'little',
    physicalLimit: PHYSICAL_LIMIT,
    extra: version >= 3 ? { flags } : {},
    warnings,
  };
}

function readHeader(head: Uint8Array, overrides: HeaderOverrides): Header {
  const stored = arm64MinidumpHeader.read(head, 0, 'little');
  const header = overrideHeader(arm64MinidumpHeader, stored, overrides, 'a FreeBSD/arm64 minidump');
  const { version } = header;
  if (version >= 1 && version <= NEWEST) return header;
  throw new KvmError('UNSUPPORTED', `FreeBSD/arm64 minidump of version ${version}; known are 1, 2 and 3`, {
    field: 'version',
    offset: arm64MinidumpHeader.fields.version.at,
    hint: 'the header is damaged or the kernel is newer than this library',
  });
}

/** Before version 3 there was no other page size, and whatever lies behind the header is not its flags. */
function pageSizeOf({ version, flags }: Header): Granule {
  const pageSize = PAGE_SIZES[version >= 3 ? flags & 3 : 0];
  if (pageSize !== undefined) return pageSize;
  throw new KvmError('UNSUPPORTED', `FreeBSD/arm64 minidump with flags ${toHex(flags)}: no known page size`, {
    field: 'flags',
    offset: arm64MinidumpHeader.fields.flags.at,
    hint: 'the header is damaged or the kernel is newer than this library; pass the right flags as an override',
  });
}

function checkedKernbase({ kernbase }: Header, pageSize: number): bigint {
  if (kernbase % BigInt(pageSize) === 0n) return kernbase;
  throw new KvmError('CORRUPT', `kernbase ${toHex(kernbase)} is not aligned to ${toHex(pageSize)}`, {
    field: 'kernbase',
    offset: arm64MinidumpHeader.fields.kernbase.at,
    hint: 'the header is damaged; pass the right kernbase as an override',
  });
}

function dmapOf({ dmapbase, dmapend, dmapphys }: Header): { base: bigint; end: bigint; phys: bigint } {
  return { base: dmapbase, end: dmapend, phys: dmapphys };
}

function addressSpace(
  table: TableSection,
  memory: PhysicalMemory,
  { kernbase, pageSize }: MinidumpLayout,
  view: Arm64View,
): AddressSpace {
  const parts = new KvaParts(64);
  parts.set(kernbase ?? 0n);
  const fromPage = parts.page;
  const pagesPerEntry = pageSize / 4096;
  // Entries whose addresses would lie past the top of the address space do not exist.
  const entries = Math.min(Math.floor(table.length / 8), (TOP_PAGE - fromPage) / pagesPerEntry);
  const region = {
    fromPage,
    toPage: fromPage + entries * pagesPerEntry,
    basePage: fromPage,
    level: 1,
    shift: pageShift(pageSize as Granule),
    entries,
    root: table.offset,
    section: table.cache,
  };
  const format = new Arm64Format(pageSize as Granule, view);
  // A damaged kernbase may put the entries where FreeBSD has no addresses: then they are taken at their word.
  const beside = region.toPage <= HOLE.fromPage || region.fromPage >= HOLE.toPage;
  return new RadixSpace(memory, format, 'little', [region], UNMAPPED, beside ? HOLE : undefined);
}

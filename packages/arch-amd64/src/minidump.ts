import {
  KvmError,
  KvaParts,
  RadixSpace,
  UNMAPPED,
  checkedDirectMap,
  latin1,
  overrideHeader,
  toHex,
  type AddressSpace,
  type HeaderOverrides,
  type MinidumpDialect,
  type MinidumpLayout,
  type PhysicalMemory,
  type StructValues,
  type TableSection,
} from '@libkvm/minidump-core';
import { HOLE_5_LEVEL, besideHole, holeAround, inHole } from './canonical.js';
import { amd64Format, PHYSICAL_LIMIT } from './format.js';
import { amd64MinidumpHeader } from './header.js';
import { amd64MinidumpWriter, MAGIC } from './minidump-writer.js';

const NEWEST = 3;
/** Pages from KVA 0 to the top of the 64-bit space. */
const TOP_PAGE = 2 ** 52;

type Header = StructValues<typeof amd64MinidumpHeader.fields>;

/**
 * FreeBSD/amd64 minidumps (sys/amd64/amd64/minidump_machdep.c): version 1 (6.2 to 8.x) with one leaf entry for each 4 KB
 * of KVA, version 2 (9.0 to 12.x) with one page-directory entry for each 2 MB and the page-table pages among the sparse
 * pages, version 3 (13.0 on) as 2 and with dump_avail.
 */
export const amd64Minidump: MinidumpDialect = {
  name: 'FreeBSD/amd64 minidump',
  probe: (head) => latin1(head.subarray(0, 24)) === MAGIC,
  layout,
  addressSpace,
  writer: amd64MinidumpWriter,
};

function layout(head: Uint8Array, _fileSize: number, overrides: HeaderOverrides = {}): MinidumpLayout {
  const header = readHeader(head, overrides);
  const { version } = header;
  const warnings: string[] = [];
  return {
    format: 'freebsd',
    architecture: 'amd64',
    version,
    byteOrder: 'little',
    bits: 64,
    pageSize: 4096,
    kernbase: checkedKernbase(header, warnings),
    ...checkedDirectMap(dmapOf(header), header.kernbase, warnings),
    sizes: {
      msgbuf: header.msgbufsize,
      dumpAvail: version >= 3 ? header.dumpavailsize : 0,
      bitmap: header.bitmapsize,
      table: header.pmapsize,
    },
    bitOrder: 'little',
    physicalLimit: PHYSICAL_LIMIT,
    warnings,
  };
}

function readHeader(head: Uint8Array, overrides: HeaderOverrides): Header {
  const stored = amd64MinidumpHeader.read(head, 0, 'little');
  const header = overrideHeader(amd64MinidumpHeader, stored, overrides, 'a FreeBSD/amd64 minidump');
  if (header.version < 1 || header.version > NEWEST) {
    throw new KvmError(
      'UNSUPPORTED',
      `FreeBSD/amd64 minidump of version ${header.version}; known are 1, 2 and 3`,
      {
        field: 'version',
        offset: amd64MinidumpHeader.fields.version.at,
        hint: 'the header is damaged or the kernel is newer than this library',
      },
    );
  }
  return header;
}

/** Version 1 covers KVA by pages, later ones by 2 MB. */
function checkedKernbase({ kernbase, version }: Header, warnings: string[]): bigint {
  const unit = version === 1 ? 0x1000n : 0x20_0000n;
  if (inHole(HOLE_5_LEVEL, pageOf(kernbase))) {
    warnings.push(`kernbase ${toHex(kernbase)} is not canonical; no amd64 has the addresses from there on`);
  }
  if (kernbase % unit === 0n) return kernbase;
  throw new KvmError('CORRUPT', `kernbase ${toHex(kernbase)} is not aligned to ${toHex(unit)}`, {
    field: 'kernbase',
    offset: amd64MinidumpHeader.fields.kernbase.at,
    hint: 'the header is damaged; pass the right kernbase as an override',
  });
}

function dmapOf({ dmapbase, dmapend }: Header): { base: bigint; end: bigint; phys: bigint } {
  return { base: dmapbase, end: dmapend, phys: 0n };
}

function addressSpace(table: TableSection, memory: PhysicalMemory, layout: MinidumpLayout): AddressSpace {
  const { version, kernbase = 0n, directMap } = layout;
  const flat = version === 1;
  const shift = flat ? 12 : 21;
  const first = pageOf(kernbase);
  const pagesPerEntry = 2 ** (shift - 12);
  // Entries whose addresses would lie past the top of the address space do not exist.
  const entries = Math.min(Math.floor(table.length / 8), (TOP_PAGE - first) / pagesPerEntry);
  const region = {
    fromPage: first,
    toPage: first + entries * pagesPerEntry,
    basePage: first,
    level: flat ? 1 : 2,
    shift,
    entries,
    root: table.offset,
    section: table.cache,
  };
  const hole = holeAround([
    first,
    ...(directMap ? [pageOf(directMap.base), pageOf(directMap.end - 1n)] : []),
  ]);
  return new RadixSpace(memory, amd64Format, 'little', besideHole(region, hole), UNMAPPED, hole);
}

function pageOf(kva: bigint): number {
  const parts = new KvaParts(64);
  parts.set(kva);
  return parts.page;
}

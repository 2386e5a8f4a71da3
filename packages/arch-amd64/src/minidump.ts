import {
  KvmError,
  KvaParts,
  RadixSpace,
  latin1,
  toHex,
  type AddressSpace,
  type DirectMap,
  type HeaderOverrides,
  type MinidumpDialect,
  type MinidumpLayout,
  type PhysicalMemory,
  type StructValues,
  type TableSection,
} from '@libkvm/minidump-core';
import { amd64Format, PHYSICAL_LIMIT } from './format.js';
import { amd64MinidumpHeader } from './header.js';

const MAGIC = 'minidump FreeBSD/amd64';
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
    kernbase: checkedKernbase(header),
    ...directMap(header, warnings),
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
  const header = { ...amd64MinidumpHeader.read(head, 0, 'little') };
  for (const [field, value] of Object.entries(overrides)) overrideField(header, field, value);
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

function overrideField(header: Header, field: string, value: number | bigint): void {
  const spec = (amd64MinidumpHeader.fields as Record<string, { kind: string }>)[field];
  if (spec === undefined || spec.kind === 'char[24]') {
    throw new KvmError('INVALID_ARGUMENT', `a FreeBSD/amd64 minidump header has no number ${field}`, {
      field,
    });
  }
  (header as Record<string, unknown>)[field] = spec.kind === 'u64' ? BigInt(value) : Number(value);
}

/** Version 1 covers KVA by pages, later ones by 2 MB. */
function checkedKernbase({ kernbase, version }: Header): bigint {
  const unit = version === 1 ? 0x1000n : 0x20_0000n;
  if (kernbase % unit === 0n) return kernbase;
  throw new KvmError('CORRUPT', `kernbase ${toHex(kernbase)} is not aligned to ${toHex(unit)}`, {
    field: 'kernbase',
    offset: amd64MinidumpHeader.fields.kernbase.at,
    hint: 'the header is damaged; pass the right kernbase as an override',
  });
}

function directMap({ dmapbase, dmapend }: Header, warnings: string[]): { directMap?: DirectMap } {
  if (dmapbase < dmapend) return { directMap: { base: dmapbase, end: dmapend, phys: 0 } };
  if (dmapbase !== dmapend)
    warnings.push(`dmapbase ${toHex(dmapbase)} lies above dmapend; the direct map is ignored`);
  return {};
}

function addressSpace(
  table: TableSection,
  memory: PhysicalMemory,
  { version, kernbase }: MinidumpLayout,
): AddressSpace {
  const flat = version === 1;
  const shift = flat ? 12 : 21;
  const parts = new KvaParts(64);
  parts.set(kernbase ?? 0n);
  const pagesPerEntry = 2 ** (shift - 12);
  // Entries whose addresses would lie past the top of the address space do not exist.
  const entries = Math.min(Math.floor(table.length / 8), (TOP_PAGE - parts.page) / pagesPerEntry);
  const region = {
    fromPage: parts.page,
    toPage: parts.page + entries * pagesPerEntry,
    basePage: parts.page,
    level: flat ? 1 : 2,
    shift,
    entries,
    root: table.offset,
    section: table.cache,
  };
  return new RadixSpace(memory, amd64Format, 'little', [region]);
}

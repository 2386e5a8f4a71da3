import {
  KvmError,
  RadixSpace,
  UNMAPPED,
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
import { ABOVE_4_GB, END_PAGE, PHYSICAL_LIMIT } from './address-width.js';
import { i386NopaeFormat } from './format-nopae.js';
import { i386PaeFormat } from './format-pae.js';
import { i386MinidumpHeader } from './header.js';
import { i386MinidumpWriter, MAGIC } from './minidump-writer.js';

const NEWEST = 2;

type Header = StructValues<typeof i386MinidumpHeader.fields>;

/**
 * FreeBSD/i386 minidumps (sys/i386/i386/minidump_machdep_base.c): one leaf entry for each 4 KB of KVA from kernbase on,
 * of 4 bytes, or of 8 when the kernel ran with PAE. Version 1 (6.2 to 12.x), version 2 (13.0 on) with dump_avail.
 *
 * The kernel writes page tables as they are and expands superpages into entries `PA | 0x63`, so a read-only or
 * no-execute superpage reads as writable and executable here. There is no direct map. Kernels from 12.0 on have an
 * address space of their own: their kernbase is 0x00800000.
 */
export const i386Minidump: MinidumpDialect = {
  name: 'FreeBSD/i386 minidump',
  probe: (head) => latin1(head.subarray(0, 24)) === MAGIC,
  layout,
  addressSpace,
  writer: i386MinidumpWriter,
};

function layout(head: Uint8Array, _fileSize: number, overrides: HeaderOverrides = {}): MinidumpLayout {
  const header = readHeader(head, overrides);
  return {
    format: 'freebsd',
    architecture: 'i386',
    version: header.version,
    byteOrder: 'little',
    bits: 32,
    pageSize: 4096,
    kernbase: BigInt(checkedKernbase(header)),
    pteFormat: header.paemode === 0 ? 'nopae' : 'pae',
    sizes: {
      msgbuf: header.msgbufsize,
      dumpAvail: header.version >= 2 ? header.dumpavailsize : 0,
      bitmap: header.bitmapsize,
      table: header.ptesize,
    },
    bitOrder: 'little',
    physicalLimit: PHYSICAL_LIMIT,
    extra: { paemode: header.paemode },
  };
}

function readHeader(head: Uint8Array, overrides: HeaderOverrides): Header {
  const stored = i386MinidumpHeader.read(head, 0, 'little');
  const header = overrideHeader(i386MinidumpHeader, stored, overrides, 'a FreeBSD/i386 minidump');
  if (header.version < 1 || header.version > NEWEST) {
    throw new KvmError(
      'UNSUPPORTED',
      `FreeBSD/i386 minidump of version ${header.version}; known are 1 and 2`,
      {
        field: 'version',
        offset: i386MinidumpHeader.fields.version.at,
        hint: 'the header is damaged or the kernel is newer than this library',
      },
    );
  }
  return header;
}

function checkedKernbase({ kernbase }: Header): number {
  if (kernbase % 0x1000 === 0) return kernbase;
  throw new KvmError('CORRUPT', `kernbase ${toHex(kernbase)} is not aligned to a page`, {
    field: 'kernbase',
    offset: i386MinidumpHeader.fields.kernbase.at,
    hint: 'the header is damaged; pass the right kernbase as an override',
  });
}

function addressSpace(table: TableSection, memory: PhysicalMemory, layout: MinidumpLayout): AddressSpace {
  const format = layout.pteFormat === 'pae' ? i386PaeFormat : i386NopaeFormat;
  const first = Number(layout.kernbase ?? 0n) / 0x1000;
  // Entries whose addresses would lie past 2^32 do not exist.
  const entries = Math.min(Math.floor(table.length / format.entryBytes), END_PAGE - first);
  const region = {
    fromPage: first,
    toPage: first + entries,
    basePage: first,
    level: 1,
    shift: 12,
    entries,
    root: table.offset,
    section: table.cache,
  };
  return new RadixSpace(memory, format, 'little', [region], UNMAPPED, ABOVE_4_GB);
}

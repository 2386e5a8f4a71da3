import { struct } from './struct.js';

/** First bytes of a portable minidump. libkvm takes no file that does not start with `minidump`, and so refuses it. */
export const PORTABLE_MAGIC = 'portable kminidump';
/** First bytes of the trailer: the mark that the file is complete. */
export const TRAILER_MAGIC = 'kminidump complete';
export const PORTABLE_VERSION = 1;
/** Sections start at multiples of this; the header takes one such unit. */
export const PORTABLE_ALIGN = 4096;
/** Entries that the section table of the header page has room for. */
export const MAX_SECTIONS = 123;
/** Bit of `flags`: the field kernbase has a meaning. */
export const HAS_KERNBASE = 1;
/** Bit of `flags`: the direct-map fields have a meaning. */
export const HAS_DIRECT_MAP = 2;

/** The header page; all metadata of the format is little-endian, whatever the machine was. */
export const portableHeader = struct('portableHeader', {
  magic: { at: 0, kind: 'char[24]', doc: '`portable kminidump`' },
  version: { at: 24, kind: 'u32', doc: '1' },
  flags: { at: 28, kind: 'u32', doc: 'bit 0: kernbase is set; bit 1: the direct map is set' },
  elfMachine: { at: 32, kind: 'u16', doc: 'e_machine of the kernel' },
  elfClass: { at: 34, kind: 'u8', doc: '1: 32-bit KVAs, 2: 64-bit' },
  elfData: { at: 35, kind: 'u8', doc: "byte order of the machine's memory: 1 little-endian, 2 big-endian" },
  pageSize: { at: 36, kind: 'u32', doc: 'bytes of a page of the bitmap and of the pages section' },
  kernbase: { at: 40, kind: 'u64', doc: 'first KVA of the kernel' },
  dmapBase: { at: 48, kind: 'u64', doc: 'first KVA of the direct map' },
  dmapEnd: { at: 56, kind: 'u64', doc: 'KVA behind the direct map; 0 where it reaches the top' },
  dmapPhys: { at: 64, kind: 'u64', doc: 'PA that dmapBase maps' },
  architecture: { at: 72, kind: 'char[16]', doc: "FreeBSD's name of the architecture" },
  pteFormat: {
    at: 88,
    kind: 'char[24]',
    doc: 'name of the hardware entry format, for the section `entries`',
  },
  entryBits: {
    at: 112,
    kind: 'u32',
    doc: 'bits of a hardware entry: 32 or 64; 0 without the section `entries`',
  },
  sectionCount: { at: 116, kind: 'u32', doc: 'entries of the section table' },
  fileSize: { at: 120, kind: 'u64', doc: 'bytes of the whole file, trailer included' },
  msgbufStart: { at: 128, kind: 'u64', doc: 'index in the message buffer of its oldest byte' },
  basePageSize: { at: 136, kind: 'u32', doc: "bytes of the machine's base page" },
  reserved: { at: 140, kind: 'u32', doc: '0' },
});

/** Offset in the header page of the section table: an array of {@link portableSection}, in file order. */
export const SECTION_TABLE_AT = 144;

/** An entry of the section table. */
export const portableSection = struct('portableSection', {
  name: { at: 0, kind: 'char[16]', doc: 'name of the section; readers skip names they do not know' },
  offset: { at: 16, kind: 'u64', doc: 'byte offset in the file, a multiple of 4096' },
  length: { at: 24, kind: 'u64', doc: 'bytes; zeros follow up to the next multiple of 4096' },
});

/** A piece of KVA that the leaf array describes: an entry of the section `segments`, ascending and disjoint. */
export const portableSegment = struct('portableSegment', {
  kva: { at: 0, kind: 'u64', doc: 'first KVA, a multiple of the granule' },
  count: { at: 8, kind: 'u64', doc: 'granules' },
  firstLeaf: { at: 16, kind: 'u64', doc: 'index in the leaf array of its first (RUN: only) leaf' },
  granuleShift: { at: 24, kind: 'u8', doc: 'log2 of the granule: that of the base page, or 10' },
  kind: {
    at: 25,
    kind: 'u8',
    doc: '1 FLAT: a leaf a granule; 2 RUN: one leaf, granule k at PA + k granules',
  },
  reserved: { at: 26, kind: 'u16', doc: '0' },
  padding: { at: 28, kind: 'u32', doc: '0' },
});

/** Names of the sections of text: what a writer knew beside the two maps. */
export const NOTE_SECTIONS: readonly string[] = ['panic', 'kernelVersion', 'buildId', 'time', 'registers'];
/** Longer sections of text are not read. */
export const MAX_NOTE = 1024 * 1024;

/** A leaf for each granule. */
export const FLAT = 1;
/** One leaf for the whole segment. */
export const RUN = 2;

/** The trailer: the last 4096 bytes of the file, zero behind the checksums. */
export const portableTrailer = struct('portableTrailer', {
  magic: { at: 0, kind: 'char[24]', doc: '`kminidump complete`' },
  sectionCount: {
    at: 24,
    kind: 'u32',
    doc: 'checksums that follow: one for each section before the trailer',
  },
  crc: { at: 28, kind: 'u32', doc: 'CRC-32 of the trailer with this field 0' },
});

/** Offset in the trailer of the checksums: u32 CRC-32 of each section with its padding, in file order. */
export const CHECKSUMS_AT = 32;

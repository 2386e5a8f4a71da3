import {
  KvmError,
  readBytes,
  type ByteOrder,
  type ByteSource,
  type ElfIdentity,
  type Struct,
  type StructSpec,
  type StructValues,
} from '@libkvm/minidump-core';
import { ehdr32, ehdr64, elfIdent, phdr32, phdr64, PN_XNUM, shdr32, shdr64 } from './elf-structs.js';

/** What the first bytes of an ELF file say. */
export interface ElfFileIdentity extends ElfIdentity {
  /** e_type: 1 relocatable, 2 executable, 3 shared object, 4 core. */
  readonly type: number;
  /** EI_OSABI: 9 FreeBSD, 255 standalone (FreeBSD full dumps). */
  readonly osabi: number;
  /** e_entry, zero-extended. */
  readonly entry: bigint;
}

/** A program header. Offsets and lengths above 2^53 are no longer exact, and then past the end of every file. */
export interface ElfSegment {
  /** p_type: 1 load, 4 notes. */
  readonly type: number;
  /** p_flags: 4 read, 2 write, 1 execute. */
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  /** p_filesz: bytes in the file. */
  readonly fileLength: number;
  /** p_memsz: bytes in memory. */
  readonly memLength: number;
  readonly align: number;
}

/** A section header. Offsets and lengths as in {@link ElfSegment}. */
export interface ElfSection {
  /** Offset of its name in the table of section names. */
  readonly nameOffset: number;
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  readonly offset: number;
  readonly length: number;
  readonly link: number;
  readonly info: number;
  /** sh_addralign: bytes. */
  readonly align: number;
  /** Bytes of an entry, for sections that are tables. */
  readonly entrySize: number;
}

/** Where the header tables of an ELF file are. */
export interface ElfTables {
  readonly phoff: number;
  readonly phentsize: number;
  readonly phnum: number;
  readonly shoff: number;
  readonly shentsize: number;
  readonly shnum: number;
  readonly shstrndx: number;
}

const MAGIC = 0x464c_457f;
const IDENT_BYTES = 16;
/** More headers than any machine or linker makes; a sparse file could claim billions. */
export const MAX_HEADERS = 2 ** 20;
const MAX_ENTRY_BYTES = 256;

/** Whether a file that starts with these bytes is an ELF file. */
export function isElf(head: Uint8Array): boolean {
  return head.length >= IDENT_BYTES && elfIdent.read(head, 0, 'little').magic === MAGIC;
}

/**
 * Reads the file header.
 *
 * @throws KvmError `NOT_A_CORE` when this is no ELF file, `CORRUPT` (class or byte order), `TRUNCATED`
 */
export function readFileHeader(source: ByteSource): { identity: ElfFileIdentity; tables: ElfTables } {
  const head = readBytes(source, 0, Math.min(ehdr64.size, source.size), 'the ELF header');
  if (!isElf(head)) {
    throw new KvmError('NOT_A_CORE', 'not an ELF file: it does not start with 7f 45 4c 46', {
      offset: 0,
      hint: 'give an ELF core or kernel; the file may be compressed, or cut at its start',
    });
  }
  const ident = elfIdent.read(head, 0, 'little');
  const bits = oneOf(ident.class, 32, 64, 'EI_CLASS', 4);
  const byteOrder = oneOf<ByteOrder>(ident.data, 'little', 'big', 'EI_DATA', 5);
  const raw = bits === 64 ? ehdr64.read(head, 0, byteOrder) : ehdr32.read(head, 0, byteOrder);
  const { type, machine, phentsize, phnum, shentsize, shnum, shstrndx } = raw;
  return {
    identity: { machine, bits, byteOrder, type, osabi: ident.osabi, entry: BigInt(raw.entry) },
    tables: {
      ...{ phoff: Number(raw.phoff), phentsize, phnum },
      ...{ shoff: Number(raw.shoff), shentsize, shnum, shstrndx },
    },
  };
}

/**
 * Reads the program headers. Where there are 65535 or more, their number is in section 0 (gABI chapter 4, e_phnum).
 *
 * @throws KvmError `CORRUPT`, `TRUNCATED`
 */
export function readSegments(source: ByteSource, identity: ElfIdentity, tables: ElfTables): ElfSegment[] {
  const { phoff, phentsize, phnum } = tables;
  if (phoff === 0 || phnum === 0) return [];
  const count = phnum === PN_XNUM && tables.shoff !== 0 ? firstSection(source, identity, tables).info : phnum;
  const place = { offset: phoff, entrySize: phentsize, count, what: 'program headers', field: 'e_ph' };
  return readTable(source, identity, phdr32, phdr64, place).map((raw) => ({
    ...{ type: raw.type, flags: raw.flags, offset: Number(raw.offset) },
    ...{ vaddr: BigInt(raw.vaddr), paddr: BigInt(raw.paddr) },
    ...{ fileLength: Number(raw.filesz), memLength: Number(raw.memsz), align: Number(raw.align) },
  }));
}

/**
 * Reads the section headers. Where there are 65280 or more, their number is in section 0 (gABI chapter 4, e_shnum).
 *
 * @throws KvmError `CORRUPT`, `TRUNCATED`
 */
export function readSections(source: ByteSource, identity: ElfIdentity, tables: ElfTables): ElfSection[] {
  const { shoff, shentsize, shnum } = tables;
  if (shoff === 0) return [];
  const count = shnum === 0 ? firstSection(source, identity, tables).length : shnum;
  return sectionTable(source, identity, shoff, shentsize, count);
}

function firstSection(source: ByteSource, identity: ElfIdentity, tables: ElfTables): ElfSection {
  return sectionTable(source, identity, tables.shoff, tables.shentsize, 1)[0];
}

function sectionTable(
  source: ByteSource,
  identity: ElfIdentity,
  offset: number,
  entrySize: number,
  count: number,
): ElfSection[] {
  const place = { offset, entrySize, count, what: 'section headers', field: 'e_sh' };
  return readTable(source, identity, shdr32, shdr64, place).map((raw) => ({
    ...{ nameOffset: raw.name, type: raw.type, flags: Number(raw.flags), address: BigInt(raw.addr) },
    ...{ offset: Number(raw.offset), length: Number(raw.size) },
    ...{ link: raw.link, info: raw.info, align: Number(raw.addralign), entrySize: Number(raw.entsize) },
  }));
}

interface TablePlace {
  readonly offset: number;
  readonly entrySize: number;
  readonly count: number;
  readonly what: string;
  readonly field: string;
}

/** The rows of a header table; entries may be longer than the structure, never shorter. */
function readTable<N extends StructSpec, W extends StructSpec>(
  source: ByteSource,
  { bits, byteOrder }: ElfIdentity,
  narrow: Struct<N>,
  wide: Struct<W>,
  { offset, entrySize, count, what, field }: TablePlace,
): (StructValues<N> | StructValues<W>)[] {
  const row = bits === 64 ? wide : narrow;
  if (count === 0) return [];
  if (entrySize < row.size || entrySize > MAX_ENTRY_BYTES) {
    throw corrupt(`${what} of ${entrySize} bytes; ${row.name} has ${row.size}`, `${field}entsize`, offset);
  }
  if (count > MAX_HEADERS)
    throw corrupt(`${count} ${what} are more than any file has`, `${field}num`, offset);
  const bytes = readBytes(source, offset, entrySize * count, what);
  return Array.from({ length: count }, (_, i) => row.read(bytes, i * entrySize, byteOrder));
}

/** The meaning of an identification byte that is 1 or 2. */
function oneOf<T>(value: number, first: T, second: T, field: string, offset: number): T {
  if (value === 1) return first;
  if (value === 2) return second;
  throw corrupt(`an ELF file whose ${field} is ${value}, neither 1 nor 2`, field, offset);
}

function corrupt(message: string, field: string, offset: number): KvmError {
  return new KvmError('CORRUPT', message, {
    field,
    offset,
    hint: 'the ELF header is damaged; copy the file again',
  });
}

import { KvmError, type ByteSource } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import type { ElfSection } from './elf-headers.js';
import { SHT_DYNSYM, SHT_SYMTAB, sym32, sym64 } from './elf-structs.js';

/** st_info & 15 (gABI figure 4-17). */
export const STT_NOTYPE = 0;
export const STT_OBJECT = 1;
export const STT_FUNC = 2;
export const STT_SECTION = 3;
export const STT_FILE = 4;
export const STT_TLS = 6;
export const STT_GNU_IFUNC = 10;
/** st_info >> 4 (gABI figure 4-16). */
export const STB_LOCAL = 0;
export const STB_GLOBAL = 1;
export const STB_WEAK = 2;
export const STB_GNU_UNIQUE = 10;

const SHN_UNDEF = 0;
/** Far above any kernel (60 thousand is usual); a sparse file could claim billions. */
const MAX_SYMBOLS = 2 ** 24;
const MAX_NAMES_BYTES = 2 ** 28;
/** The longest mangled names are a tenth of it. Without a limit, a table without NULs is one huge name for each symbol. */
const MAX_NAME = 4096;
/** Bytes read at a time, in one request where they are fetched: an interrupted load goes on where it was. */
const PIECE = 2 * 1024 * 1024;

/**
 * The rows of an ELF symbol table, .symtab or else .dynsym, and the bytes of their names, as they are in the file.
 * Nothing is read before {@link SymbolRecords.load}; after it, all of these two sections is in memory (1.5 and 1.2 MB
 * for 60 thousand symbols), and nothing else of the file.
 */
export class SymbolRecords {
  /** Number of rows, row 0 (which is no symbol) among them; 0 before {@link SymbolRecords.load}. */
  count = 0;
  /** The string table. */
  names: Uint8Array = new Uint8Array(0);

  private readonly row: typeof sym32 | typeof sym64;
  private readonly little: boolean;
  /** Offset of the low word of a u64 within it. */
  private readonly low: number;
  private readonly wide: boolean;
  private stride = 0;
  private view = new DataView(new ArrayBuffer(0));
  private rowsPart?: LazyPart;
  private namesPart?: LazyPart;

  constructor(private readonly elf: ElfFile) {
    this.wide = elf.identity.bits === 64;
    this.little = elf.identity.byteOrder === 'little';
    this.row = this.wide ? sym64 : sym32;
    this.low = this.wide && !this.little ? 4 : 0;
  }

  /**
   * Reads the table. It can be called again when the source threw, and goes on then.
   *
   * @throws KvmError `CORRUPT`, `TRUNCATED`
   */
  load(): void {
    if (this.rowsPart === undefined) this.place();
    if (this.rowsPart === undefined || this.namesPart === undefined) return;
    const rows = this.rowsPart.read();
    this.names = this.namesPart.read();
    this.view = new DataView(rows.buffer);
    this.count = Math.floor(rows.length / this.stride);
  }

  nameOffset(index: number): number {
    return this.view.getUint32(index * this.stride + this.row.fields.name.at, this.little);
  }

  valueLow(index: number): number {
    return this.view.getUint32(index * this.stride + this.row.fields.value.at + this.low, this.little);
  }

  valueHigh(index: number): number {
    if (!this.wide) return 0;
    return this.view.getUint32(index * this.stride + this.row.fields.value.at + 4 - this.low, this.little);
  }

  sizeLow(index: number): number {
    return this.view.getUint32(index * this.stride + this.row.fields.size.at + this.low, this.little);
  }

  sizeHigh(index: number): number {
    if (!this.wide) return 0;
    return this.view.getUint32(index * this.stride + this.row.fields.size.at + 4 - this.low, this.little);
  }

  type(index: number): number {
    return this.view.getUint8(index * this.stride + this.row.fields.info.at) & 15;
  }

  bind(index: number): number {
    return this.view.getUint8(index * this.stride + this.row.fields.info.at) >>> 4;
  }

  /** Whether the row is a symbol that names something here: defined, not a section or source file, with a name. */
  isNamed(index: number): boolean {
    const at = index * this.stride;
    if (this.view.getUint16(at + this.row.fields.shndx.at, this.little) === SHN_UNDEF) return false;
    const type = this.view.getUint8(at + this.row.fields.info.at) & 15;
    if (type === STT_SECTION || type === STT_FILE) return false;
    const name = this.nameOffset(index);
    return name < this.names.length && this.names[name] !== 0;
  }

  /** How much a symbol is to be preferred among those of its name or address: global 2, weak 1, local 0. */
  rank(index: number): number {
    const bind = this.bind(index);
    if (bind === STB_GLOBAL || bind === STB_GNU_UNIQUE) return 2;
    return bind === STB_WEAK ? 1 : 0;
  }

  /** Offset behind the last byte of the name at `start`: its NUL, or the end of a table without one. Names are cut. */
  nameEnd(start: number): number {
    const { names } = this;
    const limit = Math.min(names.length, start + MAX_NAME);
    let end = start;
    while (end < limit && names[end] !== 0) end++;
    return end;
  }

  /** Finds the two sections and checks them against the file before memory is taken for them. */
  private place(): void {
    const { sections } = this.elf;
    const table =
      sections.find(({ type, length }) => type === SHT_SYMTAB && length > 0) ??
      sections.find(({ type, length }) => type === SHT_DYNSYM && length > 0);
    if (table === undefined) return;
    this.stride = table.entrySize === 0 ? this.row.size : table.entrySize;
    if (this.stride < this.row.size || this.stride > 256) throw corrupt(table, 'sh_entsize', this.stride);
    if (table.length / this.stride > MAX_SYMBOLS) throw corrupt(table, 'sh_size', table.length);
    const names = sections[table.link];
    if (table.link === 0 || names === undefined) throw corrupt(table, 'sh_link', table.link);
    if (names.length > MAX_NAMES_BYTES) throw corrupt(names, 'sh_size', names.length);
    this.namesPart = new LazyPart(this.elf.source.source, names, 'the names of the symbols');
    this.rowsPart = new LazyPart(this.elf.source.source, table, 'the symbol table');
  }
}

/** A section that is read whole, in pieces. */
class LazyPart {
  private bytes: Uint8Array<ArrayBuffer> | undefined;
  private done = 0;

  constructor(
    private readonly source: ByteSource,
    private readonly section: ElfSection,
    private readonly what: string,
  ) {}

  read(): Uint8Array<ArrayBuffer> {
    const { offset, length } = this.section;
    if (offset + length > this.source.size) throw this.truncated();
    this.bytes ??= new Uint8Array(length);
    while (this.done < length) {
      const count = Math.min(PIECE, length - this.done);
      if (this.source.readSync(offset + this.done, this.bytes, this.done, count) < count)
        throw this.truncated();
      this.done += count;
    }
    return this.bytes;
  }

  private truncated(): KvmError {
    const { offset, length } = this.section;
    return new KvmError(
      'TRUNCATED',
      `${this.what} reaches past the end of the file (${this.source.size} bytes)`,
      {
        offset,
        length,
        hint: 'the kernel file is cut short; copy it again',
      },
    );
  }
}

function corrupt(section: ElfSection, field: string, value: number): KvmError {
  return new KvmError('CORRUPT', `the symbol table has ${field} ${value}, which no kernel has`, {
    field,
    offset: section.offset,
    length: section.length,
    hint: 'the section headers of the kernel file are damaged; copy it again',
  });
}

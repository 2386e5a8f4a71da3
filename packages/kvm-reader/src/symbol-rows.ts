import type { ElfIdentity } from '@libkvm/minidump-core';
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
const MAX_ROW = 256;

/** Rows of an ELF symbol table, one or all of them, as they are in the file. */
export class SymbolRows {
  private readonly row: typeof sym32 | typeof sym64;
  private readonly little: boolean;
  /** Offset of the low word of a u64 within it. */
  private readonly low: number;
  private readonly wide: boolean;
  private stride = 0;
  private view = new DataView(new ArrayBuffer(0));

  constructor(identity: ElfIdentity) {
    this.wide = identity.bits === 64;
    this.little = identity.byteOrder === 'little';
    this.row = this.wide ? sym64 : sym32;
    this.low = this.wide && !this.little ? 4 : 0;
  }

  /** Bytes from row to row in a section; undefined where its entries are no symbols of this class. */
  strideOf({ entrySize }: ElfSection): number | undefined {
    if (entrySize === 0) return this.row.size;
    return entrySize >= this.row.size && entrySize <= MAX_ROW ? entrySize : undefined;
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

  /** Whether the row stands for something here: it is defined, and no section or source file. */
  isDefined(index: number): boolean {
    const at = index * this.stride;
    if (this.view.getUint16(at + this.row.fields.shndx.at, this.little) === SHN_UNDEF) return false;
    const type = this.type(index);
    return type !== STT_SECTION && type !== STT_FILE;
  }

  /** How much a symbol is to be preferred among those of its name or address: global 2, weak 1, local 0. */
  rank(index: number): number {
    const bind = this.bind(index);
    if (bind === STB_GLOBAL || bind === STB_GNU_UNIQUE) return 2;
    return bind === STB_WEAK ? 1 : 0;
  }

  /** Takes rows of so many bytes each. */
  hold(bytes: Uint8Array<ArrayBuffer>, stride: number): void {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.stride = stride;
  }
}

/** The section that has the symbols of a file: .symtab, or .dynsym where that was stripped. */
export function symbolSection(sections: readonly ElfSection[]): ElfSection | undefined {
  return (
    sections.find(({ type, length }) => type === SHT_SYMTAB && length > 0) ??
    sections.find(({ type, length }) => type === SHT_DYNSYM && length > 0)
  );
}

import { KvmError } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import type { ElfSection } from './elf-headers.js';
import { LazySection } from './lazy-section.js';
import { SymbolRows, symbolSection } from './symbol-rows.js';

/** Far above any kernel (60 thousand is usual); a sparse file could claim billions. */
const MAX_SYMBOLS = 2 ** 24;
const MAX_NAMES_BYTES = 2 ** 28;
/** The longest mangled names are a tenth of it. Without a limit, a table without NULs is one huge name for each symbol. */
export const MAX_NAME = 4096;

/**
 * The rows of an ELF symbol table, .symtab or else .dynsym, and the bytes of their names, as they are in the file.
 * Nothing is read before {@link SymbolRecords.load}; after it, all of these two sections is in memory (1.5 and 1.2 MB
 * for 60 thousand symbols), and nothing else of the file.
 */
export class SymbolRecords extends SymbolRows {
  /** Number of rows, row 0 (which is no symbol) among them; 0 before {@link SymbolRecords.load}. */
  count = 0;
  /** The string table. */
  names: Uint8Array = new Uint8Array(0);

  private parts:
    { readonly rows: LazySection; readonly names: LazySection; readonly stride: number } | undefined;

  constructor(private readonly elf: ElfFile) {
    super(elf.identity);
  }

  /**
   * Reads the table. It can be called again when the source threw, and goes on then.
   *
   * @throws KvmError `CORRUPT`, `TRUNCATED`
   */
  load(): void {
    if (this.parts === undefined) this.place();
    if (this.parts === undefined) return;
    const { stride } = this.parts;
    const rows = this.parts.rows.read();
    this.names = this.parts.names.read();
    this.hold(rows, stride);
    this.count = Math.floor(rows.length / stride);
  }

  /** Whether the row is a symbol that names something here: defined, not a section or source file, with a name. */
  isNamed(index: number): boolean {
    if (!this.isDefined(index)) return false;
    const name = this.nameOffset(index);
    return name < this.names.length && this.names[name] !== 0;
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
    const table = symbolSection(sections);
    if (table === undefined) return;
    const stride = this.strideOf(table);
    if (stride === undefined) throw corrupt(table, 'sh_entsize', table.entrySize);
    if (table.length / stride > MAX_SYMBOLS) throw corrupt(table, 'sh_size', table.length);
    const names = sections[table.link];
    if (table.link === 0 || names === undefined) throw corrupt(table, 'sh_link', table.link);
    if (names.length > MAX_NAMES_BYTES) throw corrupt(names, 'sh_size', names.length);
    const { source } = this.elf.source;
    this.parts = {
      rows: new LazySection(source, table, 'the symbol table'),
      names: new LazySection(source, names, 'the names of the symbols'),
      stride,
    };
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

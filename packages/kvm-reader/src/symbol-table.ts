import { KvaParts, kvaOf } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import { SymbolAddresses } from './symbol-addresses.js';
import { SymbolNames } from './symbol-names.js';
import { STB_GLOBAL, STB_GNU_UNIQUE, STB_LOCAL, STB_WEAK, SymbolRecords } from './symbol-records.js';

/** What a symbol stands for (st_info & 15). */
export type SymbolType =
  'notype' | 'object' | 'func' | 'section' | 'file' | 'common' | 'tls' | 'ifunc' | 'other';
/** Who sees a symbol (st_info >> 4). */
export type SymbolBind = 'local' | 'global' | 'weak' | 'other';

/** A symbol of a kernel. */
export interface KernelSymbol {
  readonly name: string;
  /** Its address; zero-extended for 32-bit kernels. */
  readonly value: bigint;
  /** Bytes; 0 when the file does not say. Above 2^53 no longer exact. */
  readonly size: number;
  readonly type: SymbolType;
  readonly bind: SymbolBind;
}

const TYPES: Readonly<Record<number, SymbolType>> = {
  ...{ 0: 'notype', 1: 'object', 2: 'func', 3: 'section', 4: 'file', 5: 'common', 6: 'tls', 10: 'ifunc' },
};
const BINDS: Readonly<Record<number, SymbolBind>> = {
  ...{ [STB_LOCAL]: 'local', [STB_GLOBAL]: 'global', [STB_WEAK]: 'weak', [STB_GNU_UNIQUE]: 'global' },
};

/**
 * The symbols of an ELF file: .symtab, or .dynsym where that was stripped. Nothing is read until the first question;
 * then the symbol and string tables are, and no other part of the file.
 *
 * Undefined symbols, those of sections and source files, and those without a name are left out. sh_info is not trusted:
 * local symbols may stand anywhere.
 *
 * Every method throws KvmError `CORRUPT` or `TRUNCATED` when the tables are damaged.
 */
export class SymbolTable {
  private readonly records: SymbolRecords;
  private readonly parts: KvaParts;
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  private loaded = false;
  private named = -1;
  private names: SymbolNames | undefined;
  private addresses: SymbolAddresses | undefined;

  constructor(elf: ElfFile) {
    this.records = new SymbolRecords(elf);
    this.parts = new KvaParts(elf.identity.bits);
  }

  /** Number of symbols, of {@link SymbolTable.entries}. */
  get size(): number {
    if (this.named >= 0) return this.named;
    const records = this.load();
    let named = 0;
    for (let row = 1; row < records.count; row++) if (records.isNamed(row)) named++;
    return (this.named = named);
  }

  /** The symbol of a name. Of several, a global one before a weak one before a local one, then the first in the file. */
  lookup(name: string): KernelSymbol | undefined {
    this.names ??= new SymbolNames(this.load());
    const row = this.names.find(name);
    return row === 0 ? undefined : this.symbol(row);
  }

  /**
   * The symbol that an address belongs to, and how many bytes behind its start it lies: the innermost one whose size
   * covers it, else the nearest below when that one has no size. Of several at one address functions and objects come
   * before others, then global before weak before local ones.
   *
   * @throws KvmError also `INVALID_ARGUMENT` and `NOT_CANONICAL`, for what is no address of this machine
   */
  symbolAt(address: number | bigint): { symbol: KernelSymbol; offset: bigint } | undefined {
    this.addresses ??= new SymbolAddresses(this.load());
    const row = this.addresses.at(address, this.parts);
    if (row === 0) return undefined;
    const symbol = this.symbol(row);
    return { symbol, offset: kvaOf(this.parts.page, this.parts.offset) - symbol.value };
  }

  /** All symbols in the order of the file, those with equal names too. */
  *entries(): Generator<KernelSymbol> {
    const records = this.load();
    for (let row = 1; row < records.count; row++) if (records.isNamed(row)) yield this.symbol(row);
  }

  private load(): SymbolRecords {
    if (!this.loaded) this.records.load();
    this.loaded = true;
    return this.records;
  }

  private symbol(row: number): KernelSymbol {
    const { records } = this;
    const start = records.nameOffset(row);
    return {
      name: this.decoder.decode(records.names.subarray(start, records.nameEnd(start))),
      value: (BigInt(records.valueHigh(row)) << 32n) | BigInt(records.valueLow(row)),
      size: records.sizeHigh(row) * 0x1_0000_0000 + records.sizeLow(row),
      type: TYPES[records.type(row)] ?? 'other',
      bind: BINDS[records.bind(row)] ?? 'other',
    };
  }
}

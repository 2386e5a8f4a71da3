import { KvaParts, kvaOf } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import { SymbolAddresses } from './symbol-addresses.js';
import { SymbolHash } from './symbol-hash.js';
import { SymbolNames } from './symbol-names.js';
import { SymbolRecords } from './symbol-records.js';
import { STB_GLOBAL, STB_GNU_UNIQUE, STB_LOCAL, STB_WEAK, type SymbolRows } from './symbol-rows.js';

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
 * The symbols of an ELF file: .symtab, or .dynsym where that was stripped. Nothing is read until the first question.
 * A symbol that the linker exported is looked up through the hash table of .dynsym where there is one (FreeBSD kernels
 * are linked with --export-dynamic, sys/conf/kern.pre.mk); every other question reads the whole symbol and string
 * tables once, and all after it are answered from them.
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
  private readonly encoder = new TextEncoder();
  /** Until the whole table is there. */
  private hash: SymbolHash | undefined;
  private named = -1;
  private names: SymbolNames | undefined;
  private addresses: SymbolAddresses | undefined;

  constructor(elf: ElfFile) {
    this.records = new SymbolRecords(elf);
    this.hash = new SymbolHash(elf);
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
    const bytes = this.encoder.encode(name);
    const exported = this.hash?.find(bytes);
    if (exported) return this.symbolOf(exported, 0, bytes);
    this.names ??= new SymbolNames(this.load());
    const row = this.names.find(bytes);
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
    if (this.hash) this.records.load();
    this.hash = undefined;
    return this.records;
  }

  private symbol(row: number): KernelSymbol {
    const { records } = this;
    const start = records.nameOffset(row);
    return this.symbolOf(records, row, records.names.subarray(start, records.nameEnd(start)));
  }

  private symbolOf(rows: SymbolRows, row: number, name: Uint8Array): KernelSymbol {
    return {
      name: this.decoder.decode(name),
      value: (BigInt(rows.valueHigh(row)) << 32n) | BigInt(rows.valueLow(row)),
      size: rows.sizeHigh(row) * 0x1_0000_0000 + rows.sizeLow(row),
      type: TYPES[rows.type(row)] ?? 'other',
      bind: BINDS[rows.bind(row)] ?? 'other',
    };
  }
}

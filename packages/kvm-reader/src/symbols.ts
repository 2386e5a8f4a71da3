import { KvmError } from '@libkvm/minidump-core';
import type { KernelFile } from './kernel-file.js';
import type { KernelSymbol } from './symbol-table.js';

/** Gives the address of a symbol, or undefined when it knows none of that name (kvm_open2(3)'s resolver). */
export type SymbolResolver = (name: string) => number | bigint | undefined;

/** A symbol and how far an address lies behind its start. */
export interface SymbolHit {
  readonly symbol: KernelSymbol;
  readonly offset: bigint;
}

/** The symbols of a core's kernel: from the kernel file, from a resolver of the caller, or none. */
export class Symbols {
  constructor(
    readonly kernel?: KernelFile,
    private readonly resolver?: SymbolResolver,
  ) {}

  /** The address of a symbol, or undefined. The caller's resolver is asked first. */
  find(name: string): bigint | undefined {
    const resolved = this.resolver?.(name);
    if (resolved !== undefined) return BigInt.asUintN(64, BigInt(resolved));
    return this.kernel?.symbols.lookup(name)?.value;
  }

  /**
   * The address of a symbol.
   *
   * @throws KvmError `NO_SYMBOL`
   */
  address(name: string): bigint {
    const value = this.find(name);
    if (value !== undefined) return value;
    const without = this.kernel === undefined && this.resolver === undefined;
    throw new KvmError('NO_SYMBOL', `no kernel symbol ${name}`, {
      field: name,
      hint: without
        ? 'give the kernel file of this core'
        : 'the kernel file may be stripped, or of another version',
    });
  }

  /** The symbol that an address lies in, or behind; undefined without a kernel file. */
  at(address: number | bigint): SymbolHit | undefined {
    return this.kernel?.symbols.symbolAt(BigInt(address));
  }
}

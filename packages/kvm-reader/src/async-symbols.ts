import type { Cancellable } from './async-source.js';
import type { TakeStep } from './async-bulk.js';
import type { KernelSymbol } from './symbol-table.js';
import type { SymbolHit, Symbols } from './symbols.js';

/** The symbols of a core's kernel, of which the file may have to be fetched: the questions of {@link Symbols}. */
export class AsyncSymbols {
  /** @internal */
  constructor(
    private readonly symbols: Symbols,
    private readonly take: TakeStep,
  ) {}

  /** The address of a symbol, or undefined. */
  find(name: string, options?: Cancellable): Promise<bigint | undefined> {
    return this.take(() => this.symbols.find(name), options);
  }

  /**
   * The address of a symbol.
   *
   * @throws KvmError `NO_SYMBOL`
   */
  address(name: string, options?: Cancellable): Promise<bigint> {
    return this.take(() => this.symbols.address(name), options);
  }

  /** The symbol of a name in the kernel file, with size and type; undefined without one. */
  lookup(name: string, options?: Cancellable): Promise<KernelSymbol | undefined> {
    return this.take(() => this.symbols.kernel?.symbols.lookup(name), options);
  }

  /** The symbol that an address lies in, or behind; undefined without a kernel file. */
  at(address: number | bigint, options?: Cancellable): Promise<SymbolHit | undefined> {
    return this.take(() => this.symbols.at(address), options);
  }
}

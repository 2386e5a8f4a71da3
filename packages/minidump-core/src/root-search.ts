import { MAPPED, Translation, type AddressSpace } from './address-space.js';
import type { RootFacts } from './architecture.js';
import { KvmError, isKvmError, toHex } from './errors.js';
import { KvaParts } from './kva.js';
import { PhysicalWords, TRUNCATED, type PhysicalMemory } from './physical-memory.js';

/** Physical addresses of every machine lie below. */
const END = 2n ** 52n;

/**
 * Helps an architecture to find the kernel's page tables in physical memory without registers: reads variables of the
 * kernel where its image may have been loaded, and checks the tables that they name. Damaged or wrong kernel files give
 * addresses that are anything: whatever cannot be read or does not fit is no candidate.
 */
export class RootSearch {
  private readonly words: PhysicalWords;
  private readonly parts: KvaParts;
  private readonly translation = new Translation();
  /** Variables that were read; whether the file ends before one that was not. */
  private read = 0;
  private cut = false;

  constructor(
    private readonly memory: PhysicalMemory,
    private readonly facts: RootFacts,
    /** Width of a KVA. */
    private readonly bits: 32 | 64,
  ) {
    this.words = new PhysicalWords(memory, facts.byteOrder === 'little');
    this.parts = new KvaParts(bits);
  }

  /** The address of a kernel symbol, cut to the machine's width. */
  symbol(name: string): bigint | undefined {
    const value = this.facts.symbols(name);
    return value === undefined ? undefined : BigInt.asUintN(this.bits, value);
  }

  /**
   * The address of a symbol that is needed.
   *
   * @throws KvmError `NO_SYMBOL`
   */
  needed(name: string): bigint {
    const value = this.symbol(name);
    if (value !== undefined) return value;
    throw new KvmError('NO_SYMBOL', `the kernel has no symbol ${name}, by which its page tables are found`, {
      field: name,
      hint: 'give the kernel of this core, not stripped; or give registers (--reg)',
    });
  }

  /** The integer at a PA, exact below 2^53; undefined where there is none, or none that is aligned. */
  word(pa: bigint, bytes: 4 | 8): number | undefined {
    if (pa < 0n || pa >= END || pa % BigInt(bytes) !== 0n) return undefined;
    const { words } = this;
    const at = bytes === 4 ? words.load32(Number(pa)) : words.load64(Number(pa));
    if (at === TRUNCATED) this.cut = true;
    if (at < 0) return undefined;
    this.read++;
    return words.high * 0x1_0000_0000 + words.low;
  }

  /** Whether a value can be the PA of a root table: not 0, aligned, and in the core. */
  isTable(value: number | undefined, align: number): value is number {
    if (value === undefined || value === 0 || value >= Number(END) || value % align !== 0) return false;
    return this.memory.locate(value) >= 0;
  }

  /** Whether an address space maps a KVA to a PA. */
  maps(space: AddressSpace, kva: bigint, pa: bigint): boolean {
    try {
      this.parts.set(kva);
    } catch (error) {
      if (!isKvmError(error)) throw error;
      return false;
    }
    const { page, offset } = this.parts;
    return space.translate(page, offset, this.translation) === MAPPED && BigInt(this.translation.pa) === pa;
  }

  /** Why no page tables were found through a variable. */
  failure(name: string, kva: bigint): KvmError {
    const where = { address: kva, addressSpace: 'virtual', field: name } as const;
    const what = `page tables not found: the kernel's variable ${name} at ${toHex(kva)}`;
    if (this.read > 0) {
      return new KvmError(
        'MISMATCH',
        `${what} leads, wherever it may be in memory, to no tables that map it`,
        {
          ...where,
          hint: 'give the kernel that was running when the core was made; or give registers (--reg)',
        },
      );
    }
    const why = this.cut ? 'lies past the end of the file' : 'is not in the core';
    return new KvmError(this.cut ? 'TRUNCATED' : 'NOT_DUMPED', `${what} ${why}`, {
      ...where,
      hint: 'is the kernel file that of this core? Otherwise give registers (--reg)',
    });
  }
}

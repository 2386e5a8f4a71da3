import type { AddressSpace } from './address-space.js';
import type { MinidumpDialect } from './dialect.js';
import type { PhysicalMemory } from './physical-memory.js';
import type { ByteOrder } from './struct.js';

/** The ELF identity of a kernel or core: e_machine, class and data encoding. */
export interface ElfIdentity {
  readonly machine: number;
  readonly bits: 32 | 64;
  readonly byteOrder: ByteOrder;
}

/**
 * Control registers that say where page tables are and how they are laid out, by their names in the processor's manual,
 * upper case: CR0, CR3, CR4, EFER; TTBR0, TTBR1, TTBCR, SCTLR.
 */
export type Registers = Readonly<Record<string, bigint>>;

/** How a memory image is to be walked. */
export interface WalkOptions {
  readonly registers: Registers;
  /** Byte order of the page tables; the architecture's first one unless given. */
  readonly byteOrder?: ByteOrder;
  /** Name of the page-table format, where the registers do not tell it. */
  readonly pteFormat?: string;
}

/**
 * A plugin: everything the library knows of one processor architecture. Readers and formats are given architectures;
 * none of them knows one by name.
 */
export interface Architecture {
  /** FreeBSD's name of it: `amd64`, `i386`, `arm`, `arm64`. */
  readonly name: string;
  /** Width of a KVA. */
  readonly bits: 32 | 64;
  /** e_machine values of its kernels (ELF gABI, chapter 4). */
  readonly elfMachines: readonly number[];
  readonly byteOrders: readonly ByteOrder[];
  /** Sizes of hardware mappings, ascending, the base page among them. */
  readonly pageSizes: readonly number[];
  /** The minidumps that kernels of this architecture write. */
  readonly dialects: readonly MinidumpDialect[];
  /**
   * The address space that page tables in physical memory describe.
   *
   * @throws KvmError `INVALID_ARGUMENT` when a register is missing; the hint names it
   */
  walker?(memory: PhysicalMemory, options: WalkOptions): AddressSpace;
}

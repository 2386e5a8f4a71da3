import type { AddressSpace } from './address-space.js';
import type { MinidumpDialect } from './dialect.js';
import type { NoteLayout } from './note-layout.js';
import type { PhysicalMemory } from './physical-memory.js';
import type { ByteOrder } from './struct.js';
import type { TableEncoder } from './table-encoder.js';

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
  /**
   * How page tables of one of its formats are made; undefined for a format that it does not make.
   *
   * @param pteFormat name of the format, as a core has it
   */
  tableEncoder?(pteFormat: string, byteOrder: ByteOrder): TableEncoder | undefined;
  /** The notes of ELF cores that have registers of its processors. */
  readonly cpuNotes?: readonly NoteLayout[];
  /**
   * Finds the kernel's page tables in physical memory that comes without registers, as FreeBSD's full dumps do, through
   * variables of the kernel. What it gives was verified: the tables lead from the variable's KVA back to where its value
   * was read.
   *
   * @throws KvmError with the reason why they cannot be found: `NO_SYMBOL`, `NOT_DUMPED`, `TRUNCATED`, `MISMATCH` (what
   *   the variable holds leads to no tables that map it), `UNSUPPORTED`
   */
  findRoot?(memory: PhysicalMemory, facts: RootFacts): FoundRoot;
}

/** Where the kernel image of a FreeBSD full dump was loaded (its PT_DUMP_DELTA header; sys/kern/kern_dump.c). */
export interface DumpDelta {
  /** arm: the KVA that is mapped to `physical`; amd64: KERNBASE. */
  readonly virtual: bigint;
  /** arm: the PA of `virtual`; amd64: the PA of the loaded image, which is mapped to KERNBASE + 2 MB. */
  readonly physical: bigint;
  /** Bytes; on amd64 also the distance of the image from `virtual` (KERNLOAD, 2 MB). */
  readonly align: number;
}

/** What is known of a kernel whose page tables are looked for. */
export interface RootFacts {
  /** The address of a kernel symbol. */
  readonly symbols: (name: string) => bigint | undefined;
  /** Byte order of the machine's memory. */
  readonly byteOrder: ByteOrder;
  readonly delta?: DumpDelta;
  /** Name of the page-table format, where the caller knows it. */
  readonly pteFormat?: string;
  /** Places that a search has ruled out. Who takes a search up again, after fetching what it lacked, gives it back. */
  readonly ruledOut?: Set<bigint>;
}

/** Page tables that were found. */
export interface FoundRoot {
  /** What to walk them with: those registers of the kernel's processors that matter to a walk. */
  readonly registers: Registers;
  /** Name of the page-table format, where registers do not tell it. */
  readonly pteFormat?: string;
  /** The KVA that the kernel is linked for. */
  readonly kernbase?: bigint;
  /** The PA that the kernel image was loaded at. */
  readonly kernphys?: number;
  /** Oddities, a sentence each. */
  readonly warnings: readonly string[];
}

import type { AddressSpace } from './address-space.js';
import type { Registers } from './architecture.js';
import type { BlockCache } from './block-cache.js';
import type { KvmError } from './errors.js';
import type { PhysicalMemory } from './physical-memory.js';
import type { ByteOrder } from './struct.js';

/** A named part of a core file. */
export interface Section {
  /** `header`, `msgbuf`, `dumpAvail`, `bitmap`, `table`, `pages`, ... */
  readonly name: string;
  /** Byte offset in the file. */
  readonly offset: number;
  /** Bytes that belong to it, without rounding; may reach past the end of a truncated file. */
  readonly length: number;
}

/** A window of the address space through which a kernel reaches physical memory by arithmetic: PA = KVA - base + phys. */
export interface DirectMap {
  /** First KVA. */
  readonly base: bigint;
  /** KVA behind the last one. */
  readonly end: bigint;
  /** PA that `base` maps to. */
  readonly phys: number;
}

/** What a core says of its machine, beside its two maps. */
export interface CoreFacts {
  /** Name of the file format: `freebsd`, `portable`, `elf`, ... */
  readonly format: string;
  /** Name of the architecture: `amd64`, `i386`, `arm`, ... */
  readonly architecture: string;
  /** Version of the format, where it has versions. */
  readonly version?: number;
  readonly byteOrder: ByteOrder;
  /** Width of a KVA. */
  readonly bits: 32 | 64;
  /** Bytes of the machine's base page. */
  readonly pageSize: number;
  /** First KVA that the page-table section covers; of a full dump, the KVA that its kernel is linked for. */
  readonly kernbase?: bigint;
  readonly directMap?: DirectMap;
  /** Name of the page-table entry format, where the architecture has several (`v6`, `pae`, `lpae`, ...). */
  readonly pteFormat?: string;
  /** e_machine of the kernel's ELF file (ELF gABI, chapter 4). */
  readonly elfMachine?: number;
}

/** An opened core: two maps and a few facts. What every format is opened to, and what a reader is made of. */
export interface Core extends CoreFacts {
  readonly sections: readonly Section[];
  /** Physical address -> bytes. */
  readonly memory: PhysicalMemory;
  /** KVA -> PA, without the direct map. Undefined when only physical memory can be read. */
  readonly addressSpace?: AddressSpace;
  /** The control registers that name the page tables in `memory`, where it holds them and they are walked. */
  readonly registers?: Registers;
  /** Why there is no address space, where that is known. */
  readonly whyPhysicalOnly?: KvmError;
  /** The ring buffer of kernel messages, where the file has a section for it: bytes in memory order. */
  readonly messageBuffer?: Section;
  /** Index in it of the oldest byte, where the file says so. */
  readonly messageBufferStart?: number;
  /** What else the file knows, as text by name: `panic`, `kernelVersion`, `registers`, ... */
  readonly notes?: Readonly<Record<string, string>>;
  /** The file's bytes through the cache that all parts of this core share. */
  readonly cache: BlockCache;
  /** Oddities that did not keep the core from opening, a sentence each. */
  readonly warnings: readonly string[];
}

import type { AddressSpace } from './address-space.js';
import { SubSource, type ByteSource } from './byte-source.js';
import type { Registers } from './architecture.js';
import type { Core, DirectMap } from './core.js';
import type { PageRanges } from './page-ranges.js';
import type { PhysicalMemory } from './physical-memory.js';
import type { ByteOrder } from './struct.js';

/**
 * Physical memory as a dump is made from it: of a memory image, a simulator, a live machine. What a kernel or emulator
 * author implements, together with an {@link AddressSpace}, to dump from a live pmap.
 */
export interface DumpMemory {
  /** The machine's RAM; pages outside are never dumped. */
  readonly ranges: PageRanges;
  /**
   * How many bytes from `pa` on, at most `limit`, can be read one behind the other: 0 when the byte at `pa` cannot. It
   * must not change between planning and writing.
   */
  available(pa: number, limit: number): number;
  /**
   * Where no byte is available: how many bytes from `pa` on, at most `limit`, are not. At least 1. Without it a planner
   * asks page by page, which takes long where much of what is mapped is not there.
   */
  hole?(pa: number, limit: number): number;
  /** Pages that the source lists and does not hold, because its file was cut: for the report. */
  readonly missingPages?: number;
  /** Reads bytes that {@link DumpMemory.available} granted. Throws when it fails all the same. */
  readSync(pa: number, target: Uint8Array, at: number, length: number): void;
}

/** What a dump says of its machine. */
export interface MachineFacts {
  /** FreeBSD's name of the architecture: `amd64`, `i386`, `arm`, `arm64`. */
  readonly architecture: string;
  /** e_machine of the kernel's ELF file. */
  readonly elfMachine: number;
  readonly bits: 32 | 64;
  readonly byteOrder: ByteOrder;
  /** Bytes of the base page, a power of two from 4096 on. */
  readonly pageSize: number;
  /** Name of the page-table entry format. */
  readonly pteFormat: string;
  readonly kernbase?: bigint;
  /** A direct map is described by the header alone; of its pages only those added by hand are dumped. */
  readonly directMap?: DirectMap;
}

/** A kernel's message buffer for a dump. */
export interface MessageRing {
  /** The ring in memory order. */
  readonly ring: ByteSource;
  /** Index of its oldest byte. */
  readonly start: number;
}

/** Everything that a dump is made from. */
export interface DumpSource {
  readonly machine: MachineFacts;
  readonly memory: DumpMemory;
  /** KVA -> PA. Where it tells the format of its entries and its last-level tables, these can be kept as they are. */
  readonly addressSpace: Pick<AddressSpace, 'mappings' | 'pteFormat' | 'leafTable'>;
  readonly messageBuffer?: MessageRing;
  /** The control registers that name the page tables in `memory`, where it holds them. */
  readonly registers?: Registers;
  /** Text sections: `panic`, `kernelVersion`, `buildId`, `time`, `registers`. */
  readonly notes?: Readonly<Record<string, string>>;
}

/** The physical memory of an opened core or image, as a dump is made from it. */
export function dumpMemoryOf(memory: PhysicalMemory): DumpMemory {
  return {
    ranges: memory.ranges,
    missingPages: memory.pages.missing + memory.pages.partial,
    available: (pa, limit) => (memory.locate(pa) < 0 ? 0 : memory.run(pa, limit)),
    hole: (pa, limit) => memory.hole(pa, limit),
    readSync: (pa, target, at, length) => memory.cache.readThrough(memory.locate(pa), target, at, length),
  };
}

/**
 * An opened core as the source of another dump.
 *
 * @param machine facts to use beside or instead of the core's own
 */
export function dumpSourceOf(core: Core, machine: Partial<MachineFacts> = {}): DumpSource {
  const { memory, addressSpace, messageBuffer, cache, kernbase, directMap, notes } = core;
  const none: DumpSource['addressSpace'] = { mappings: () => ({ next: () => false }) };
  return {
    machine: {
      architecture: core.architecture,
      elfMachine: core.elfMachine ?? 0,
      bits: core.bits,
      byteOrder: core.byteOrder,
      pageSize: core.pageSize,
      pteFormat: core.pteFormat ?? addressSpace?.pteFormat ?? '',
      ...(kernbase !== undefined && { kernbase }),
      ...(directMap && { directMap }),
      ...machine,
    },
    memory: dumpMemoryOf(memory),
    addressSpace: addressSpace ?? none,
    ...(messageBuffer && {
      messageBuffer: {
        ring: new SubSource(cache, messageBuffer.offset, messageBuffer.length),
        start: core.messageBufferStart ?? 0,
      },
    }),
    ...(core.registers && { registers: core.registers }),
    ...(notes && { notes }),
  };
}

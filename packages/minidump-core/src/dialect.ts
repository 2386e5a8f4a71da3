import type { AddressSpace } from './address-space.js';
import type { BlockCache } from './block-cache.js';
import type { ByteSource } from './byte-source.js';
import type { Section } from './core.js';
import type { MinidumpLayout } from './minidump-layout.js';
import type { MinidumpWriter } from './minidump-writer.js';
import type { PhysicalMemory } from './physical-memory.js';

/**
 * Values of a core's header to be used instead of what the file says, by the names of the kernel's header file:
 * `kernbase`, `dmapbase`, `dmapend`, `version`, `msgbufsize`, `mmuformat`, ...
 */
export type HeaderOverrides = Readonly<Record<string, number | bigint>>;

/** The page-table section of a minidump. */
export interface TableSection extends Section {
  /** The file that holds it. */
  readonly cache: BlockCache;
}

/**
 * How one architecture's kernel writes minidumps. Every minidump has the same sections in the same order; a dialect
 * knows the header, the meaning of the table section, and nothing else.
 */
export interface MinidumpDialect {
  /** For messages: `FreeBSD/amd64 minidump`. */
  readonly name: string;
  /** Whether a file that starts with these bytes (a page, or the whole file where it is shorter) is one of these. */
  probe(head: Uint8Array): boolean;
  /**
   * Reads the header page.
   *
   * @param file the whole file, for the few kernels whose header alone does not say where sections end (old arm ones);
   *   without it they are taken for current ones
   * @throws KvmError `TRUNCATED`, `UNSUPPORTED` (version), `CORRUPT` (a field out of its range)
   */
  layout(head: Uint8Array, fileSize: number, overrides?: HeaderOverrides, file?: ByteSource): MinidumpLayout;
  /** The KVA -> PA map that the table section describes. It may read physical pages (amd64 versions 2 and 3 do). */
  addressSpace(table: TableSection, memory: PhysicalMemory, layout: MinidumpLayout): AddressSpace;
  /** How such minidumps are written; absent where they can only be read. */
  readonly writer?: MinidumpWriter;
}

import type { Architecture, Registers } from './architecture.js';
import type { BlockCache } from './block-cache.js';
import type { Core } from './core.js';
import type { HeaderOverrides, MinidumpDialect } from './dialect.js';
import { openMinidump } from './minidump.js';
import type { ByteOrder } from './struct.js';

/** How the page tables of a memory image are found. What is left out is taken from the image. */
export interface ImageOptions {
  /** Name of the architecture, where the image does not say it or says another. */
  readonly architecture?: string;
  /** Control registers; each one given replaces the image's own. */
  readonly registers?: Registers;
  /** The processor whose registers are used: the first unless given. */
  readonly cpu?: number;
  /** Byte order of the page tables. */
  readonly byteOrder?: ByteOrder;
  /** Page-table format, where the registers do not tell it (`v4`, `xscale`, ...). */
  readonly pteFormat?: string;
}

/** What a format may need beside the file. */
export interface FormatContext {
  readonly architectures: readonly Architecture[];
  readonly overrides?: HeaderOverrides;
  readonly image?: ImageOptions;
  /** The address of a kernel symbol, where a kernel file or a resolver was given. */
  readonly symbols?: (name: string) => bigint | undefined;
  /** See `RootFacts.ruledOut`: kept while the same file is opened again and again until all its bytes are there. */
  readonly ruledOut?: Set<bigint>;
}

/** A codec between a file and the two maps of a core. Readers are given a list of them. */
export interface CoreFormat {
  /** For messages: `FreeBSD/amd64 minidump`. */
  readonly name: string;
  /** Whether a file that starts with these bytes is one of these. */
  probe(head: Uint8Array): boolean;
  /**
   * Opens the file behind `cache`.
   *
   * @throws KvmError with the reason when it is one of these and cannot be opened
   */
  open(cache: BlockCache, context: FormatContext): Core;
}

/** The format of the minidumps that a dialect describes. */
export function minidumpFormat(dialect: MinidumpDialect): CoreFormat {
  return {
    name: dialect.name,
    probe: (head) => dialect.probe(head),
    open: (cache, { overrides }) => openMinidump(cache, dialect, overrides),
  };
}

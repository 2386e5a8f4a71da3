import type { Architecture } from './architecture.js';
import type { BlockCache } from './block-cache.js';
import type { Core } from './core.js';
import type { HeaderOverrides, MinidumpDialect } from './dialect.js';
import { openMinidump } from './minidump.js';

/** What a format may need beside the file. */
export interface FormatContext {
  readonly architectures: readonly Architecture[];
  readonly overrides?: HeaderOverrides;
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

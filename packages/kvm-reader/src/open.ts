import {
  BlockCache,
  KvmError,
  minidumpFormat,
  portableFormat,
  readHead,
  toByteSource,
  type Architecture,
  type ByteSource,
  type Core,
  type CoreFormat,
  type FormatContext,
  type HeaderOverrides,
  type ImageOptions,
} from '@libkvm/minidump-core';
import { unknownFile } from './detect.js';
import { elfImageFormat, openRawCore } from './image-core.js';
import { openKernel, type KernelFile } from './kernel-file.js';
import { Kvm } from './kvm.js';
import type { RawRange } from './memory-image.js';
import { Symbols, type SymbolResolver } from './symbols.js';

/** Bytes of a file, or a source of them. */
export type Bytes = Uint8Array | ArrayBuffer | ByteSource;

/** What a core is opened with. */
export interface OpenOptions {
  /** The architectures whose cores are recognised, e.g. `[amd64]` of `@libkvm/arch-amd64`. */
  readonly architectures: readonly Architecture[];
  /** File formats beside portable minidumps, the minidumps of these architectures, and ELF memory images. */
  readonly formats?: readonly CoreFormat[];
  /** For memory images: how their page tables are found. */
  readonly image?: ImageOptions;
  /** Where the bytes of a raw memory image lie in physical memory; without it no file is taken for one. */
  readonly raw?: readonly RawRange[];
  /** The kernel's ELF file: symbols, and a check that it belongs to the core. */
  readonly kernel?: Bytes;
  /** Symbols from somewhere else; asked before the kernel file. */
  readonly resolver?: SymbolResolver;
  /** Values to use instead of those in the core's header, by the header's own field names. */
  readonly overrides?: HeaderOverrides;
  /** Bytes of the core that may be held in memory: 32 MB unless told otherwise. */
  readonly cacheBytes?: number;
  /** Called by `Kvm.close`. */
  readonly onClose?: () => void;
}

/**
 * Opens a core for synchronous reading.
 *
 * @throws KvmError `NOT_A_CORE`, `UNSUPPORTED`, `CORRUPT` or `TRUNCATED` when the file cannot be opened, `MISMATCH` when
 *   the kernel is one of another architecture, `INVALID_ARGUMENT`, `IO`
 * @example
 * const kvm = openKvm(bytes, { architectures: [amd64], kernel: kernelBytes });
 * kvm.read(kvm.symbol('version'), 64);
 */
export function openKvm(input: Bytes, options: OpenOptions): Kvm {
  if (!Array.isArray(options?.architectures)) {
    throw new KvmError(
      'INVALID_ARGUMENT',
      'openKvm needs the architectures whose cores it should recognise',
      {
        field: 'architectures',
        hint: "e.g. openKvm(bytes, { architectures: [amd64] }), or openKvmFile of '@libkvm/kvm-reader/node', which has all",
      },
    );
  }
  const core = openCore(new BlockCache(toByteSource(input), options.cacheBytes), options);
  const kernel = options.kernel === undefined ? undefined : openKernel(toByteSource(options.kernel));
  if (kernel) requireSameMachine(core, kernel, options.architectures);
  return new Kvm(core, new Symbols(kernel, options.resolver), options.onClose);
}

/** Recognises a file and opens it to its two maps. */
export function openCore(cache: BlockCache, options: OpenOptions): Core {
  const { architectures, formats = [], overrides, image, raw } = options;
  const context: FormatContext = { architectures, ...(overrides && { overrides }), ...(image && { image }) };
  if (raw) return openRawCore(cache, raw, context);
  const dialects = architectures.flatMap((architecture) => architecture.dialects);
  const known = [...formats, ...dialects.map(minidumpFormat), portableFormat, elfImageFormat];
  const head = readHead(cache);
  const format = known.find((candidate) => candidate.probe(head));
  if (format === undefined) {
    throw unknownFile(
      head,
      cache.size,
      known.map(({ name }) => name),
    );
  }
  return format.open(cache, context);
}

/** A kernel of another machine can only give wrong addresses: refused here, before anyone uses one. */
function requireSameMachine(core: Core, kernel: KernelFile, architectures: readonly Architecture[]): void {
  const architecture = architectures.find(({ name }) => name === core.architecture);
  const { machine, bits, byteOrder } = kernel.identity;
  const known = architecture === undefined || architecture.elfMachines.includes(machine);
  if (known && bits === core.bits && byteOrder === core.byteOrder) return;
  const other = architectures.find(({ elfMachines }) => elfMachines.includes(machine));
  const found = `${other?.name ?? `ELF machine ${machine}`}, ${bits}-bit, ${byteOrder}-endian`;
  throw new KvmError(
    'MISMATCH',
    `the kernel file is for ${found}; the core is ${core.architecture}, ${core.bits}-bit, ${core.byteOrder}-endian`,
    { field: 'kernel', hint: 'give the kernel that was running when the core was made' },
  );
}

import {
  BlockCache,
  KvmError,
  minidumpFormat,
  portableFormat,
  readHead,
  toByteSource,
  type Architecture,
  type ByteSource,
  type BytesLike,
  type Core,
  type CoreFormat,
  type FormatContext,
  type HeaderOverrides,
  type ImageOptions,
} from '@libkvm/minidump-core';
import { unwrap, type ContainerOptions } from './containers.js';
import { unknownFile } from './detect.js';
import { elfImageFormat, openRawCore } from './image-core.js';
import { openKernel, type KernelFile } from './kernel-file.js';
import { Kvm } from './kvm.js';
import type { RawRange } from './memory-image.js';
import type { OpenedCore } from './opened-core.js';
import { Symbols, type SymbolResolver } from './symbols.js';

/** Bytes of a file, or a source of them. */
export type Bytes = BytesLike | ByteSource;

/** What a core is opened with. */
export interface OpenOptions extends ContainerOptions {
  /** The architectures whose cores are recognised, e.g. `[amd64]` of `@libkvm/arch-amd64`. */
  readonly architectures: readonly Architecture[];
  /** File formats beside portable minidumps, the minidumps of these architectures, and ELF memory images. */
  readonly formats?: readonly CoreFormat[];
  /** For memory images: how their page tables are found. */
  readonly image?: ImageOptions;
  /** Where the bytes of a raw memory image lie in physical memory; without it no file is taken for one. */
  readonly raw?: readonly RawRange[];
  /** The kernel's ELF file: symbols, the page tables of a full dump, and a check that it belongs to the core. */
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
  requireArchitectures(options);
  return openKvmBy(openingOf(options), input, options);
}

/** What is kept while a core is opened several times, as the asynchronous way does until it has its bytes. */
export interface Opening {
  readonly symbols: Symbols;
  readonly ruledOut: Set<bigint>;
}

/**
 * Opens the kernel, if there is one.
 *
 * @throws KvmError as `openKernel`
 */
export function openingOf({ kernel, resolver }: Pick<OpenOptions, 'kernel' | 'resolver'>): Opening {
  const file = kernel === undefined ? undefined : openKernel(toByteSource(kernel));
  return { symbols: new Symbols(file, resolver), ruledOut: new Set() };
}

/** As {@link openKvm}, with the kernel opened already. */
export function openKvmBy(opening: Opening, input: Bytes, options: OpenOptions): Kvm {
  const { symbols } = opening;
  const core = openWith(new BlockCache(toByteSource(input), options.cacheBytes), options, opening);
  if (symbols.kernel) requireSameMachine(core, symbols.kernel, options.architectures);
  return new Kvm(core, symbols, options.onClose);
}

/** For those who have no compiler to tell them. */
export function requireArchitectures(options: Pick<OpenOptions, 'architectures'>): void {
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
}

/** Recognises a file and opens it to its two maps. A kernel file or resolver is used where page tables are found by it. */
export function openCore(cache: BlockCache, options: OpenOptions): OpenedCore {
  return openWith(cache, options, openingOf(options));
}

function openWith(file: BlockCache, options: OpenOptions, opening: Opening): OpenedCore {
  const { architectures, overrides, image, raw } = options;
  const known = options.kernel !== undefined || options.resolver !== undefined;
  const context: FormatContext = {
    architectures,
    ...(overrides && { overrides }),
    ...(image && { image }),
    ...(known && { symbols: (name: string) => opening.symbols.find(name), ruledOut: opening.ruledOut }),
  };
  if (raw) return openRawCore(file, raw, context);
  const all = formatsOf(options);
  const formatOf = (start: Uint8Array): CoreFormat | undefined =>
    all.find((candidate) => candidate.probe(start));
  const { cache, finish } = unwrap(file, options, (start) => formatOf(start) !== undefined);
  const head = readHead(cache);
  const format = formatOf(head);
  if (format === undefined) {
    throw unknownFile(
      head,
      cache.size,
      all.map(({ name }) => name),
    );
  }
  return finish(format.open(cache, context));
}

/**
 * The bytes of the core alone, without a dump header and compression: where offsets of the core count.
 *
 * @throws KvmError as `openCore`, where what is around the core cannot be taken off
 */
export function unwrapCore(cache: BlockCache, options: OpenOptions): BlockCache {
  if (options.raw) return cache;
  const all = formatsOf(options);
  return unwrap(cache, options, (head) => all.some((format) => format.probe(head))).cache;
}

function formatsOf({ architectures, formats = [] }: OpenOptions): CoreFormat[] {
  const dialects = architectures.flatMap((architecture) => architecture.dialects);
  return [...formats, ...dialects.map(minidumpFormat), portableFormat, elfImageFormat];
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

import { KvmError, checkCacheBytes, toByteSource, toBytes, type ByteSource } from '@libkvm/minidump-core';
import { AsyncKvm, toAsyncSource, type AsyncBytes } from './async-kvm.js';
import { isBlob, type Cancellable } from './async-source.js';
import { takeStep } from './block-steps.js';
import { BlockStore } from './block-store.js';
import { openKvmBy, openingOf, requireArchitectures, type Bytes, type OpenOptions } from './open.js';

/** What an asynchronous core is opened with. */
export interface OpenAsyncOptions extends Omit<OpenOptions, 'kernel' | 'onClose' | 'unpack'>, Cancellable {
  /** The kernel's ELF file, fetched or at hand. */
  readonly kernel?: AsyncBytes | Bytes;
  /** Requests under way at once for long reads: 4 unless told otherwise. */
  readonly concurrency?: number;
  /**
   * The least that one request asks for, and the unit of what is kept: 64 KB unless told otherwise. Less suits sources
   * that answer at once, more those that are far away; from 512 bytes to 4 MB.
   */
  readonly blockBytes?: number;
}

const MEGABYTE = 1024 * 1024;
const DEFAULT_BYTES = 32 * MEGABYTE;
const MAX_CONCURRENCY = 64;

/**
 * Opens a core that can only be read asynchronously: a `Blob` or `File`, an HTTP server that answers ranges, a source of
 * the caller. Of `cacheBytes` an eighth holds what is used most, the rest what was fetched.
 *
 * @throws KvmError as `openKvm`, and `ABORTED`
 * @example
 * const core = await httpSource('https://example.org/vmcore.0');
 * const kvm = await openKvmAsync(core, { architectures: [amd64] });
 * for await (const page of kvm.pages()) console.log(page.pa);
 */
export async function openKvmAsync(input: AsyncBytes, options: OpenAsyncOptions): Promise<AsyncKvm> {
  const source = toAsyncSource(input);
  requireArchitectures(options);
  const { kernel, concurrency = 4, blockBytes, signal, cacheBytes = DEFAULT_BYTES, ...rest } = options;
  checkCacheBytes(cacheBytes);
  checkConcurrency(concurrency);
  const hot = Math.floor(cacheBytes / 8);
  const store = new BlockStore(source, cacheBytes - hot, blockBytes);
  const kernelSource = isAsync(kernel) ? toAsyncSource(kernel) : undefined;
  const kernelStore = kernelSource && new BlockStore(kernelSource, Math.max(MEGABYTE, hot), blockBytes);
  const stores = kernelStore ? [store, kernelStore] : [store];
  const kernelBytes: ByteSource | undefined =
    kernelStore ?? (kernel === undefined ? undefined : toByteSource(kernel as Bytes));
  const cancel = signal ? { signal } : {};
  const how = { ...rest, cacheBytes: hot, ...(kernelBytes && { kernel: kernelBytes }) };
  // Once, and not with each attempt at the core: what was learnt of the kernel is kept.
  const opening = await takeStep(stores, () => openingOf(how), cancel);
  const kvm = await takeStep(stores, () => openKvmBy(opening, store, how), { ...cancel, resumes: true });
  const close = (): void => {
    source.close?.();
    kernelSource?.close?.();
  };
  return new AsyncKvm(kvm, store, kernelStore, concurrency, close);
}

function checkConcurrency(concurrency: number): void {
  if (Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= MAX_CONCURRENCY) return;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `concurrency is an integer from 1 to ${MAX_CONCURRENCY}, not ${String(concurrency)}`,
    { field: 'concurrency', hint: 'it is how many requests may be under way at once; 4 unless given' },
  );
}

/** Whether a kernel has to be fetched: neither bytes nor a source that answers at once. */
function isAsync(input: AsyncBytes | Bytes | undefined): input is AsyncBytes {
  if (input === undefined || toBytes(input) !== undefined) return false;
  return isBlob(input) || typeof (input as { read?: unknown } | null)?.read === 'function';
}

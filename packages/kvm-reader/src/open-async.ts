import { toByteSource, type ByteSource } from '@libkvm/minidump-core';
import { AsyncKvm, toAsyncSource, type AsyncBytes } from './async-kvm.js';
import type { Cancellable } from './async-source.js';
import { BlockStore } from './block-store.js';
import { openKvm, type Bytes, type OpenOptions } from './open.js';

/** What an asynchronous core is opened with. */
export interface OpenAsyncOptions extends Omit<OpenOptions, 'kernel' | 'onClose'>, Cancellable {
  /** The kernel's ELF file, fetched or at hand. */
  readonly kernel?: AsyncBytes | Bytes;
  /** Requests under way at once for long reads: 4 unless told otherwise. */
  readonly concurrency?: number;
}

const MEGABYTE = 1024 * 1024;
const DEFAULT_BYTES = 32 * MEGABYTE;

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
  const { kernel, concurrency = 4, signal, cacheBytes = DEFAULT_BYTES, ...rest } = options;
  const hot = Math.floor(cacheBytes / 8);
  const store = new BlockStore(source, cacheBytes - hot);
  const kernelStore = isAsync(kernel)
    ? new BlockStore(toAsyncSource(kernel), Math.max(MEGABYTE, hot))
    : undefined;
  const stores = kernelStore ? [store, kernelStore] : [store];
  const kernelBytes: ByteSource | undefined =
    kernelStore ?? (kernel === undefined ? undefined : toByteSource(kernel as Bytes));
  const open = (): ReturnType<typeof openKvm> =>
    openKvm(store, { ...rest, cacheBytes: hot, ...(kernelBytes && { kernel: kernelBytes }) });
  const kvm = await BlockStore.step(stores, open, signal ? { signal } : {});
  return new AsyncKvm(kvm, store, kernelStore, concurrency, () => source.close?.());
}

function isAsync(input: AsyncBytes | Bytes | undefined): input is AsyncBytes {
  if (input === undefined || input instanceof Uint8Array || input instanceof ArrayBuffer) return false;
  return !('readSync' in input);
}

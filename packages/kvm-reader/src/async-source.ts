import { KvmError } from '@libkvm/minidump-core';

/** What may be cancelled. */
export interface Cancellable {
  readonly signal?: AbortSignal;
}

/**
 * Random access to bytes that can only be had asynchronously: HTTP ranges, a `Blob`, object storage. Implement it to read
 * a core from anywhere.
 *
 * @example
 * const source: AsyncByteSource = {
 *   size: blob.size,
 *   read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
 * };
 */
export interface AsyncByteSource {
  /** Bytes in all. */
  readonly size: number;
  /**
   * Reads `length` bytes at `offset`, which lie within the source. It may be called again while a call is under way.
   * Anything else than exactly so many bytes is taken for a source that failed (`IO`); what it throws reaches the caller as
   * it is. The signal says that nobody waits any more: heeding it saves the rest of the work.
   */
  read(offset: number, length: number, options?: Cancellable): Promise<Uint8Array>;
  /** Lets go of what the source holds. */
  close?(): void;
}

/** Whether something is a `Blob` or a `File`, of this realm or another. */
export function isBlob(input: unknown): input is Blob {
  const tag = Object.prototype.toString.call(input);
  return tag === '[object Blob]' || tag === '[object File]';
}

/**
 * A `Blob` or `File` as a source. Each read fails with `IO` when the file behind it was changed, moved or revoked since it
 * was chosen; the reader is usable again where the blob is.
 */
export function blobSource(blob: Blob): AsyncByteSource {
  return {
    size: blob.size,
    async read(offset, length) {
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (cause) {
        throw new KvmError(
          'IO',
          `the blob cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
          {
            offset,
            length,
            cause,
            hint: 'the file behind it was changed, moved or revoked; choose it again',
          },
        );
      }
    },
  };
}

/** The error for a call that its caller cancelled. */
export function abortedBy(signal: AbortSignal): KvmError {
  return new KvmError('ABORTED', 'cancelled by its caller', { cause: signal.reason });
}

import { KvmError, isKvmError, toBytes } from '@libkvm/minidump-core';
import { abortedBy, type AsyncByteSource } from './async-source.js';

/** What a source gave instead of bytes, or in the wrong number. */
const HINTS = {
  short: 'the file changed while it was read; open it again',
  wrong: 'read(offset, length) of an AsyncByteSource resolves to exactly that many bytes, as a Uint8Array',
};

/** An asynchronous source with every read counted and what comes back checked: a caller's source may do anything. */
export class CheckedSource {
  readonly size: number;
  /** Reads made and bytes got so far. */
  readonly fetched = { requests: 0, bytes: 0 };

  constructor(private readonly source: AsyncByteSource) {
    this.size = source.size;
  }

  /**
   * Exactly `length` bytes. Ends when the signal is raised, whether the source heeds it or not; what the source throws
   * comes out as it is.
   *
   * @throws KvmError `ABORTED`, `IO` when the source gives anything but so many bytes
   */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted === true) throw abortedBy(signal);
    this.fetched.requests++;
    const answer: unknown = await untilAborted(this.ask(offset, length, signal), signal);
    const bytes = toBytes(answer);
    this.fetched.bytes += bytes?.length ?? 0;
    if (bytes?.length === length) return bytes;
    const gave = bytes === undefined ? 'no bytes' : `${bytes.length} bytes`;
    throw new KvmError('IO', `the source gave ${gave} for ${length} at offset ${offset}`, {
      ...{ offset, length },
      hint: bytes !== undefined && bytes.length < length ? HINTS.short : HINTS.wrong,
    });
  }

  close(): void {
    this.source.close?.();
  }

  /** A source that throws at once fails as one that rejects. */
  private async ask(offset: number, length: number, signal?: AbortSignal): Promise<unknown> {
    return this.source.read(offset, length, signal ? { signal } : {});
  }
}

/** Settles as a promise does, but when the signal is raised first it rejects with `ABORTED`. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => undefined);
    throw abortedBy(signal);
  }
  let forget = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(abortedBy(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    forget = () => signal.removeEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([promise, aborted]);
  } catch (error) {
    // What a source throws because it was told to stop is no failure of its own.
    if (isAborted(signal) && !isKvmError(error)) throw abortedBy(signal);
    throw error;
  } finally {
    forget();
  }
}

/** Asked anew after waiting: a narrowed `aborted` would be taken for what it was before. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

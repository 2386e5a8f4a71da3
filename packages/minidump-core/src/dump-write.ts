import type { Crc32 } from './crc32.js';
import type { DumpPlan } from './dump-plan.js';
import { KvmError } from './errors.js';

/** Where a dump goes: bytes are appended, front to back. */
export interface ByteSink {
  /** Takes the bytes; they change once it returns, or once its promise is settled. It is not called again before. */
  write(bytes: Uint8Array): void | Promise<void>;
}

/** How a dump is written. */
export interface WriteOptions {
  /** Called after each piece with the bytes done and those of the whole file. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Cancels the write: it ends with `ABORTED`. */
  readonly signal?: AbortSignal;
  /** A faster checksum than the portable one, e.g. `zlib.crc32` of Node. */
  readonly crc32?: Crc32;
}

/** The event loop gets a turn after so many bytes, so that a signal can be raised and progress be shown. */
const TURN_BYTES = 16 * 1024 * 1024;

/**
 * Writes a planned dump to a sink. While the sink works on one piece the next one is made.
 *
 * @throws KvmError `ABORTED`, `IO`; what the sink throws is passed on, when it is done with the piece at hand
 */
export async function writeDump(plan: DumpPlan, sink: ByteSink, options: WriteOptions = {}): Promise<void> {
  const { onProgress, signal } = options;
  let done = 0;
  let sinceTurn = 0;
  let writing: { bytes: number; written: Promise<void> } | undefined;
  const finish = async (): Promise<void> => {
    if (writing === undefined) return;
    const { bytes, written } = writing;
    writing = undefined;
    await written;
    done += bytes;
    onProgress?.(done, plan.size);
  };
  try {
    for (const piece of plan.bytes(options.crc32)) {
      await finish();
      if (signal?.aborted === true) throw aborted(signal, done);
      const written = sink.write(piece);
      if (written === undefined) {
        done += piece.length;
        onProgress?.(done, plan.size);
      } else writing = { bytes: piece.length, written };
      if ((sinceTurn += piece.length) < TURN_BYTES) continue;
      sinceTurn = 0;
      await finish();
      await turn();
    }
    await finish();
  } catch (error) {
    // The sink may still hold a piece: whoever closes it has to find it at rest.
    await writing?.written.catch(() => undefined);
    throw error;
  }
  if (signal?.aborted === true) throw aborted(signal, done);
}

/** Writes a planned dump to a sink that takes bytes at once; a signal can only be raised from `onProgress`. */
export function writeDumpSync(
  plan: DumpPlan,
  sink: { write(bytes: Uint8Array): void },
  options: WriteOptions = {},
): void {
  const { onProgress, signal } = options;
  let done = 0;
  for (const piece of plan.bytes(options.crc32)) {
    if (signal?.aborted === true) throw aborted(signal, done);
    sink.write(piece);
    done += piece.length;
    onProgress?.(done, plan.size);
  }
  if (signal?.aborted === true) throw aborted(signal, done);
}

/** The whole of a planned dump in memory; for small ones. */
export function dumpToBytes(plan: DumpPlan, crc32?: Crc32): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(plan.size);
  let at = 0;
  for (const piece of plan.bytes(crc32)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Node's setImmediate where there is one: timers wait a millisecond at least. */
function turn(): Promise<void> {
  const { setImmediate: soon = setTimeout } = globalThis as { setImmediate?: (call: () => void) => unknown };
  return new Promise((resolve) => soon(() => resolve()));
}

function aborted(signal: AbortSignal, done: number): KvmError {
  return new KvmError('ABORTED', `the write was cancelled after ${done} bytes`, {
    bytesDone: done,
    cause: signal.reason,
  });
}

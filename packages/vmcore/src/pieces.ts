import { KvmError, isKvmError } from '@libkvm/minidump-core';
import type { Kvm, PartialRead } from '@libkvm/kvm-reader';

/** Bytes that are held at once: reads of any length take no more memory. */
export const PIECE = 1024 * 1024;

/**
 * The bytes from an address on, a piece at a time, up to the first that cannot be read: the last piece carries the
 * fault, where there is one. Nothing is thrown for an address.
 */
export function* readPieces(kva: bigint, length: number, kvm: Kvm): Generator<PartialRead, void, undefined> {
  let done = 0;
  do {
    const piece = readPiece(kva, done, Math.min(PIECE, length - done), kvm);
    done += piece.bytes.length;
    yield piece;
    if (piece.fault) return;
  } while (done < length);
}

/** How many of the bytes from an address on can be read; no data is touched. */
export function readableLength(kva: bigint, length: number, kvm: Kvm): number {
  let done = 0;
  try {
    while (done < length) done += kvm.resolve(kva + BigInt(done)).contiguous;
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return done;
  }
  return length;
}

/** Why the byte so many behind an address cannot be read. */
export function faultBehind(kva: bigint, done: number, kvm: Kvm): KvmError {
  const changed = { hint: 'the file changed while it was read; start again' };
  return (
    readPiece(kva, done, 1, kvm).fault ?? new KvmError('IO', 'a read gave two different answers', changed)
  );
}

/** An error of a read as data, with the progress of the whole read instead of that of its last piece. */
export function readFault(fault: KvmError, length: number, bytesDone: number): Record<string, unknown> {
  return { ...fault.toJSON(), length, bytesDone };
}

function readPiece(kva: bigint, done: number, length: number, kvm: Kvm): PartialRead {
  try {
    return kvm.readPartial(kva + BigInt(done), length);
  } catch (error) {
    if (!isKvmError(error)) throw error;
    // A piece that starts right behind the last address of the machine: the fault of a read across that end.
    const across = done > 0 ? kvm.readPartial(kva + BigInt(done - 1), 2).fault : undefined;
    return { bytes: new Uint8Array(0), fault: across ?? error };
  }
}

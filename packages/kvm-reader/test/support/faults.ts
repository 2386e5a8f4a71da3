import { isKvmError } from '@libkvm/minidump-core';
import type { KvmError, KvmErrorCode } from '@libkvm/minidump-core';

/** What a program prints when it formatted something that was not there. */
const NONSENSE = /undefined|NaN|\[object|Infinity|-0x/;

/**
 * Runs what must fail and gives the error back. Anything but a KvmError with one of the codes, a readable message and
 * a place is a failure of the test.
 */
export function caught(action: () => unknown, ...codes: KvmErrorCode[]): KvmError {
  let result: unknown;
  try {
    result = action();
  } catch (error) {
    if (!isKvmError(error, ...codes)) {
      throw new Error(`expected ${codes.join(' or ') || 'a KvmError'}, got ${String(error)}`, {
        cause: error,
      });
    }
    checkError(error);
    return error;
  }
  throw new Error(`expected ${codes.join(' or ') || 'a KvmError'}, got ${String(result).slice(0, 80)}`);
}

/** A message without nonsense, a place, and plain data for `--json`. */
export function checkError(error: KvmError): void {
  const { message, hint, address, offset, field } = error;
  const shown = error.code === 'INVALID_ARGUMENT' ? '' : message; // a bad argument is shown as it was given
  if (message.length < 10 || NONSENSE.test(shown) || NONSENSE.test(hint ?? '')) {
    throw new Error(`unreadable: ${message} (${hint ?? 'no hint'})`, { cause: error });
  }
  const somewhere = address !== undefined || offset !== undefined || field !== undefined;
  // A mistake of the caller and a wish of the caller have no place in the file.
  if (!somewhere && !isKvmError(error, 'INVALID_ARGUMENT', 'ABORTED'))
    throw new Error(`no place: ${message}`, { cause: error });
  JSON.stringify(error);
}

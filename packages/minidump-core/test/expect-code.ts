import { expect } from 'vitest';
import { isKvmError, type KvmError, type KvmErrorCode } from '../src/index.js';

/** Runs `call`, which has to throw a KvmError of this code, and gives the error. */
export function expectCode(code: KvmErrorCode, call: () => unknown): KvmError {
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    if (!isKvmError(error)) throw error;
    expect(error.code, error.message).toBe(code);
    return error;
  }
  return expect.fail(`expected ${code}, got ${String(result)}`);
}

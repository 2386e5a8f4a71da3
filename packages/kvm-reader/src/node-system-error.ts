import { KvmError } from '@libkvm/minidump-core';

/**
 * Runs a system call on a file; its failure becomes a {@link KvmError} `IO` that names the file once.
 *
 * @throws KvmError `IO`
 */
export function onFile<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw failed(path, cause);
  }
}

/** The same for calls that take their time. */
export async function onFileAsync<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw failed(path, cause);
  }
}

function failed(path: string, cause: unknown): KvmError {
  return new KvmError('IO', `${path}: ${reasonOf(cause)}`, { field: 'path', cause });
}

/** Node's messages are `ENOENT: no such file or directory, open 'path'`: the middle is what people need. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const match = /^[A-Z0-9]+: (.*?), [a-z]+( '.*)?$/.exec(cause.message);
  return match ? match[1] : cause.message;
}

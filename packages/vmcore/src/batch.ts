import { createReadStream } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { KvmError } from '@libkvm/minidump-core';
import type { Io } from './io.js';

/** No line that makes sense is longer; what is, is cut, so that a file without line ends takes no memory. */
const MAX_LINE = 4096;

/** Some lines of a batch, all that were at hand, and how many bytes of the file they and those before them take. */
export interface LineGroup {
  readonly lines: readonly string[];
  readonly bytes: number;
}

/**
 * The lines of a batch file (`-`: standard input), without blank ones and comments, in groups as they arrive: a program
 * at the other end of a pipe that waits for an answer before it asks on gets it.
 *
 * @throws KvmError `IO`
 */
export async function* batchLines(file: string, io: Io): AsyncGenerator<LineGroup, void, undefined> {
  const source = file === '-' ? io.stdin : createReadStream(file);
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let bytes = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer | string>) {
      const text = typeof chunk === 'string' ? chunk : decoder.write(chunk);
      bytes += chunk.length;
      const lines = (rest + text).split('\n');
      rest = lines.pop()!.slice(0, MAX_LINE);
      yield { lines: meaningful(lines), bytes };
    }
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new KvmError('IO', `cannot read the batch: ${cause.message}`, { field: 'batch', cause });
  }
  yield { lines: meaningful([rest + decoder.end()]), bytes };
}

/**
 * Does work in which errors are answers: where each was made matters to nobody, and takes half of the time of a batch
 * that has many.
 */
export async function withoutStacks(work: () => Promise<void>): Promise<void> {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    await work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function meaningful(lines: readonly string[]): string[] {
  const found: string[] = [];
  for (const line of lines) {
    const comment = line.indexOf('#');
    const text = (comment < 0 ? line : line.slice(0, comment)).trim();
    if (text !== '') found.push(text);
  }
  return found;
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

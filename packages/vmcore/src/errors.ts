import { isKvmError, type KvmError } from '@libkvm/minidump-core';
import { visibleLine, type Output } from './output.js';

/** Exit statuses, see vmcore(1) in docs/vmcore.md. */
export const DONE = 0;
/** The answer is an error. */
export const FAILED = 1;
/** The command line makes no sense. */
export const USAGE = 2;

/** The command line makes no sense: status 2. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly hint?: string,
  ) {
    super(message);
  }
}

/** Runs a parser of command-line arguments: what it finds invalid is a mistake in usage. */
export function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (isKvmError(error, 'INVALID_ARGUMENT')) throw new UsageError(error.message, error.hint);
    throw error;
  }
}

/** Prints a sentence and, where there is one, a hint on a line of its own. */
export function printError(err: Output, message: string, hint?: string): void {
  const { colors } = err;
  err.line(`${colors.red('error:')} ${visibleLine(message)}`);
  if (hint !== undefined) err.line(`${colors.dim('hint:')} ${visibleLine(hint)}`);
}

export function printKvmError(err: Output, { code, message, hint }: KvmError): void {
  printError(err, `${message} (${code})`, hint);
}

/** What `--json` says of an error: all its fields where it is a KvmError. */
export function errorObject(error: unknown): Record<string, unknown> {
  if (isKvmError(error)) return error.toJSON();
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) };
}

/** The two fields of an error in a line of a batch. */
export function shortError({ code, message }: KvmError): { code: string; message: string } {
  return { code, message };
}

import { isKvmError } from '@libkvm/minidump-core';
import { DONE, FAILED, USAGE, UsageError, errorObject, printError, printKvmError } from './errors.js';
import type { Io } from './io.js';
import { Output, OutputClosed, visibleLine } from './output.js';

/** One run of the command: where it prints, and what its exit status will be. */
export class Session {
  readonly out: Output;
  readonly err: Output;
  /** Exit status so far. */
  status = DONE;
  /** Whether this run prints JSON. */
  json = false;

  constructor(readonly io: Io) {
    this.out = new Output(io.stdout, io.env);
    this.err = new Output(io.stderr, io.env);
  }

  /** Prints a remark that is no answer. */
  async warn(text: string): Promise<void> {
    this.err.line(`${this.err.colors.yellow('warning:')} ${visibleLine(text)}`);
    await this.err.flush();
  }

  /** Prints an error behind the answers before it, where its reader looks for it. */
  async fail(error: unknown): Promise<void> {
    this.status = error instanceof UsageError ? USAGE : FAILED;
    if (error instanceof UsageError) {
      printError(this.err, error.message, error.hint);
    } else if (this.json) {
      this.out.endLine();
      this.out.json({ error: errorObject(error) });
    } else if (isKvmError(error)) {
      printKvmError(this.err, error);
    } else {
      printError(this.err, describe(error));
    }
    await this.flush();
  }

  /** Both streams, answers first. */
  async flush(): Promise<void> {
    await this.out.flush();
    await this.err.flush();
  }

  /** Runs the whole command line; whatever goes wrong in it is printed. */
  async run(work: () => Promise<void>): Promise<number> {
    try {
      await work().catch((error: unknown) => {
        if (error instanceof OutputClosed) throw error;
        return this.fail(error);
      });
      await this.flush();
    } catch (error) {
      if (!(error instanceof OutputClosed)) return this.unprintable(error);
    }
    return this.status;
  }

  /** The output itself failed (a full disk): only standard error is left. */
  private async unprintable(error: unknown): Promise<number> {
    printError(
      this.err,
      `cannot write the output: ${error instanceof Error ? error.message : String(error)}`,
    );
    await this.err.flush().catch(() => undefined);
    return FAILED;
  }
}

/** System errors are known by their message; anything else is a defect of this program, whose place matters. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const known = 'code' in error && 'syscall' in error;
  return known ? error.message : `unexpected: ${error.stack ?? error.message}`;
}

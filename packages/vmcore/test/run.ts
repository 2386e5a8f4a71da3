import { Readable, Writable } from 'node:stream';
import type { Io, OutputStream } from '../src/io.js';
import { main } from '../src/main.js';

/** What one run of the command did. */
export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Buffer;
}

export interface RunOptions {
  readonly stdin?: string | Readable;
  readonly env?: Readonly<Record<string, string>>;
  /** Whether standard output and standard error are terminals. */
  readonly terminal?: boolean;
  readonly stdout?: OutputStream;
}

/** A stream that keeps what it is given. */
export class Collector extends Writable {
  readonly chunks: Buffer[] = [];

  constructor(readonly isTTY = false) {
    super();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.chunks.push(Buffer.from(chunk));
    // As a slow reader would: not at once.
    setImmediate(() => done());
  }
}

/** Runs the command in this process. */
export async function vmcore(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { stdin = '', env = {}, terminal = false } = options;
  const stdout = new Collector(terminal);
  const stderr = new Collector(terminal);
  const io: Io = {
    stdin: typeof stdin === 'string' ? Readable.from([Buffer.from(stdin)]) : stdin,
    stdout: options.stdout ?? stdout,
    stderr,
    env,
  };
  const status = await main(argv, io);
  return { status, stdout: stdout.bytes.toString(), stderr: stderr.bytes.toString(), bytes: stdout.bytes };
}

/** The lines of JSON that a run printed. */
export function rows<T = Record<string, unknown>>({ stdout }: Ran): T[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

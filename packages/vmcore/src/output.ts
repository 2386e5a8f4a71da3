import pc from 'picocolors';
import type { OutputStream } from './io.js';

/** Characters that are gathered before they are written. */
const CHUNK = 65536;

/** Nobody reads the output any more (`vmcore pages CORE | head`): no failure, only a reason to stop. */
export class OutputClosed extends Error {}

/**
 * A stream to print to: gathers text, writes it in pieces, and waits for slow readers. Print with the synchronous methods
 * and, in loops, `await out.flush()` whenever {@link Output.full} says so.
 */
export class Output {
  /** Whether people look at it directly. */
  readonly terminal: boolean;
  /** Functions that colour text; on anything but a terminal, or with NO_COLOR set, they leave it alone. */
  readonly colors: ReturnType<typeof pc.createColors>;
  private pending = '';
  private lineEnded = true;
  private failure: Error | undefined;

  constructor(
    private readonly stream: OutputStream,
    env: Readonly<Record<string, string | undefined>>,
  ) {
    this.terminal = stream.isTTY === true;
    this.colors = pc.createColors(this.terminal && !env.NO_COLOR && env.TERM !== 'dumb');
    // Writes tell of their failure as well, but without a listener the event would end the process.
    stream.on('error', (error: Error) => (this.failure ??= error));
  }

  /** Whether it is time to flush. */
  get full(): boolean {
    return this.pending.length >= CHUNK;
  }

  /** Prints text as it is. */
  write(text: string): void {
    this.pending += text;
  }

  line(text = ''): void {
    this.pending += `${text}\n`;
  }

  /** Ends the line that was begun, if any was. */
  endLine(): void {
    const ended = this.pending === '' ? this.lineEnded : this.pending.endsWith('\n');
    if (!ended) this.line();
  }

  /** Prints a value as one line of JSON. */
  json(value: unknown): void {
    this.line(json(value));
  }

  /** Prints lines of text out of a dump: on a terminal no character of it can do anything but be seen. */
  foreign(text: string): void {
    this.pending += this.terminal ? visible(text) : text;
  }

  /** Writes what was gathered and waits until the reader has taken it. */
  async flush(): Promise<void> {
    const text = this.pending;
    this.pending = '';
    if (text === '') return;
    this.lineEnded = text.endsWith('\n');
    await this.send(text);
  }

  /** Writes bytes behind what was gathered before. */
  async bytes(bytes: Uint8Array): Promise<void> {
    await this.flush();
    if (bytes.length > 0) await this.send(bytes);
  }

  private async send(chunk: string | Uint8Array): Promise<void> {
    const error = await new Promise<Error | null | undefined>((resolve) => {
      if (this.failure) resolve(this.failure);
      else this.stream.write(chunk, resolve);
    });
    if (error) throw isClosed(error) ? new OutputClosed() : error;
  }
}

/** One line of JSON; characters that a terminal would obey, or that hide text, are escaped like all controls. */
export function json(value: unknown): string {
  return JSON.stringify(value).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Text with its control characters spelled out, but for the ends of lines and tabs. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (c) => (c === '\n' || c === '\t' ? c : spelled(c)));
}

/** The same for a name or a sentence within a line. */
export function visibleLine(text: string): string {
  return text.replace(UNSEEN, spelled);
}

/** C0 and C1 controls, DEL, and the characters that change the direction of text. */
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function spelled(character: string): string {
  const code = character.charCodeAt(0);
  return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}

function isClosed(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'EOF' || code === 'ECONNRESET' || code === 'ERR_STREAM_DESTROYED';
}

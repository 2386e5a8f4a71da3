import { KvmError, isKvmError } from '@libkvm/minidump-core';
import { abortedBy } from './async-source.js';
import { untilAborted } from './checked-source.js';

/** How requests are made: the options of `httpSource` with their defaults. */
export interface HttpSettings {
  readonly url: string;
  readonly fetch: typeof fetch;
  readonly headers: Readonly<Record<string, string>>;
  readonly retries: number;
  readonly retryDelay: number;
  readonly timeout: number;
  readonly maxWholeFile: number;
}

/** An error, and whether and when another try may help. */
export class HttpFault extends Error {
  constructor(
    readonly error: KvmError,
    readonly again: boolean,
    /** Milliseconds that the server asks to wait. */
    readonly after = 0,
  ) {
    super(error.message);
  }
}

/** Timers of more than this fire at once. */
const MAX_TIMER = 2 ** 31 - 1;
/** However long a server asks to wait, the next try comes after so many milliseconds. */
const MAX_WAIT = 30_000;

/**
 * Tries again what failed for a passing reason, with growing delays.
 *
 * @throws KvmError `ABORTED`; what the last try failed with
 */
export async function retrying<T>(
  settings: HttpSettings,
  offset: number,
  signal: AbortSignal | undefined,
  action: (attempt: Attempt) => Promise<T>,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    if (isAborted(signal)) throw abortedBy(signal!);
    const attempt = new Attempt(settings, signal);
    try {
      return await untilAborted(action(attempt), attempt.signal);
    } catch (cause) {
      if (isAborted(signal)) throw abortedBy(signal!);
      const fault = attempt.faultOf(cause, offset);
      if (!fault.again || tries >= settings.retries) throw fault.error;
      const wait = Math.max(settings.retryDelay * 2 ** tries, Math.min(fault.after, MAX_WAIT));
      await delay(Math.min(wait, MAX_TIMER), signal);
    } finally {
      attempt.end();
    }
  }
}

/** One try of a request: it is given up when nothing comes for the time limit, or when the caller's signal is raised. */
export class Attempt {
  /** Raised by the caller, by silence, and when the attempt is over: whatever of it is left then is let go. */
  readonly signal: AbortSignal;
  private readonly own = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private silent = false;

  constructor(
    private readonly settings: HttpSettings,
    outer: AbortSignal | undefined,
  ) {
    this.signal = outer ? AbortSignal.any([outer, this.own.signal]) : this.own.signal;
    this.wait();
  }

  /** Asks for a range. Answers that are neither a file nor "no such range" (416) fail. */
  async request(offset: number, length: number): Promise<Response> {
    const { settings, signal } = this;
    const range = `bytes=${offset}-${offset + length - 1}`;
    const response = await settings.fetch(settings.url, {
      headers: { ...settings.headers, Range: range },
      signal,
    });
    this.wait();
    if (response.ok || response.status === 416) return response;
    throw refused(settings, response, offset);
  }

  /** The bytes of an answer; `tooMany` is thrown before more than `limit` of them are taken. */
  async bytesOf(response: Response, limit: number, tooMany: () => Error): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    const reader = response.body?.getReader();
    for (let piece = await reader?.read(); piece?.done === false; piece = await reader?.read()) {
      this.wait();
      size += piece.value.length;
      if (size > limit) throw tooMany();
      pieces.push(piece.value);
    }
    return joined(pieces, size);
  }

  /** What made the attempt fail. `fetch` throws for network errors; they and silence may pass. Our own errors are final. */
  faultOf(cause: unknown, offset: number): HttpFault {
    if (cause instanceof HttpFault) return cause;
    const { settings } = this;
    if (this.silent) {
      const reason = `no answer for ${settings.timeout} ms`;
      return new HttpFault(ioError(settings, reason, offset, HINTS.silent, cause), true);
    }
    if (isKvmError(cause)) return new HttpFault(cause, false);
    return new HttpFault(ioError(settings, reasonOf(cause), offset, HINTS.network, cause), true);
  }

  end(): void {
    clearTimeout(this.timer);
    this.own.abort();
  }

  /** Starts to wait for the next sign of life. */
  private wait(): void {
    clearTimeout(this.timer);
    if (this.settings.timeout > MAX_TIMER) return;
    this.timer = setTimeout(() => {
      this.silent = true;
      this.own.abort();
    }, this.settings.timeout);
  }
}

const HINTS = {
  silent: 'the server is slow or gone: try later, or raise timeout or retries',
  network: 'check the address and the connection; in a browser also whether the server allows this origin',
  cut: 'the connection was lost again and again: try later, or raise retries',
  busy: 'the server is busy or failing: try later, or raise retries or retryDelay',
  refused: 'the server asks who you are: give the headers it wants, e.g. { headers: { authorization } }',
  gone: 'check the address',
  changed: 'open it again',
  other: 'give the address of the file itself, on a server that answers GET requests for ranges',
};

/** @throws nothing: it makes the `IO` error of this source */
export function ioError(
  { url }: HttpSettings,
  reason: string,
  offset: number,
  hint: string = HINTS.other,
  cause?: unknown,
): KvmError {
  return new KvmError('IO', `${url}: ${reason}`, { offset, hint, ...(cause !== undefined && { cause }) });
}

/** The connection ended early: another try may bring the rest. */
export function cutShort(settings: HttpSettings, offset: number, got: number): HttpFault {
  return new HttpFault(ioError(settings, `the answer ended after ${got} bytes`, offset, HINTS.cut), true);
}

export function changed(settings: HttpSettings, offset: number): HttpFault {
  const reason = 'the file changed while it was read';
  return new HttpFault(ioError(settings, reason, offset, HINTS.changed), false);
}

/** An answer that will not get better. */
export function unusable(settings: HttpSettings, reason: string, offset: number, hint?: string): HttpFault {
  return new HttpFault(ioError(settings, reason, offset, hint), false);
}

function refused(settings: HttpSettings, response: Response, offset: number): HttpFault {
  const { status, statusText, headers } = response;
  const passing = status === 408 || status === 425 || status === 429 || status >= 500;
  const hint = passing
    ? HINTS.busy
    : status === 401 || status === 403 || status === 407
      ? HINTS.refused
      : status === 404 || status === 410
        ? HINTS.gone
        : HINTS.other;
  const reason = `the server answered ${status}${statusText && ` ${statusText}`}`;
  return new HttpFault(ioError(settings, reason, offset, hint), passing, retryAfter(headers));
}

/** Milliseconds that Retry-After asks to wait: it is in seconds, or a date (RFC 9110 10.2.3). */
function retryAfter(headers: Headers): number {
  const value = headers.get('retry-after') ?? '';
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return milliseconds > 0 ? milliseconds : 0;
}

/** Node says only that the fetch failed; why is in the cause. */
function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { message, cause: below } = cause;
  return below instanceof Error && below.message !== '' ? `${message}: ${below.message}` : message;
}

function joined(pieces: readonly Uint8Array[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Asked anew after waiting: a narrowed `aborted` would be taken for what it was before. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

async function delay(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
  try {
    await untilAborted(over, signal);
  } finally {
    clearTimeout(timer);
  }
}

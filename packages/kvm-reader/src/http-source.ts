import { KvmError, isKvmError } from '@libkvm/minidump-core';
import { abortedBy, type AsyncByteSource, type Cancellable } from './async-source.js';

/** How a file is read over HTTP. */
export interface HttpOptions extends Cancellable {
  /** Used instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How often a request is tried again after a network error, 408, 429 or 5xx: 3 unless told otherwise. */
  readonly retries?: number;
  /** Milliseconds before the first new try, doubled each time: 200 unless told otherwise. */
  readonly retryDelay?: number;
  /** Milliseconds without an answer after which a request is given up and tried again: 30,000 unless told otherwise. */
  readonly timeout?: number;
  /** A server that knows no ranges sends the whole file: up to so many bytes are taken, 256 MB unless told otherwise. */
  readonly maxWholeFile?: number;
}

const FIRST_BYTES = 65536;

/** Settings with their defaults. */
interface Settings {
  readonly url: string;
  readonly fetch: typeof fetch;
  readonly headers: Readonly<Record<string, string>>;
  readonly retries: number;
  readonly retryDelay: number;
  readonly timeout: number;
  readonly maxWholeFile: number;
}

/**
 * Opens a file on an HTTP server as a source. The first request asks for its first 64 KB and so learns its size; a server
 * that ignores ranges sends all of it, which is then kept in memory.
 *
 * Answers are checked: a range other than the one asked for, or a file that changed meanwhile (ETag, Last-Modified, size),
 * is an error and never wrong bytes.
 *
 * @throws KvmError `IO`, `ABORTED`, `UNSUPPORTED` when the server knows no ranges and the file is too large to take whole
 */
export async function httpSource(url: string | URL, options: HttpOptions = {}): Promise<AsyncByteSource> {
  const settings: Settings = {
    url: String(url),
    fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
    headers: options.headers ?? {},
    retries: options.retries ?? 3,
    retryDelay: options.retryDelay ?? 200,
    timeout: options.timeout ?? 30_000,
    maxWholeFile: options.maxWholeFile ?? 256 * 1024 * 1024,
  };
  return retrying(settings, options.signal, (signal) => openOnce(settings, signal));
}

async function openOnce(settings: Settings, signal: AbortSignal): Promise<AsyncByteSource> {
  const response = await request(settings, 0, FIRST_BYTES, signal);
  if (response.status === 416) return wholeFile(new Uint8Array(0));
  if (response.status === 200) return wholeFile(await takeWhole(settings, response));
  const range = contentRange(settings, response, 0);
  const first = new Uint8Array(await response.arrayBuffer());
  if (range.size === undefined) throw unusable(settings, 'the server does not tell the size of the file', 0);
  if (first.length !== Math.min(FIRST_BYTES, range.size)) throw cut(settings, 0, first.length);
  return new HttpSource(settings, range.size, validator(response), first);
}

class HttpSource implements AsyncByteSource {
  constructor(
    private readonly settings: Settings,
    readonly size: number,
    private readonly version: string,
    /** The first bytes of the file: they came with its size. */
    private readonly first: Uint8Array,
  ) {}

  async read(offset: number, length: number, options: Cancellable = {}): Promise<Uint8Array> {
    if (offset + length <= this.first.length) return this.first.slice(offset, offset + length);
    return retrying(this.settings, options.signal, (signal) => this.readOnce(offset, length, signal));
  }

  private async readOnce(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    const { settings } = this;
    const response = await request(settings, offset, length, signal);
    if (response.status === 200) {
      await response.body?.cancel();
      throw unusable(settings, 'the server answered a request for a range with the whole file', offset);
    }
    const range = contentRange(settings, response, offset);
    if (range.size !== undefined && range.size !== this.size) throw changed(settings, offset);
    if (validator(response) !== this.version) throw changed(settings, offset);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length !== length) throw cut(settings, offset, bytes.length);
    return bytes;
  }
}

/** A source over a file that came whole. */
function wholeFile(bytes: Uint8Array): AsyncByteSource {
  return {
    size: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.slice(offset, offset + length)),
  };
}

async function takeWhole(settings: Settings, response: Response): Promise<Uint8Array> {
  const announced = Number(response.headers.get('content-length') ?? 0);
  if (announced > settings.maxWholeFile) {
    await response.body?.cancel();
    throw tooLarge(settings, announced);
  }
  const pieces: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
    size += piece.value.length;
    if (size > settings.maxWholeFile) {
      await reader?.cancel();
      throw tooLarge(settings, size);
    }
    pieces.push(piece.value);
  }
  const encoded = response.headers.get('content-encoding') !== null;
  if (!encoded && announced > 0 && size !== announced) throw cut(settings, 0, size);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

async function request(
  settings: Settings,
  offset: number,
  length: number,
  signal: AbortSignal,
): Promise<Response> {
  const response = await settings.fetch(settings.url, {
    headers: { ...settings.headers, Range: `bytes=${offset}-${offset + length - 1}` },
    signal,
  });
  if (response.ok || response.status === 416) return response;
  await response.body?.cancel();
  const again = response.status === 408 || response.status === 429 || response.status >= 500;
  throw new HttpFault(
    ioError(settings, `the server answered ${response.status} ${response.statusText}`, offset),
    again,
  );
}

/** The range that a 206 says it brings: checked to start where it was asked to. */
function contentRange(settings: Settings, response: Response, offset: number): { size: number | undefined } {
  if (response.status !== 206)
    throw unusable(settings, `the server answered ${response.status} to a range`, offset);
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  // Browsers hide the header from other origins unless the server exposes it.
  if (match === null) {
    const hint = 'across origins it must send Access-Control-Expose-Headers: Content-Range, ETag';
    throw unusable(settings, 'the answer to a range does not say which range it is', offset, hint);
  }
  if (Number(match[1]) !== offset) {
    throw unusable(
      settings,
      `the server answered with bytes from ${match[1]} on, not from ${offset}`,
      offset,
    );
  }
  return { size: match[3] === '*' ? undefined : Number(match[3]) };
}

function validator({ headers }: Response): string {
  return headers.get('etag') ?? headers.get('last-modified') ?? '';
}

/** An error and whether another try may help. */
class HttpFault extends Error {
  constructor(
    readonly error: KvmError,
    readonly again: boolean,
  ) {
    super(error.message);
  }
}

/** Tries again what failed for a passing reason; each try has a time limit. */
async function retrying<T>(
  settings: Settings,
  signal: AbortSignal | undefined,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    if (signal?.aborted === true) throw abortedBy(signal);
    const limit = AbortSignal.timeout(settings.timeout);
    try {
      return await action(signal ? AbortSignal.any([signal, limit]) : limit);
    } catch (cause) {
      if (isAborted(signal)) throw abortedBy(signal!);
      const fault = cause instanceof HttpFault ? cause : asFault(settings, cause);
      if (!fault.again || tries >= settings.retries) throw fault.error;
      await delay(settings.retryDelay * 2 ** tries, signal);
    }
  }
}

/** Asked anew after waiting: a narrowed `aborted` would be taken for what it was before. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

/** What `fetch` throws is a network error or the time limit: both may pass. Our own errors are final. */
function asFault(settings: Settings, cause: unknown): HttpFault {
  if (isKvmError(cause)) return new HttpFault(cause, false);
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new HttpFault(ioError(settings, reason, undefined, cause), true);
}

function delay(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortedBy(signal!));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function ioError({ url }: Settings, reason: string, offset?: number, cause?: unknown): KvmError {
  return new KvmError('IO', `${url}: ${reason}`, { ...(offset !== undefined && { offset }), cause });
}

/** The connection ended early: another try may bring the rest. */
function cut(settings: Settings, offset: number, got: number): HttpFault {
  return new HttpFault(ioError(settings, `the answer ended after ${got} bytes`, offset), true);
}

function changed(settings: Settings, offset: number): HttpFault {
  const error = new KvmError('IO', `${settings.url}: the file changed while it was read`, {
    offset,
    hint: 'open it again',
  });
  return new HttpFault(error, false);
}

function unusable(settings: Settings, reason: string, offset: number, hint?: string): HttpFault {
  const error = new KvmError('IO', `${settings.url}: ${reason}`, {
    offset,
    ...(hint !== undefined && { hint }),
  });
  return new HttpFault(error, false);
}

function tooLarge({ url, maxWholeFile }: Settings, size: number): KvmError {
  return new KvmError(
    'UNSUPPORTED',
    `${url}: the server knows no ranges, and the file has ${size} bytes or more`,
    {
      length: size,
      hint: `use a server that answers ranges, or raise maxWholeFile above ${maxWholeFile}`,
    },
  );
}

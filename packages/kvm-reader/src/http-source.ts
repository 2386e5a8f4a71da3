import { KvmError } from '@libkvm/minidump-core';
import type { AsyncByteSource, Cancellable } from './async-source.js';
import {
  HttpFault,
  changed,
  cutShort,
  retrying,
  unusable,
  type Attempt,
  type HttpSettings,
} from './http-request.js';

/** How a file is read over HTTP. */
export interface HttpOptions extends Cancellable {
  /** Used instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How often a request is tried again after a network error, a cut or late answer, 408, 425, 429 or 5xx: 3 unless told otherwise. */
  readonly retries?: number;
  /** Milliseconds before the first new try, doubled each time, longer where Retry-After says so: 200 unless told otherwise. */
  readonly retryDelay?: number;
  /** Milliseconds without a byte after which a request is given up and tried again: 30,000 unless told otherwise. */
  readonly timeout?: number;
  /** A server that knows no ranges sends the whole file: up to so many bytes are taken, 256 MB unless told otherwise. */
  readonly maxWholeFile?: number;
}

const FIRST_BYTES = 65536;
const EXPOSE = 'across origins it must send Access-Control-Expose-Headers: Content-Range, ETag';

/**
 * Opens a file on an HTTP server as a source. The first request asks for its first 64 KB and so learns its size; a server
 * that ignores ranges sends all of it, which is then kept in memory. Redirects are followed anew with each request, since
 * where they lead may expire.
 *
 * Answers are checked: a range other than the one asked for, more or fewer bytes than that, or a file that changed
 * meanwhile (ETag, else Last-Modified; its size), is an error (`IO`) and never wrong bytes. Conditions (If-Range) are not
 * sent: across origins they would cost a request of their own each time. After an error the source is usable as soon as
 * the server is; a file that changed has to be opened again.
 *
 * @throws KvmError `IO`, `ABORTED`, `UNSUPPORTED` when the server knows no ranges and the file is too large to take whole,
 *   `INVALID_ARGUMENT`
 */
export async function httpSource(url: string | URL, options: HttpOptions = {}): Promise<AsyncByteSource> {
  const settings: HttpSettings = {
    url: String(url),
    fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
    headers: options.headers ?? {},
    retries: atLeastZero('retries', options.retries ?? 3),
    retryDelay: atLeastZero('retryDelay', options.retryDelay ?? 200),
    timeout: atLeastZero('timeout', options.timeout ?? 30_000),
    maxWholeFile: atLeastZero('maxWholeFile', options.maxWholeFile ?? 256 * 1024 * 1024),
  };
  return retrying(settings, 0, options.signal, (attempt) => openOnce(settings, attempt));
}

async function openOnce(settings: HttpSettings, attempt: Attempt): Promise<AsyncByteSource> {
  const response = await attempt.request(0, FIRST_BYTES);
  if (response.status === 416) return wholeFile(new Uint8Array(0));
  if (response.status === 200) return wholeFile(await takeWhole(settings, attempt, response));
  const { size } = contentRange(settings, response, 0);
  if (size === undefined)
    throw unusable(settings, 'the server does not tell the size of the file', 0, EXPOSE);
  const first = await takeRange(settings, attempt, response, 0, Math.min(FIRST_BYTES, size));
  return new HttpSource(settings, size, validator(response), first);
}

class HttpSource implements AsyncByteSource {
  constructor(
    private readonly settings: HttpSettings,
    readonly size: number,
    private readonly version: string,
    /** The first bytes of the file: they came with its size. */
    private readonly first: Uint8Array,
  ) {}

  async read(offset: number, length: number, { signal }: Cancellable = {}): Promise<Uint8Array> {
    if (offset + length <= this.first.length) return this.first.slice(offset, offset + length);
    return retrying(this.settings, offset, signal, (attempt) => this.readOnce(offset, length, attempt));
  }

  private async readOnce(offset: number, length: number, attempt: Attempt): Promise<Uint8Array> {
    const { settings } = this;
    const response = await attempt.request(offset, length);
    if (this.tellsOfChange(response)) throw changed(settings, offset);
    const { size } = contentRange(settings, response, offset);
    if (size !== undefined && size !== this.size) throw changed(settings, offset);
    return takeRange(settings, attempt, response, offset, length);
  }

  /** A range that is gone, or another validator. An error page in place of the file has none, and tells nothing. */
  private tellsOfChange(response: Response): boolean {
    const version = validator(response);
    return (
      response.status === 416 || (version !== this.version && (version !== '' || response.status === 206))
    );
  }
}

/** A source over a file that came whole. */
function wholeFile(bytes: Uint8Array): AsyncByteSource {
  return {
    size: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.slice(offset, offset + length)),
  };
}

async function takeWhole(settings: HttpSettings, attempt: Attempt, response: Response): Promise<Uint8Array> {
  const { maxWholeFile } = settings;
  const announced = Number(response.headers.get('content-length') ?? 0);
  if (announced > maxWholeFile) throw tooLarge(settings, announced);
  const bytes = await attempt.bytesOf(response, maxWholeFile, () => tooLarge(settings, maxWholeFile + 1));
  const encoded = response.headers.get('content-encoding') !== null;
  if (!encoded && announced > 0 && bytes.length !== announced) throw cutShort(settings, 0, bytes.length);
  return bytes;
}

async function takeRange(
  settings: HttpSettings,
  attempt: Attempt,
  response: Response,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const tooMany = (): HttpFault => unusable(settings, `the server sent more than ${length} bytes`, offset);
  const bytes = await attempt.bytesOf(response, length, tooMany);
  if (bytes.length < length) throw cutShort(settings, offset, bytes.length);
  return bytes;
}

/** The range that a 206 says it brings: checked to start where it was asked to. */
function contentRange(
  settings: HttpSettings,
  response: Response,
  offset: number,
): { size: number | undefined } {
  if (response.status === 200)
    throw unusable(settings, 'the server answered a request for a range with the whole file', offset);
  if (response.status !== 206)
    throw unusable(settings, `the server answered ${response.status} to a range`, offset);
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  // Browsers hide the header from other origins unless the server exposes it.
  if (match === null)
    throw unusable(settings, 'the answer to a range does not say which range it is', offset, EXPOSE);
  const [from, size] = [match[1], match[3]].map(Number);
  if (from !== offset)
    throw unusable(settings, `the server answered with bytes from ${from} on, not from ${offset}`, offset);
  if (match[3] === '*') return { size: undefined };
  if (Number.isSafeInteger(size) && size > offset) return { size };
  throw unusable(settings, `the server says that the file has ${match[3]} bytes`, offset);
}

function validator({ headers }: Response): string {
  return headers.get('etag') ?? headers.get('last-modified') ?? '';
}

function atLeastZero(field: string, value: number): number {
  if (value >= 0) return value;
  throw new KvmError('INVALID_ARGUMENT', `${field} is a number from 0 on, not ${String(value)}`, {
    field,
    hint: 'leave it out for what is usual',
  });
}

function tooLarge({ url, maxWholeFile }: HttpSettings, size: number): KvmError {
  return new KvmError(
    'UNSUPPORTED',
    `${url}: the server knows no ranges, and the file has ${size} bytes or more`,
    {
      ...{ field: 'maxWholeFile', length: size },
      hint: `use a server that answers ranges, or raise maxWholeFile above ${maxWholeFile}`,
    },
  );
}

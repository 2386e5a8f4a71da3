import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ByteSource } from '@libkvm/minidump-core';

/** What a server does with a request; `next` answers it as a sound server does. */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

/** A request as the server saw it: the range asked for, both ends included. */
export interface SeenRange {
  readonly path: string;
  readonly from: number;
  readonly to: number;
}

/** A local HTTP server of files that answers ranges, counts them, and misbehaves when told to. */
export class RangeServer {
  /** Requests for ranges, in their order. */
  readonly seen: SeenRange[] = [];
  /** Instead of a sound answer. */
  misbehaves: Misbehaviour | undefined;
  etag = '"1"';
  private readonly files = new Map<string, ByteSource>();
  private readonly server: Server;
  private base = '';

  private constructor() {
    this.server = createServer((request, response) => this.handle(request, response));
  }

  static async start(): Promise<RangeServer> {
    const server = new RangeServer();
    await new Promise<void>((resolve) => server.server.listen(0, '127.0.0.1', resolve));
    // A test that forgets to stop it must not keep the process from ending.
    server.server.unref();
    server.base = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
    return server;
  }

  /** Puts a file on the server and gives its address. */
  readonly add = (source: ByteSource): string => {
    const path = `/vmcore.${this.files.size}`;
    this.files.set(path, source);
    return this.base + path;
  };

  /** Forgets what was seen. */
  reset(): void {
    this.seen.length = 0;
    this.misbehaves = undefined;
    this.etag = '"1"';
  }

  /** Bytes that were sent in answer to the ranges seen. */
  get bytes(): number {
    return this.seen.reduce((sum, { path, from, to }) => sum + Math.min(to + 1, this.sizeOf(path)) - from, 0);
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private sizeOf(path: string): number {
    return this.files.get(path)?.size ?? 0;
  }

  private handle(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    const [, from, to] = (/^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []).map(Number);
    this.seen.push({ path, from, to });
    const next = (): void => this.answer(path, from, to, response);
    if (this.misbehaves) this.misbehaves(request, response, next);
    else next();
  }

  private answer(path: string, from: number, to: number, response: ServerResponse): void {
    const file = this.files.get(path);
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    if (from >= file.size) {
      response.writeHead(416, { 'content-range': `bytes */${file.size}` }).end();
      return;
    }
    const part = new Uint8Array(Math.min(to + 1, file.size) - from);
    file.readSync(from, part, 0, part.length);
    response.writeHead(206, {
      'content-range': `bytes ${from}-${from + part.length - 1}/${file.size}`,
      etag: this.etag,
      // Pages in a browser come from another origin.
      ...{ 'access-control-allow-origin': '*', 'access-control-expose-headers': 'content-range, etag' },
    });
    response.end(part);
  }
}

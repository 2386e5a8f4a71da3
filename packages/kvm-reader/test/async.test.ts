import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump, randomMachine, sampleMachine } from '@libkvm/fixtures';
import { isKvmError, type KvmErrorCode } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  httpSource,
  openKvm,
  openKvmAsync,
  type AsyncByteSource,
  type AsyncKvm,
  type Kvm,
} from '../src/index.js';
import { runs } from './support/long.js';

const { machine, kernel, known } = sampleMachine();
const sample = amd64Minidump(machine).file.bytes();

/** Bytes that come later, and a count of how often they were asked for. */
class LateSource implements AsyncByteSource {
  readonly size: number;
  requests = 0;
  bytes = 0;

  constructor(private readonly data: Uint8Array) {
    this.size = data.length;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.requests++;
    this.bytes += length;
    await Promise.resolve();
    return this.data.slice(offset, offset + length);
  }
}

/** An answer or an error, as data: the same of both faces. */
async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return plain(await call());
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return error.toJSON();
  }
}

/** Bytes as text: quicker to compare. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  return Array.isArray(value) ? value.map(plain) : value;
}

async function all<T>(items: AsyncIterable<T> | Iterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe('AsyncKvm', () => {
  it('answers as Kvm does, errors included', async () => {
    const property = fc.asyncProperty(fc.nat(), fc.constantFrom(1, 2, 3), async (seed, version) => {
      const random = randomMachine(seed);
      const bytes = amd64Minidump(random.machine, { version: version }).file.bytes();
      const sync = openKvm(bytes, { architectures: [amd64] });
      const late = await openKvmAsync(new LateSource(bytes), { architectures: [amd64], cacheBytes: 0 });
      for (const kva of random.probes.slice(0, 40)) {
        for (const call of callsOf(kva))
          expect(await outcome(() => call(late))).toEqual(await outcome(() => call(sync)));
      }
      expect(await all(late.pages())).toEqual([...sync.pages()]);
    });
    await fc.assert(property, runs(6));
  });

  it('searches as Kvm does', async () => {
    const sync = openKvm(sample, { architectures: [amd64] });
    const late = await openKvmAsync(new LateSource(sample), { architectures: [amd64], cacheBytes: 0 });
    expect(await all(late.search('FreeBSD'))).toEqual([...sync.search('FreeBSD')]);
    expect(await all(late.searchPhysical('FreeBSD'))).toEqual([...sync.searchPhysical('FreeBSD')]);
  });

  it('reads symbols and messages of a kernel that is fetched too', async () => {
    const source = new LateSource(sample);
    const kernelSource = new LateSource(kernel);
    const kvm = await openKvmAsync(source, { architectures: [amd64], kernel: kernelSource });
    expect(await kvm.readU32(await kvm.symbol('hz'))).toBe(known.hz);
    expect((await kvm.messageBuffer())?.text).toBe(known.messages);
    expect((await kvm.checkMatch()).verdict).toBe('match');
    expect(kernelSource.requests).toBeGreaterThan(0);
  });

  it('asks for little, and for nothing twice', async () => {
    const source = new LateSource(sample);
    const kvm = await openKvmAsync(source, { architectures: [amd64], kernel });
    const allproc = await kvm.symbol('allproc');
    await kvm.readU64(allproc);
    expect(source.requests).toBeLessThanOrEqual(8);
    expect(source.bytes).toBeLessThanOrEqual(2 * 1024 * 1024);
    const before = source.requests;
    for (let i = 0; i < 10; i++) await kvm.readU64(allproc);
    expect(source.requests).toBe(before);
  });

  it('serves calls that are under way together', async () => {
    const sync = openKvm(sample, { architectures: [amd64] });
    const late = await openKvmAsync(new LateSource(sample), { architectures: [amd64], cacheBytes: 0 });
    const kvas = [...sync.pages()].flatMap(({ kva, offset }) =>
      kva === undefined || offset === undefined ? [] : [kva],
    );
    const some = kvas.filter((_, i) => i % 17 === 0);
    const read = await Promise.all(some.map((kva) => late.read(kva, 64)));
    expect(read).toEqual(some.map((kva) => sync.read(kva, 64)));
  });

  it('reads long runs past the store, in few requests', async () => {
    const row = [...openKvm(sample, { architectures: [amd64] }).pages()].find(
      ({ length }) => length >= 2 ** 20,
    )!;
    const source = new LateSource(sample);
    const kvm = await openKvmAsync(source, { architectures: [amd64] });
    await kvm.resolve(row.kva!);
    const before = source.requests;
    const bytes = await kvm.read(row.kva!, row.length);
    expect(Buffer.compare(bytes, sample.subarray(row.offset, row.offset! + row.length))).toBe(0);
    expect(source.requests - before).toBeLessThanOrEqual(2);
  });

  it('opens a Blob, and says when it is gone', async () => {
    const kvm = await openKvmAsync(new Blob([sample]), { architectures: [amd64] });
    expect((await kvm.readCString(known.symbols.version, 300)).startsWith('FreeBSD')).toBe(true);
    const gone = { size: sample.length, read: () => Promise.reject(new Error('revoked')) };
    await expect(openKvmAsync(gone, { architectures: [amd64] })).rejects.toThrow('revoked');
  });

  it('ends when it is cancelled, and goes on afterwards', async () => {
    const controller = new AbortController();
    const source = new LateSource(sample);
    const stalls: AsyncByteSource = {
      size: sample.length,
      read: (offset, length) =>
        controller.signal.aborted ? source.read(offset, length) : new Promise(() => undefined),
    };
    const opening = openKvmAsync(stalls, { architectures: [amd64], signal: controller.signal });
    controller.abort();
    expect(await outcome(() => opening)).toMatchObject({ code: 'ABORTED' });
    const kvm = await openKvmAsync(stalls, { architectures: [amd64] });
    const aborted = AbortSignal.abort();
    expect(await outcome(() => kvm.readU8(known.symbols.version, { signal: aborted }))).toMatchObject({
      code: 'ABORTED',
    });
    expect(await kvm.readU8(known.symbols.version)).toBe(known.version.charCodeAt(0));
  });
});

describe('httpSource', () => {
  let server: Server;
  let url: string;
  let handler: (request: IncomingMessage, response: ServerResponse) => void;
  const requests: string[] = [];
  beforeAll(async () => {
    server = createServer((request, response) => {
      requests.push(request.headers.range ?? '');
      handler(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/vmcore`;
  });
  afterEach(() => requests.splice(0));
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  const ranges = (request: IncomingMessage, response: ServerResponse, etag = '"1"'): void => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')!.map(Number);
    const part = sample.subarray(from, to + 1);
    response.writeHead(206, {
      'content-range': `bytes ${from}-${from + part.length - 1}/${sample.length}`,
      etag,
    });
    response.end(part);
  };
  const quick = { retryDelay: 1, timeout: 500 };

  it('reads a core by ranges', async () => {
    handler = ranges;
    const kvm = await openKvmAsync(await httpSource(url, quick), { architectures: [amd64], kernel });
    expect(await kvm.readU32(known.symbols.hz)).toBe(known.hz);
    expect(requests.length).toBeLessThanOrEqual(8);
  });

  it('takes the whole file from a server without ranges, up to a limit', async () => {
    handler = (_, response) => response.writeHead(200, { 'content-length': sample.length }).end(sample);
    const kvm = await openKvmAsync(await httpSource(url, quick), { architectures: [amd64] });
    expect(await kvm.readCString(known.symbols.version, 7)).toBe('FreeBSD');
    expect(requests.length).toBe(1);
    expect(await outcome(() => httpSource(url, { ...quick, maxWholeFile: 1000 }))).toMatchObject({
      code: 'UNSUPPORTED',
    });
  });

  it('tries again what may pass: errors of the server, dropped and cut answers', async () => {
    let failures = 0;
    handler = (request, response) => {
      failures++;
      if (failures % 4 === 1) response.writeHead(503).end();
      else if (failures % 4 === 2) request.socket.destroy();
      else if (failures % 4 === 3) {
        response.writeHead(206, {
          'content-range': `bytes 0-65535/${sample.length}`,
          'content-length': 65536,
        });
        response.write(sample.subarray(0, 100));
        setTimeout(() => request.socket.destroy(), 5);
      } else ranges(request, response);
    };
    const source = await httpSource(url, { ...quick, retries: 3 });
    expect(source.size).toBe(sample.length);
  });

  it.each<[string, KvmErrorCode, (request: IncomingMessage, response: ServerResponse) => void]>([
    ['refuses', 'IO', (_, response) => response.writeHead(403).end()],
    ['stalls', 'IO', () => undefined],
    [
      'lies about the range',
      'IO',
      (_, response) => response.writeHead(206, { 'content-range': `bytes 7-70/99` }).end('x'),
    ],
    ['does not say the range', 'IO', (_, response) => response.writeHead(206).end('x')],
  ])('says so when a server %s', async (_name, code, answer) => {
    handler = answer;
    expect(await outcome(() => httpSource(url, { ...quick, timeout: 50, retries: 1 }))).toMatchObject({
      code,
    });
  });

  it.each<[string, (request: IncomingMessage, response: ServerResponse) => void]>([
    ['a changed file', (request, response) => ranges(request, response, '"2"')],
    ['the whole file', (_, response) => response.writeHead(200).end(sample)],
  ])('takes no bytes of %s later on, and is usable when the server is again', async (_name, later) => {
    handler = ranges;
    const source = await httpSource(url, quick);
    const kvm = await openKvmAsync(source, { architectures: [amd64] });
    handler = later;
    expect(await outcome(() => kvm.readU8(known.symbols.hz))).toMatchObject({ code: 'IO' });
    handler = ranges;
    expect(await kvm.readU32(known.symbols.hz)).toBe(known.hz);
  });
});

/** Calls that both faces have. */
function callsOf(kva: bigint): ((kvm: Kvm | AsyncKvm) => unknown)[] {
  return [
    (kvm) => kvm.resolve(kva),
    (kvm) => kvm.read(kva, 0),
    (kvm) => kvm.read(kva, 100),
    (kvm) => kvm.read(kva, 5000, { pad: true }),
    (kvm) => kvm.read(kva, 70_000),
    (kvm) => kvm.read(kva, -1),
    async (kvm) => {
      const { bytes, fault } = await kvm.readPartial(kva, 80_000);
      return [bytes, fault?.toJSON()];
    },
    (kvm) => kvm.readU16(kva),
    (kvm) => kvm.readU64(kva),
    (kvm) => kvm.readCString(kva, 40),
    (kvm) => kvm.readPhysical(Number(kva & 0xffff_ffffn), 16),
  ];
}

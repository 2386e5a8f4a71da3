import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump } from '@libkvm/fixtures';
import { MemorySource, type KvmError, type KvmErrorCode } from '@libkvm/minidump-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { httpSource, openKvm, openKvmAsync, type AsyncKvm, type HttpOptions } from '../src/index.js';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import { caughtLater, listOf } from './support/faces.js';
import { RangeServer, type Misbehaviour } from './support/range-server.js';

/** Servers that fail in every way: the error says so, no wrong byte is given, and the reader goes on when they do. */

const bytes = amd64Minidump(bulkMachine(6)).file.bytes();
const sync = openKvm(bytes, { architectures: [amd64] });
const QUICK: HttpOptions = { retries: 2, retryDelay: 1, timeout: 100 };

const range = (header = ''): [number, number] => {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(header)!.map(Number);
  return [from, Math.min(to, bytes.length - 1)];
};
const head = (from: number, to: number, size: number | string = bytes.length): Record<string, string> => ({
  ...{ 'content-range': `bytes ${from}-${to}/${size}`, etag: '"1"' },
});

/** How often each is tried: once, or once and two times more. */
const FAULTS: readonly (readonly [string, tries: 1 | 3, RegExp, Misbehaviour])[] = [
  ['drops the connection', 3, /fetch failed|terminated/, (request) => request.socket.destroy()],
  ['never answers', 3, /no answer for 100 ms/, () => undefined],
  [
    'stops in the middle',
    3,
    /no answer for 100 ms/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to)).write(bytes.subarray(from, from + 10));
    },
  ],
  [
    'cuts the body',
    3,
    /terminated|ended after 10 bytes/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, { ...head(from, to), 'content-length': to + 1 - from });
      response.write(bytes.subarray(from, from + 10));
      setTimeout(() => request.socket.destroy(), 5);
    },
  ],
  [
    'ends the body early as if it were whole',
    3,
    /ended after 10 bytes/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to)).end(bytes.subarray(from, from + 10));
    },
  ],
  [
    'sends more than it was asked for',
    1,
    /more than \d+ bytes/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to)).end(bytes.subarray(from - 100, to + 1));
    },
  ],
  [
    'sends another range',
    1,
    /with bytes from 7 on/,
    (_, response) => response.writeHead(206, head(7, 70)).end('x'),
  ],
  [
    'does not say which range',
    1,
    /does not say which range/,
    (_, response) => response.writeHead(206, { etag: '"1"' }).end('x'),
  ],
  ['answers with the whole file', 1, /the whole file/, (_, response) => response.writeHead(200).end(bytes)],
  [
    'has another file of the same size',
    1,
    /changed/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, { ...head(from, to), etag: '"2"' }).end(bytes.subarray(from, to + 1));
    },
  ],
  [
    'has the other file whole',
    1,
    /changed/,
    (_, response) => response.writeHead(200, { etag: '"2"' }).end(bytes),
  ],
  [
    'has a longer file',
    1,
    /changed/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to, bytes.length + 1)).end(bytes.subarray(from, to + 1));
    },
  ],
  [
    'tells no sensible size',
    1,
    /has 9{20} bytes/,
    (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to, '9'.repeat(20))).end(bytes.subarray(from, to + 1));
    },
  ],
  ['has a shorter file', 1, /changed/, (_, response) => response.writeHead(416).end()],
  ...[401, 403, 404, 410, 400].map(
    (status) =>
      [
        `answers ${status}`,
        1,
        new RegExp(String(status)),
        (_: unknown, response: Parameters<Misbehaviour>[1]) => response.writeHead(status).end(),
      ] as const,
  ),
  ...[408, 425, 429, 500, 503].map(
    (status) =>
      [
        `answers ${status}`,
        3,
        new RegExp(String(status)),
        (_: unknown, response: Parameters<Misbehaviour>[1]) => response.writeHead(status).end(),
      ] as const,
  ),
  [
    'redirects without end',
    3,
    /redirect/,
    (request, response) => response.writeHead(302, { location: request.url }).end(),
  ],
];

describe('a server that', () => {
  let server: RangeServer;
  let url: string;
  beforeAll(async () => {
    server = await RangeServer.start();
    url = server.add(new MemorySource(bytes));
  });
  beforeEach(() => server.reset());
  afterAll(() => server.stop());

  const open = async (options: HttpOptions = QUICK): Promise<AsyncKvm> =>
    openKvmAsync(await httpSource(url, options), { architectures: [amd64], cacheBytes: 0 });
  const { kva } = BULK.scattered;

  it.each(FAULTS)('%s, is told of at a read, and is read again later', async (name, tries, words, fault) => {
    const kvm = await open();
    const { length } = server.seen;
    server.misbehaves = fault;
    const far = kva + 0x200000n;
    const error = await caughtLater(() => kvm.readU64(far), 'IO');
    checkTold(error, url, words);
    // A loop of redirects is requested again and again by fetch itself.
    if (!name.startsWith('redirects')) expect(server.seen.length - length).toBe(tries);
    server.misbehaves = undefined;
    expect(await kvm.readU64(far)).toBe(sync.readU64(far));
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
  });

  it.each([FAULTS[0], FAULTS[4], FAULTS[9]])(
    '%s, is told of at long reads, walks and searches',
    async (_name, _tries, words, fault) => {
      const kvm = await open();
      await kvm.resolve(kva);
      const uses = [
        () => kvm.read(kva, 2 ** 20),
        () => kvm.readPartial(kva, 2 ** 20),
        () => kvm.readInto(kva, new Uint8Array(2 ** 20)),
        () => kvm.readPhysical(0x900000, 2 ** 20),
        () => listOf(kvm.search('nothing of the kind')),
        () => listOf(kvm.searchPhysical('nothing of the kind')),
        () => kvm.read(BULK.torn.kva, 2 ** 20, { pad: true }),
      ];
      for (const use of uses) {
        server.misbehaves = fault;
        checkTold(await caughtLater(use, 'IO'), url, words);
        server.misbehaves = undefined;
        await use();
      }
      expect(Buffer.compare(await kvm.read(kva, 2 ** 20), sync.read(kva, 2 ** 20))).toBe(0);
    },
  );

  it.each<[string, KvmErrorCode, RegExp, Misbehaviour]>([
    ['has an empty file', 'NOT_A_CORE', /empty/, (_, response) => response.writeHead(416).end()],
    ['is forbidden', 'IO', /403/, (_, response) => response.writeHead(403).end()],
    ['has no such file', 'IO', /404/, (_, response) => response.writeHead(404).end()],
    ['never answers', 'IO', /no answer/, () => undefined],
    [
      'does not tell the size',
      'IO',
      /does not tell the size/,
      (_, response) => response.writeHead(206, head(0, 65535, '*')).end(bytes.subarray(0, 65536)),
    ],
    [
      'has a page of text in its place',
      'NOT_A_CORE',
      /no known core/,
      (_, response) => response.writeHead(200).end('<!doctype html><title>Not here</title>'),
    ],
    [
      'cuts the whole file',
      'IO',
      /ended after|terminated/,
      (request, response) => {
        response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 5000));
        setTimeout(() => request.socket.destroy(), 5);
      },
    ],
  ])('%s, is told of when it is opened', async (_name, code, words, fault) => {
    server.misbehaves = fault;
    const error = await caughtLater(() => open(), code);
    expect(error.message).toMatch(words);
    expect(error.hint).toBeDefined();
    server.misbehaves = undefined;
    expect(await (await open()).readU64(kva)).toBe(sync.readU64(kva));
  });

  it('asks to wait, is waited for', async () => {
    const kvm = await open({ ...QUICK, timeout: 5000 });
    const times: number[] = [];
    server.misbehaves = (_, response, next) => {
      times.push(performance.now());
      if (times.length > 1) next();
      else response.writeHead(429, { 'retry-after': '1' }).end();
    };
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
    expect(times[1] - times[0]).toBeGreaterThan(950);
  });

  it('is slow and steady, is read to the end', async () => {
    const kvm = await open({ ...QUICK, retries: 0, timeout: 150 });
    server.misbehaves = (request, response) => {
      const [from, to] = range(request.headers.range);
      response.writeHead(206, head(from, to));
      const step = Math.ceil((to + 1 - from) / 6);
      const send = (at: number): void => {
        if (at > to) response.end();
        else {
          response.write(bytes.subarray(at, Math.min(to + 1, at + step)));
          setTimeout(() => send(at + step), 50);
        }
      };
      send(from);
    };
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
  });

  it('redirects, is followed each time', async () => {
    server.misbehaves = (request, response, next) => {
      if (request.url === '/moved') response.writeHead(307, { location: url }).end();
      else next();
    };
    const source = await httpSource(new URL('/moved', url), QUICK);
    const kvm = await openKvmAsync(source, { architectures: [amd64] });
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
    expect(server.seen.filter(({ path }) => path === '/moved').length).toBeGreaterThan(1);
  });

  it('wants headers, gets them with each request', async () => {
    server.misbehaves = (request, response, next) => {
      if (request.headers.authorization === 'Bearer x') next();
      else response.writeHead(401).end();
    };
    const denied = await caughtLater(() => open(), 'IO');
    expect(denied.hint).toMatch(/headers/);
    const kvm = await open({ ...QUICK, headers: { authorization: 'Bearer x' } });
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
  });

  it('is given up when the caller gives up: at the open, at a read, between tries', async () => {
    server.misbehaves = () => undefined;
    const slow = { ...QUICK, timeout: 60_000 };
    const opening = new AbortController();
    setTimeout(() => opening.abort('enough'), 20);
    const error = await caughtLater(() => httpSource(url, { ...slow, signal: opening.signal }), 'ABORTED');
    expect(error.cause).toBe('enough');
    server.misbehaves = undefined;
    const kvm = await open({ ...slow, retries: 5, retryDelay: 60_000 });
    for (const fault of [FAULTS[1][3], FAULTS[0][3]]) {
      server.misbehaves = fault;
      const reading = new AbortController();
      setTimeout(() => reading.abort(), 20);
      await caughtLater(() => kvm.readU64(kva, { signal: reading.signal }), 'ABORTED');
    }
    server.misbehaves = undefined;
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
  });

  it('is asked with options that make sense', async () => {
    for (const options of [{ retries: -1 }, { retryDelay: NaN }, { timeout: -5 }, { maxWholeFile: NaN }]) {
      const error = await caughtLater(() => httpSource(url, options), 'INVALID_ARGUMENT');
      expect(error.field).toBe(Object.keys(options)[0]);
    }
    const patient = await open({ ...QUICK, timeout: Infinity });
    expect(await patient.readU64(kva)).toBe(sync.readU64(kva));
  });

  it('is not there at all, is told of with its address', async () => {
    const error = await caughtLater(() => httpSource('http://127.0.0.1:9/vmcore', QUICK), 'IO');
    checkTold(error, 'http://127.0.0.1:9/vmcore', /fetch failed/);
  });
});

function checkTold(error: KvmError, url: string, words: RegExp): void {
  expect(error.message).toContain(url);
  expect(error.message).toMatch(words);
  expect(error.offset).toBeTypeOf('number');
  expect(error.hint).toMatch(/\w{3}/);
}

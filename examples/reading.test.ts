import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sampleMachine } from '@libkvm/fixtures';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { describe, expect, it } from 'vitest';
import { readOverHttp } from './http-core.mjs';
import { readSymbol } from './read-symbol.mjs';
import { sampleFiles } from './sample.mjs';
import { processes } from './walk-list.mjs';

describe('examples that read a core', () => {
  const { core, kernel } = sampleFiles();
  const { known } = sampleMachine();

  it('reads a variable', () => {
    expect(readSymbol(core, kernel, 'hz')).toEqual({ address: known.symbols.hz, value: known.hz });
  });

  it('walks the list of processes', () => {
    const expected = known.processes.map(({ pid, comm, kva }) => ({ pid, name: comm, address: kva }));
    expect(processes(core, kernel)).toEqual(expected);
  });

  it('reads a variable over HTTP, and little else', async () => {
    const server = createServer((request, response) => {
      const bytes = readFileSync(request.url === '/kernel' ? kernel : core);
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const part = from === undefined ? bytes : bytes.subarray(Number(from), Number(to) + 1);
      response.writeHead(from === undefined ? 200 : 206, {
        'content-length': part.length,
        'accept-ranges': 'bytes',
        ...(from !== undefined && {
          'content-range': `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`,
        }),
      });
      response.end(request.method === 'HEAD' ? undefined : part);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const { value, bytes } = await readOverHttp(`${base}/core`, `${base}/kernel`, 'hz');
      expect(value).toBe(known.hz);
      expect(bytes).toBeLessThan(statSync(core).size / 2);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  const realCore = unpackedFile('cores/vmcore-amd64-minidump.bz2');
  const realKernel = unpackedFile('cores/kernel-amd64.xz');
  if (sharedFile('cores') === undefined)
    console.warn('cores/ is not there: the examples are not run on a real core');
  it.skipIf(realCore === undefined || realKernel === undefined)('reads a variable of a real core', () => {
    expect(readSymbol(realCore ?? '', realKernel ?? '', 'hz').value).toBe(100);
  });
});

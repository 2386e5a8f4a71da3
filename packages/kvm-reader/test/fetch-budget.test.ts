import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump, denseMachine, ELF_MACHINES, elfKernel, Prng } from '@libkvm/fixtures';
import type { ElfHashStyle } from '@libkvm/fixtures';
import { MemorySource } from '@libkvm/minidump-core';
import { writeSparse } from '../../fixtures/src/node.js';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { httpSource, openKvmAsync, type AsyncKvm } from '../src/index.js';
import { FileSource } from '../src/node.js';
import { RangeServer, type SeenRange } from './support/range-server.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What a core of 100 MB costs over HTTP: requests and bytes as the server counts them. */

const MB = 1024 * 1024;
const NODES = 300;

const dense = denseMachine(3);
const { machine, windows } = dense;
/** A symbol of the sample: a word in the middle of the large pages. */
const ANSWER = windows.large.start + 0x123458n;
/** A list through pages all over the file. */
const nodes = new Prng(5)
  .shuffle(Array.from({ length: NODES }, (_, i) => i))
  .map((i) => windows.small.start + BigInt(i * 40 * 4096) + 0x18n);

function kernelWith(count: number, hash?: ElfHashStyle): Uint8Array {
  const data = 0xffffffff80200000n;
  const others = Array.from({ length: count }, (_, i) => ({
    ...{ name: `some_kernel_function_${i}`, value: data + BigInt(i * 16), size: 16 },
    bind: 'global' as const,
  }));
  return elfKernel({
    ...{ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
    symbols: [...others, { name: 'answer', value: ANSWER, size: 8, bind: 'global' }],
    loads: [{ vaddr: data, bytes: new Uint8Array(4096), flags: 5 }],
    ...(hash && { dynamic: { hash } }),
  });
}

describe('a core of 100 MB over HTTP', () => {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-budget-'));
  let server: RangeServer;
  let core: string;
  const opened: FileSource[] = [];
  beforeAll(async () => {
    server = await RangeServer.start();
    nodes.forEach((kva, i) => machine.ram.writeU64(machine.translate(kva)!.pa, nodes[i + 1] ?? 0n));
    const { file } = amd64Minidump(machine);
    const path = join(folder, 'dense.core');
    writeSparse(path, file.extents(), file.totalSize);
    opened.push(new FileSource(path));
    core = server.add(opened[0]);
    expect(opened[0].size).toBeGreaterThan(100 * 1000 * 1000);
  });
  beforeEach(() => server.reset());
  afterAll(() => {
    server.stop();
    for (const file of opened) file.close();
    rmSync(folder, { recursive: true });
  });

  const open = async (kernel?: Uint8Array): Promise<AsyncKvm> =>
    openKvmAsync(await httpSource(core), {
      architectures: [amd64],
      ...(kernel && { kernel: await httpSource(server.add(new MemorySource(kernel))) }),
    });

  it.each([
    ['without a kernel file', undefined, 4, 2],
    ['with a small kernel file', kernelWith(500), 6, 2],
    ['with a whole kernel, by .gnu.hash', kernelWith(60_000, 'both'), 8, 2],
    // Rows and names of the symbols before it in the chain are read too.
    ['with a whole kernel, by .hash', kernelWith(60_000, 'sysv'), 12, 2],
    // All of .symtab and .strtab, 3 MB here.
    ['with a whole kernel without either', kernelWith(60_000), 7, 3.5],
  ])('opens and gives a value by its symbol, %s', async (name, kernel, requests, megabytes) => {
    const kvm = await open(kernel);
    const address = kernel === undefined ? ANSWER : await kvm.symbol('answer');
    expect(address).toBe(ANSWER);
    expect(await kvm.readU64(address)).toBe(dense.expectedU64(ANSWER));
    const bytes = (path: RegExp): number =>
      server.seen.filter((one) => path.test(one.path)).reduce((sum, { from, to }) => sum + to + 1 - from, 0);
    const ofCore = bytes(/vmcore\.0$/);
    console.log(`${name}: ${server.seen.length} requests, ${server.bytes} bytes, ${ofCore} of the core`);
    expect(server.seen.length).toBeLessThanOrEqual(requests);
    expect(ofCore).toBeLessThanOrEqual(0.5 * MB);
    expect(server.bytes).toBeLessThanOrEqual(megabytes * MB);
    expect(twice(server.seen)).toEqual([]);
  });

  it('walks a list without asking for anything twice', async () => {
    const kvm = await open();
    const walk = async (): Promise<number> => {
      let count = 0;
      for (let kva = nodes[0]; kva !== 0n; kva = await kvm.readPointer(kva)) count++;
      return count;
    };
    expect(await walk()).toBe(NODES);
    expect(twice(server.seen)).toEqual([]);
    const { length } = server.seen;
    console.log(`a list of ${NODES} nodes: ${length} requests, ${(server.bytes / MB).toFixed(1)} MB`);
    // A block for each node at most, and those of the tables.
    expect(length).toBeLessThanOrEqual(NODES + 40);
    expect(await walk()).toBe(NODES);
    expect(server.seen.length).toBe(length);
  });

  it('reads megabytes in few requests, each byte once', async () => {
    const kvm = await open();
    const { start } = windows.large;
    await kvm.resolve(start);
    server.seen.length = 0;
    const bytes = await kvm.read(start, 8 * MB);
    expect(new DataView(bytes.buffer).getBigUint64(5 * MB, true)).toBe(
      dense.expectedU64(start + BigInt(5 * MB)),
    );
    expect(server.seen.length).toBeLessThanOrEqual(8);
    expect(server.bytes).toBeLessThanOrEqual(8.5 * MB);
    expect(twice(server.seen)).toEqual([]);
  });

  it('looks through all of it with bounded memory, and asks for each byte about once', async () => {
    const kvm = await openKvmAsync(await httpSource(core), { architectures: [amd64], cacheBytes: 4 * MB });
    let most = 0;
    // What is held, not what waits to be collected: that depends on how busy the machine is.
    const held = (): number => {
      collectGarbage();
      return process.memoryUsage().arrayBuffers;
    };
    const before = held();
    const watch = setInterval(() => (most = Math.max(most, held() - before)), 20);
    for await (const _ of kvm.searchPhysical('no such bytes are anywhere')) expect.fail('found');
    clearInterval(watch);
    console.log(
      `a search: ${server.seen.length} requests, ${(server.bytes / MB).toFixed(1)} MB, ` +
        `${(most / MB).toFixed(1)} MB held at most`,
    );
    expect(server.bytes).toBeLessThanOrEqual(opened[0].size * 1.05);
    // The store, a request of up to 4 MB and its copies; not the 100 MB of the file.
    expect(most).toBeLessThan(24 * MB);
  });
});

/** Bytes of a file that were asked for more than once. */
function twice(seen: readonly SeenRange[]): string[] {
  const ordered = [...seen].sort((a, b) => a.path.localeCompare(b.path) || a.from - b.from);
  return ordered.flatMap((range, i) => {
    const before = ordered[i - 1];
    return before?.path === range.path && before.to >= range.from ? [`${range.path} ${range.from}`] : [];
  });
}

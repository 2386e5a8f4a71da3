import { runInNewContext } from 'node:vm';
import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump, sampleMachine } from '@libkvm/fixtures';
import type { ByteSource } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import {
  openKvm,
  openKvmAsync,
  type AsyncByteSource,
  type AsyncKvm,
  type OpenAsyncOptions,
} from '../src/index.js';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import { caughtLater, listOf } from './support/faces.js';

/** Asynchronous sources of callers and browsers: whatever they do ends as documented, and can be gone on from. */

const bytes = amd64Minidump(bulkMachine(8)).file.bytes();
const sync = openKvm(bytes, { architectures: [amd64] });
const { kva } = BULK.scattered;

/** A source that does as it is told, for one read or until told otherwise. */
class Puppet implements AsyncByteSource {
  readonly size = bytes.length;
  reads = 0;
  instead: ((offset: number, length: number, signal?: AbortSignal) => unknown) | undefined;

  read(offset: number, length: number, { signal }: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    this.reads++;
    if (this.instead) return this.instead(offset, length, signal) as Promise<Uint8Array>;
    return Promise.resolve(bytes.slice(offset, offset + length));
  }
}

async function opened(options: Partial<OpenAsyncOptions> = {}): Promise<{ puppet: Puppet; kvm: AsyncKvm }> {
  const puppet = new Puppet();
  const kvm = await openKvmAsync(puppet, { architectures: [amd64], cacheBytes: 0, ...options });
  return { puppet, kvm };
}

/** Uses that need bytes which are not at hand yet. */
const USES: readonly (readonly [string, (kvm: AsyncKvm, signal?: AbortSignal) => Promise<unknown>])[] = [
  ['a read', (kvm, signal) => kvm.readU64(kva + 0x200000n, given(signal))],
  ['a long read', (kvm, signal) => kvm.read(kva, 2 ** 20, given(signal))],
  ['a padded read', (kvm, signal) => kvm.read(BULK.torn.kva, 2 ** 20, { pad: true, ...given(signal) })],
  ['a walk', (kvm, signal) => listOf(kvm.pages({ from: kva }, given(signal)))],
  ['a search', (kvm, signal) => listOf(kvm.searchPhysical('no such thing', given(signal)))],
];
const given = (signal?: AbortSignal): { signal?: AbortSignal } => (signal ? { signal } : {});

describe('a source that gives', () => {
  const wrong: readonly (readonly [string, (offset: number, length: number) => unknown, RegExp])[] = [
    [
      'too few bytes',
      async (offset, length) => bytes.slice(offset, offset + length - 1),
      /gave \d+ bytes for/,
    ],
    [
      'too many bytes',
      async (offset, length) => bytes.slice(offset, offset + length + 1),
      /gave \d+ bytes for/,
    ],
    ['no bytes at all', async () => new Uint8Array(0), /gave 0 bytes for/],
    ['nothing', async () => undefined, /gave no bytes for/],
    ['text', async (_, length) => 'x'.repeat(length), /gave no bytes for/],
    ['an array of numbers', async (_, length) => Array.from({ length }, () => 0), /gave no bytes for/],
    ['something else than a promise', () => 7, /gave no bytes for/],
  ];
  it.each(wrong)('%s fails with IO, at the open and later', async (_name, instead, words) => {
    const puppet = new Puppet();
    puppet.instead = instead;
    const error = await caughtLater(() => openKvmAsync(puppet, { architectures: [amd64] }), 'IO');
    expect(error.message).toMatch(words);
    expect(error.hint).toBeDefined();
    for (const [, use] of USES) {
      const { puppet: later, kvm } = await opened();
      later.instead = instead;
      await caughtLater(() => use(kvm), 'IO');
      later.instead = undefined;
      await use(kvm);
      expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
    }
  });

  it.each<[string, (part: Uint8Array<ArrayBuffer>) => unknown]>([
    ['an ArrayBuffer', (part) => part.buffer],
    ['a DataView', (part) => new DataView(part.buffer)],
    ['a Buffer', (part) => Buffer.from(part)],
    ['words', (part) => (part.length % 4 === 0 ? new Uint32Array(part.buffer) : part)],
    ['shared memory', (part) => shared(part)],
    ['bytes of another realm', (part) => foreign(part)],
  ])('%s gives bytes', async (_name, convert) => {
    const puppet = new Puppet();
    puppet.instead = async (offset, length) => convert(bytes.slice(offset, offset + length));
    const kvm = await openKvmAsync(puppet, { architectures: [amd64] });
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
    expect(Buffer.compare(await kvm.read(kva, 300_000), sync.read(kva, 300_000))).toBe(0);
  });
});

describe('a source that throws', () => {
  it.each([true, false])('has its error passed on as it is (at once: %s)', async (atOnce) => {
    const problem = new TypeError('mine');
    for (const [, use] of USES) {
      const { puppet, kvm } = await opened();
      puppet.instead = () => {
        if (atOnce) throw problem;
        return Promise.reject(problem);
      };
      await expect(use(kvm)).rejects.toBe(problem);
      puppet.instead = undefined;
      await use(kvm);
    }
  });

  it('ends a long read at the first failure, with no more requests', async () => {
    const { puppet, kvm } = await opened({ concurrency: 2 });
    await kvm.read(kva, 0x400000);
    let asked = 0;
    puppet.instead = async () => {
      asked++;
      await Promise.resolve();
      throw new Error('gone');
    };
    await expect(kvm.read(BULK.big.kva - 0x400000n, 0x800000)).rejects.toThrow('gone');
    const seen = asked;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(asked).toBe(seen);
    expect(asked).toBeLessThanOrEqual(2);
  });

  it('is a Blob that was revoked', async () => {
    let there = true;
    const blob = new Blob([bytes]);
    const revocable = {
      size: blob.size,
      [Symbol.toStringTag]: 'Blob',
      slice: (from: number, to: number) => ({
        arrayBuffer: async () => {
          if (there) return blob.slice(from, to).arrayBuffer();
          throw new DOMException('The file could not be read', 'NotReadableError');
        },
      }),
    } as unknown as Blob;
    const kvm = await openKvmAsync(revocable, { architectures: [amd64], cacheBytes: 0 });
    for (const [, use] of USES) {
      there = false;
      const error = await caughtLater(() => use(kvm), 'IO');
      expect(error.message).toContain('could not be read');
      expect(error.hint).toMatch(/choose it again/);
      there = true;
      await use(kvm);
    }
  });
});

describe('a signal', () => {
  const never = (): Promise<never> => new Promise(() => undefined);

  it.each(USES)('ends %s, though the source does not heed it, and the reader goes on', async (_name, use) => {
    const { puppet, kvm } = await opened();
    puppet.instead = never;
    const controller = new AbortController();
    const { reads } = puppet;
    const running = caughtLater(() => use(kvm, controller.signal), 'ABORTED');
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(puppet.reads).toBeGreaterThan(reads);
    controller.abort('no more');
    expect((await running).cause).toBe('no more');
    puppet.instead = undefined;
    await use(kvm);
    expect(await kvm.readU64(kva)).toBe(sync.readU64(kva));
  });

  it.each(USES)('that is raised already ends %s before anything is asked', async (_name, use) => {
    const { puppet, kvm } = await opened();
    const { reads } = puppet;
    await caughtLater(() => use(kvm, AbortSignal.abort()), 'ABORTED');
    expect(puppet.reads).toBe(reads);
  });

  it.each(USES)('reaches the source of %s, whose own complaint is not the answer', async (_name, use) => {
    const { puppet, kvm } = await opened();
    let told = false;
    puppet.instead = (_offset, _length, signal) =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => {
          told = true;
          reject(new DOMException('stopped', 'AbortError'));
        });
      });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 5);
    await caughtLater(() => use(kvm, controller.signal), 'ABORTED');
    await Promise.resolve();
    expect(told).toBe(true);
  });

  it('ends the open, and another open goes on', async () => {
    const puppet = new Puppet();
    puppet.instead = never;
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 5);
    const options = { architectures: [amd64], signal: controller.signal };
    await caughtLater(() => openKvmAsync(puppet, options), 'ABORTED');
    puppet.instead = undefined;
    expect(await (await openKvmAsync(puppet, { architectures: [amd64] })).readU64(kva)).toBe(
      sync.readU64(kva),
    );
  });

  it('ends only the calls it was given to, though they wait for the same bytes', async () => {
    const { puppet, kvm } = await opened();
    const release: (() => void)[] = [];
    puppet.instead = async (offset, length, signal) => {
      await new Promise<void>((resolve, reject) => {
        release.push(resolve);
        signal?.addEventListener('abort', () => reject(new Error('stopped')));
      });
      return bytes.slice(offset, offset + length);
    };
    const controller = new AbortController();
    const far = kva + 0x300000n;
    const first = caughtLater(() => kvm.readU64(far, { signal: controller.signal }), 'ABORTED');
    const second = kvm.readU64(far);
    await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    await first;
    // One that comes right behind must not be handed the request that is being stopped.
    const third = kvm.readU64(far + 8n);
    const pump = setInterval(() => release.splice(0).forEach((go) => go()), 1);
    expect([await second, await third]).toEqual([sync.readU64(far), sync.readU64(far + 8n)]);
    clearInterval(pump);
  });

  it('that ends the only one who waits does not end who comes next', async () => {
    const { puppet, kvm } = await opened();
    let stopped = 0;
    puppet.instead = (offset, length, signal) =>
      new Promise((resolve, reject) => {
        signal?.addEventListener('abort', () => {
          stopped++;
          setTimeout(() => reject(new Error('stopped')), 5);
        });
        setTimeout(() => resolve(bytes.slice(offset, offset + length)), 20);
      });
    const controller = new AbortController();
    const far = kva + 0x300000n;
    const first = caughtLater(() => kvm.readU64(far, { signal: controller.signal }), 'ABORTED');
    await new Promise((resolve) => setTimeout(resolve, 2));
    controller.abort();
    const [, value] = await Promise.all([first, first.then(() => kvm.readU64(far))]);
    expect(stopped).toBeGreaterThan(0);
    expect(value).toBe(sync.readU64(far));
  });
});

describe('bytes in any shape', () => {
  const { machine, kernel, known } = sampleMachine();
  const core = amd64Minidump(machine).file.bytes();
  const shapes: readonly (readonly [string, (part: Uint8Array) => unknown])[] = [
    ['a Uint8Array', (part) => part],
    ['a part of a larger array', (part) => partOf(part)],
    ['an ArrayBuffer', (part) => part.slice().buffer],
    ['a DataView', (part) => new DataView(part.slice().buffer)],
    ['a Buffer', (part) => Buffer.from(part)],
    ['shared memory', (part) => shared(part)],
    ['a shared buffer', (part) => shared(part).buffer],
    ['bytes of another realm', (part) => foreign(part)],
    ['a buffer of another realm', (part) => foreign(part).buffer],
    ['a source', (part) => sourceOf(part)],
  ];

  it.each(shapes)('%s is a core, and a kernel, for both faces', async (_name, convert) => {
    const input = convert(core) as Uint8Array;
    const given = { architectures: [amd64], kernel: convert(kernel) as Uint8Array };
    const kvm = openKvm(input, given);
    expect(kvm.readU32(kvm.symbol('hz'))).toBe(known.hz);
    expect(kvm.readCString(kvm.symbol('version'))).toBe(known.version);
    expect(kvm.messageBuffer()?.text).toBe(known.messages);
    const late = await openKvmAsync(new Blob([core]), given);
    expect(await late.readU32(await late.symbol('hz'))).toBe(known.hz);
  });

  it('and what is none is refused by both', async () => {
    for (const input of [undefined, null, 7, 'vmcore.0', {}, [1, 2], { size: 5 }, { read: 5, size: 1 }]) {
      const bad = input as unknown as Blob;
      await caughtLater(() => openKvmAsync(bad, { architectures: [amd64] }), 'INVALID_ARGUMENT');
      if (input === undefined) continue;
      const options = { architectures: [amd64], kernel: bad };
      await caughtLater(() => openKvmAsync(new Blob([core]), options), 'INVALID_ARGUMENT');
    }
  });

  it('and options make sense, or are refused', async () => {
    for (const [field, values] of [
      ['concurrency', [0, -1, 1.5, NaN, Infinity, 65, '4']],
      ['blockBytes', [0, 511, 4096.5, NaN, 2 ** 23, '4096']],
      ['cacheBytes', [-1, NaN, Infinity, 2 ** 31 + 1]],
    ] as const) {
      for (const value of values) {
        const options = { architectures: [amd64], [field]: value } as OpenAsyncOptions;
        const error = await caughtLater(() => openKvmAsync(new Blob([core]), options), 'INVALID_ARGUMENT');
        expect(error.field).toBe(field);
      }
    }
  });

  it('and sources are closed with the core, those of the kernel too', async () => {
    const closed: string[] = [];
    const late = (name: string, part: Uint8Array): AsyncByteSource => ({
      size: part.length,
      read: async (offset, length) => part.slice(offset, offset + length),
      close: () => closed.push(name),
    });
    const kvm = await openKvmAsync(late('core', core), {
      architectures: [amd64],
      kernel: late('kernel', kernel),
    });
    kvm.close();
    expect(closed).toEqual(['core', 'kernel']);
  });
});

function shared(part: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(part.length));
  copy.set(part);
  return copy;
}

/** Bytes whose constructors are those of another global object. */
function foreign(part: Uint8Array): Uint8Array {
  const make = runInNewContext('(length) => new Uint8Array(length)') as (length: number) => Uint8Array;
  const copy = make(part.length);
  copy.set(part);
  expect(copy instanceof Uint8Array).toBe(false);
  return copy;
}

function partOf(part: Uint8Array): Uint8Array {
  const larger = new Uint8Array(part.length + 100).fill(0xee);
  larger.set(part, 51);
  return larger.subarray(51, 51 + part.length);
}

function sourceOf(part: Uint8Array): ByteSource {
  return {
    size: part.length,
    readSync(offset, target, at, length) {
      const piece = part.subarray(offset, offset + length);
      target.set(piece, at);
      return piece.length;
    },
  };
}

import { amd64 } from '@libkvm/arch-amd64';
import { Prng } from '@libkvm/fixtures';
import {
  isKvmError,
  toByteSource,
  type ByteSource,
  type KvmError,
  type KvmErrorCode,
} from '@libkvm/minidump-core';
import type { AsyncKvm } from '../../src/async-kvm.js';
import type { AsyncByteSource } from '../../src/async-source.js';
import { httpSource } from '../../src/http-source.js';
import type { Kvm } from '../../src/kvm.js';
import { openKvmAsync } from '../../src/open-async.js';
import { openKvm, type Bytes, type OpenOptions } from '../../src/open.js';
import { checkError } from './faults.js';
import { LONG } from './long.js';
import { RangeServer } from './range-server.js';

type Methods =
  | ('resolve' | 'read' | 'readInto' | 'readPartial' | 'readPhysical' | 'readPhysicalInto')
  | ('readU8' | 'readU16' | 'readU32' | 'readU64' | 'readPointer' | 'readCString')
  | ('pages' | 'search' | 'searchPhysical' | 'symbol' | 'messageBuffer' | 'checkMatch' | 'close' | 'core');

type Lookups = 'find' | 'address' | 'lookup' | 'at';

/** What is asked of an opened core, whichever of its faces is asked. */
export type Face = Pick<AsyncKvm, Methods> & { readonly symbols: Pick<AsyncKvm['symbols'], Lookups> };

export interface FaceOptions extends Omit<OpenOptions, 'kernel' | 'cacheBytes' | 'onClose' | 'unpack'> {
  readonly kernel?: Uint8Array;
}

/** A way to open a core. */
export interface FaceKind {
  readonly name: string;
  /** How many of the runs of a test it gets: a request over HTTP takes as long as a thousand reads of memory. */
  readonly share: number;
  open(input: Bytes, options: FaceOptions): Promise<Face>;
}

/** `Kvm`, from memory and through the smallest cache; `AsyncKvm` over a source that answers late and out of order; `AsyncKvm` over a local HTTP server. */
export const FACES: readonly FaceKind[] = [
  { name: 'Kvm', share: 0.6, open: async (input, options) => syncFace(openKvm(input, options)) },
  { name: 'Kvm through a cache', share: 0.4, open: openCached },
  { name: 'AsyncKvm', share: 0.4, open: openLate },
  { name: 'AsyncKvm over HTTP', share: 0.2, open: openHttp },
];

/** Runs of a property for a face: its share of so many, and 20 times as many in long tests. */
export function runsOf({ share }: FaceKind, count: number): { numRuns: number } {
  return { numRuns: Math.max(1, Math.round(count * share)) * (LONG ? 20 : 1) };
}

/** All that a walk or search gives. */
export async function listOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Opens an amd64 core on a face, with symbols by name and address where they are given. */
export function openAmd64On(
  face: FaceKind,
  input: Bytes,
  { symbols, ...options }: Partial<FaceOptions> & { symbols?: Readonly<Record<string, bigint>> } = {},
): Promise<Face> {
  return face.open(input, {
    ...{ architectures: [amd64], ...options },
    ...(symbols && { resolver: (name: string) => symbols[name] }),
  });
}

/** Runs what must fail, and gives the error back: see `caught`. */
export async function caughtLater(action: () => unknown, ...codes: KvmErrorCode[]): Promise<KvmError> {
  let result: unknown;
  try {
    result = await action();
  } catch (error) {
    if (!isKvmError(error, ...codes)) {
      const wanted = codes.join(' or ') || 'a KvmError';
      throw new Error(`expected ${wanted}, got ${String(error)}`, { cause: error });
    }
    checkError(error);
    return error;
  }
  throw new Error(`expected ${codes.join(' or ') || 'a KvmError'}, got ${String(result).slice(0, 80)}`);
}

/** An answer or an error, as data: for comparing faces. */
export async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return plain(await call());
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return error.toJSON();
  }
}

/** Bytes as text, which is quicker to compare; faults as data. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (isKvmError(value)) return value.toJSON();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

/** A core with the methods of `AsyncKvm`, answered by `Kvm`. */
export function syncFace(kvm: Kvm): Face {
  return {
    core: kvm.core,
    resolve: later((kva) => kvm.resolve(kva)),
    read: later((kva, length, options) => kvm.read(kva, length, options)),
    readInto: later((kva, target, options) => kvm.readInto(kva, target, options)),
    readPartial: later((kva, length) => kvm.readPartial(kva, length)),
    readPhysical: later((pa, length) => kvm.readPhysical(pa, length)),
    readPhysicalInto: later((pa, target) => kvm.readPhysicalInto(pa, target)),
    readU8: later((kva) => kvm.readU8(kva)),
    readU16: later((kva) => kvm.readU16(kva)),
    readU32: later((kva) => kvm.readU32(kva)),
    readU64: later((kva) => kvm.readU64(kva)),
    readPointer: later((kva) => kvm.readPointer(kva)),
    readCString: later((kva, maxLength) => kvm.readCString(kva, maxLength)),
    pages: (range) => walked(() => kvm.pages(range)),
    search: (needle, range) => walked(() => kvm.search(needle, range)),
    searchPhysical: (needle) => walked(() => kvm.searchPhysical(needle)),
    symbol: later((name) => kvm.symbol(name)),
    symbols: {
      find: later((name) => kvm.symbols.find(name)),
      address: later((name) => kvm.symbols.address(name)),
      lookup: later((name) => kvm.symbols.kernel?.symbols.lookup(name)),
      at: later((address) => kvm.symbols.at(address)),
    },
    messageBuffer: later(() => kvm.messageBuffer()),
    checkMatch: later(() => kvm.checkMatch()),
    close: () => kvm.close(),
  };
}

function later<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => Promise<R> {
  return async (...args) => call(...args);
}

async function* walked<T>(items: () => Iterable<T>): AsyncGenerator<T, void, undefined> {
  for (const item of items()) yield item;
}

/** Answers after a random number of turns of the event loop: requests end in another order than they were made. */
export class LateSource implements AsyncByteSource {
  readonly size: number;
  private readonly prng: Prng;

  constructor(
    private readonly source: ByteSource,
    seed: number,
  ) {
    this.size = source.size;
    this.prng = new Prng(seed);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    for (let turns = this.prng.below(4); turns > 0; turns--) {
      await (this.prng.chance(20) ? new Promise((resolve) => setImmediate(resolve)) : Promise.resolve());
    }
    const bytes = new Uint8Array(length);
    const got = this.source.readSync(offset, bytes, 0, length);
    return bytes.subarray(0, got);
  }
}

async function openCached(input: Bytes, options: FaceOptions): Promise<Face> {
  const source = toByteSource(input);
  // Not the source itself: bytes in memory are used in place, without a cache.
  const through: ByteSource = {
    size: source.size,
    readSync: (offset, target, at, length) => source.readSync(offset, target, at, length),
  };
  return syncFace(openKvm(through, { ...options, cacheBytes: 0 }));
}

const BLOCKS = [512, 4096, 4096, 20_000, 65536];
let opened = 0;

/** The smallest caches, and blocks of a few sizes. */
function openLate(input: Bytes, { kernel, ...options }: FaceOptions): Promise<Face> {
  const seed = ++opened;
  const late = (bytes: Bytes): LateSource => new LateSource(toByteSource(bytes), seed);
  return openKvmAsync(late(input), {
    ...{ ...options, cacheBytes: 0, blockBytes: BLOCKS[seed % BLOCKS.length], concurrency: 3 },
    ...(kernel && { kernel: late(kernel) }),
  });
}

let server: Promise<RangeServer> | undefined;

async function openHttp(input: Bytes, { kernel, ...options }: FaceOptions): Promise<Face> {
  const { add } = await (server ??= RangeServer.start());
  const remote = (bytes: Bytes): Promise<AsyncByteSource> =>
    httpSource(add(toByteSource(bytes)), { retryDelay: 1 });
  return openKvmAsync(await remote(input), { ...options, ...(kernel && { kernel: await remote(kernel) }) });
}

import { amd64 } from '@libkvm/arch-amd64';
import { arm } from '@libkvm/arch-arm';
import { arm64 } from '@libkvm/arch-arm64';
import { i386 } from '@libkvm/arch-i386';
import { httpSource, openKvm, openKvmAsync, type AsyncKvm, type Kvm } from '@libkvm/kvm-reader';
import { dumpSourceOf, isKvmError, planPortable, writeDump, type ImageOptions } from '@libkvm/minidump-core';

/**
 * What is asked of a core in a browser and in Node: one program, bundled from the packages' neutral entries as they are
 * published, that runs in both. Answers are plain data.
 */

/** A core to ask, as JSON: bigints as hex strings. */
export interface BrowserCase {
  readonly name: string;
  readonly core: string;
  readonly kernel?: string;
  readonly raw?: readonly { readonly pa: number; readonly offset: number; readonly length: number }[];
  readonly image?: Omit<ImageOptions, 'registers'> & {
    readonly registers?: Readonly<Record<string, string>>;
  };
  readonly probes: readonly string[];
  readonly symbols: readonly string[];
}

/** Answers by the way the core was opened. */
export type Answers = Readonly<Record<string, unknown>>;

const architectures = [amd64, arm, arm64, i386];
const ROWS = 400;

/** Opens a core from a Blob, a File, HTTP ranges and memory, writes a portable dump of it to a Blob, and asks them all. */
export async function answersInBrowser(one: BrowserCase, base: string): Promise<Answers> {
  const url = (path: string): string => new URL(path, base).href;
  const bytes = new Uint8Array(await (await fetch(url(one.core))).arrayBuffer());
  const kernel = one.kernel && new Uint8Array(await (await fetch(url(one.kernel))).arrayBuffer());
  const options = optionsOf(one);
  const blob = new Blob([bytes]);
  const kernelBlob = kernel ? { kernel: new Blob([kernel]) } : {};
  const remoteKernel = one.kernel ? { kernel: await httpSource(url(one.kernel)) } : {};
  const memory = openKvm(bytes, { ...options, ...(kernel && { kernel }) });
  return {
    memory: await answersOf(memory, one),
    blob: await answersOf(await openKvmAsync(blob, { ...options, ...kernelBlob }), one),
    file: await answersOf(
      await openKvmAsync(new File([blob], 'vmcore.0'), { ...options, ...kernelBlob }),
      one,
    ),
    http: await answersOf(
      await openKvmAsync(await httpSource(url(one.core)), { ...options, ...remoteKernel }),
      one,
    ),
    portable: await answersOf(
      await openKvmAsync(await portableBlob(memory), { architectures: [] }),
      withoutImage(one),
    ),
  };
}

/** The same answers from `Kvm` over bytes in memory. */
export async function expectedAnswers(
  one: BrowserCase,
  bytes: Uint8Array,
  kernel?: Uint8Array,
): Promise<Answers> {
  const memory = openKvm(bytes, { ...optionsOf(one), ...(kernel && { kernel }) });
  const core = await answersOf(memory, one);
  const written = new Uint8Array(await (await portableBlob(memory)).arrayBuffer());
  const portable = await answersOf(openKvm(written, { architectures: [] }), withoutImage(one));
  return { memory: core, blob: core, file: core, http: core, portable };
}

/** What of Node a page must not have: the bundle would else prove nothing. */
export function shims(): string[] {
  return ['Buffer', 'process', 'global', 'require', 'setImmediate'].filter((name) => name in globalThis);
}

function optionsOf({ raw, image }: BrowserCase): { architectures: typeof architectures } {
  const registers = Object.entries(image?.registers ?? {}).map(([name, value]) => [name, BigInt(value)]);
  return {
    architectures,
    ...(raw && { raw }),
    ...(image && { image: { ...image, registers: Object.fromEntries(registers) as Record<string, bigint> } }),
  };
}

function withoutImage({ name, core, probes }: BrowserCase): BrowserCase {
  return { name, core, probes, symbols: [] };
}

/** Writes a portable minidump to a Blob, piece by piece. */
async function portableBlob(kvm: Kvm): Promise<Blob> {
  const parts: BlobPart[] = [];
  const plan = planPortable(dumpSourceOf(kvm.core), { tolerateDamage: true });
  // Pieces change after the call: a Blob copies them.
  await writeDump(plan, { write: (piece) => void parts.push(new Blob([piece.slice()])) });
  return new Blob(parts);
}

async function answersOf(kvm: Kvm | AsyncKvm, { probes, symbols }: BrowserCase): Promise<unknown> {
  const { format, architecture, bits, byteOrder, sections, warnings, memory } = kvm.core;
  const asked = [];
  for (const probe of probes.map(BigInt)) {
    asked.push([
      await outcome(() => kvm.resolve(probe)),
      await outcome(() => kvm.readPartial(probe, 5000)),
      await outcome(() => kvm.readU64(probe)),
    ]);
  }
  const first = BigInt(probes[0] ?? 0);
  return plain({
    ...{ format, architecture, bits, byteOrder, sections, warnings, pages: memory.pages },
    asked,
    symbols: await Promise.all(symbols.map((name) => outcome(() => kvm.symbol(name)))),
    match: (await kvm.checkMatch()).verdict,
    messages: (await kvm.messageBuffer())?.text,
    padded: await outcome(() => kvm.read(first, 200_000, { pad: true })),
    long: await outcome(() => kvm.read(first, 200_000)),
    rows: await startOf(kvm.pages(), ROWS),
    found: await startOf(kvm.searchPhysical('FreeBSD'), 20),
  });
}

async function startOf<T>(items: AsyncIterable<T> | Iterable<T>, count: number): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) if (found.push(item) === count) break;
  return found;
}

async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return plain(await call());
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return plain(error);
  }
}

/** As JSON can hold it: bytes by their number and a hash (FNV-1a), bigints as hex. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (isKvmError(value)) return value.toJSON();
  if (value instanceof Uint8Array) {
    let hash = 0x811c9dc5;
    for (const byte of value) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    return `${value.length} bytes ${hash.toString(16)}`;
  }
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

import { isKvmError } from '@libkvm/minidump-core';
import type { KernelFile } from './kernel-file.js';
import type { Kvm } from './kvm.js';

/** Whether a kernel file and a core belong together. */
export interface MatchReport {
  readonly verdict: 'match' | 'mismatch' | 'unknown';
  readonly reason: string;
}

/** Bytes of the kernel's version string that are compared. */
const VERSION_BYTES = 256;
/** Pieces of read-only parts that are compared, and their bytes. */
const SAMPLES = 64;
const SAMPLE_BYTES = 64;

/**
 * See `Kvm.checkMatch`. Compared are the linker's build id, where the kernel has it in memory, and the `version` string
 * (sys/conf/newvers.sh); where neither says anything, code and constants, which running kernels hardly patch.
 */
export function checkMatch(kvm: Kvm): MatchReport {
  const { kernel } = kvm.symbols;
  if (kernel === undefined) return unknown('no kernel file was given');
  const names = [byBuildId(kvm, kernel), byVersion(kvm, kernel)];
  const told =
    names.find(({ verdict }) => verdict === 'mismatch') ?? names.find(({ verdict }) => verdict === 'match');
  if (told) return told;
  const parts = byReadOnlyParts(kvm, kernel);
  return parts.verdict === 'unknown'
    ? unknown([...names, parts].map(({ reason }) => reason).join('; '))
    : parts;
}

function byBuildId(kvm: Kvm, kernel: KernelFile): MatchReport {
  const note = kernel.buildIdNote;
  if (note?.address === undefined) return unknown('the kernel file has no build id that is loaded');
  const found = inCore(kvm, note.address, note.id.length / 2);
  if (typeof found === 'string') return unknown(`the core does not hold the build id: ${found}`);
  const id = Array.from(found, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return id === note.id
    ? { verdict: 'match', reason: `both have the build id ${id}` }
    : { verdict: 'mismatch', reason: `the kernel file has the build id ${note.id}, the core ${id}` };
}

function byVersion(kvm: Kvm, kernel: KernelFile): MatchReport {
  const symbol = kernel.symbols.lookup('version');
  if (symbol === undefined) return unknown('the kernel file has no symbol version');
  const expected = versionInFile(kernel, symbol.value);
  if (expected.length === 0) return unknown('the kernel file does not hold its version string');
  const found = inCore(kvm, symbol.value, expected.length);
  if (typeof found === 'string') return unknown(`the core does not hold the version string: ${found}`);
  if (same(found, expected)) return { verdict: 'match', reason: `both say ${firstLine(expected)}` };
  return {
    verdict: 'mismatch',
    reason: `the kernel file says ${firstLine(expected)}, the core ${firstLine(found)}`,
  };
}

/** Three in four pieces the same, or three in four different: between them nothing is said. */
function byReadOnlyParts(kvm: Kvm, kernel: KernelFile): MatchReport {
  let equal = 0;
  let different = 0;
  for (const address of samples(kernel)) {
    const expected = kernel.readAt(address, SAMPLE_BYTES);
    // Zeros are everywhere.
    if (expected === undefined || expected.every((byte) => byte === 0)) continue;
    const found = inCore(kvm, address, expected.length);
    if (typeof found === 'string') continue;
    if (same(found, expected)) equal++;
    else different++;
  }
  const count = equal + different;
  if (count === 0) return unknown('no code or constants are in both the kernel file and the core');
  const reason = `of ${count} pieces of code and constants ${equal} are the same in both`;
  const verdict = equal * 4 >= count * 3 ? 'match' : different * 4 >= count * 3 ? 'mismatch' : 'unknown';
  return { verdict, reason };
}

/** Addresses spread over the read-only parts. */
function* samples({ readOnlyParts }: KernelFile): Generator<bigint, void, undefined> {
  const total = readOnlyParts.reduce((sum, { length }) => sum + length, 0);
  const step = Math.max(SAMPLE_BYTES, Math.floor(total / SAMPLES));
  let from = 0;
  for (const { address, length } of readOnlyParts) {
    const first = Math.ceil(from / step) * step - from;
    for (let at = first; at < length; at += step) yield address + BigInt(at);
    from += length;
  }
}

/** Bytes of the core, or why it does not have them. */
function inCore(kvm: Kvm, address: bigint, length: number): Uint8Array | string {
  try {
    return kvm.read(address, length);
  } catch (error) {
    if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED', 'TRUNCATED', 'NOT_CANONICAL', 'UNSUPPORTED'))
      throw error;
    return error.message;
  }
}

function unknown(reason: string): MatchReport {
  return { verdict: 'unknown', reason };
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The string's bytes, with the NUL that ends it: without it, every longer string would be the same. */
function versionInFile(kernel: KernelFile, address: bigint): Uint8Array {
  const bytes = kernel.readAt(address, VERSION_BYTES) ?? new Uint8Array(0);
  const end = bytes.indexOf(0);
  return bytes.subarray(0, end < 0 ? bytes.length : end > 0 ? end + 1 : 0);
}

function firstLine(version: Uint8Array): string {
  const end = version.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? version : version.subarray(0, end));
  return JSON.stringify(text.split('\n', 1)[0]);
}

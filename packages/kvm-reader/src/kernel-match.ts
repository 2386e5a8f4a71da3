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

/** See `Kvm.checkMatch`: compares the `version` string (sys/conf/newvers.sh) of the kernel file with that in the core. */
export function checkMatch(kvm: Kvm): MatchReport {
  const { kernel } = kvm.symbols;
  if (kernel === undefined) return { verdict: 'unknown', reason: 'no kernel file was given' };
  const symbol = kernel.symbols.lookup('version');
  if (symbol === undefined) return { verdict: 'unknown', reason: 'the kernel file has no symbol version' };
  const expected = versionInFile(kernel, symbol.value);
  if (expected.length === 0)
    return { verdict: 'unknown', reason: 'the kernel file does not hold its version string' };
  let found: Uint8Array;
  try {
    found = kvm.read(symbol.value, expected.length);
  } catch (error) {
    if (!isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED', 'TRUNCATED', 'NOT_CANONICAL', 'UNSUPPORTED'))
      throw error;
    return { verdict: 'unknown', reason: `the core does not hold the version string: ${error.message}` };
  }
  if (found.every((byte, i) => byte === expected[i])) {
    return { verdict: 'match', reason: `both say ${firstLine(expected)}` };
  }
  return {
    verdict: 'mismatch',
    reason: `the kernel file says ${firstLine(expected)}, the core ${firstLine(found)}`,
  };
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

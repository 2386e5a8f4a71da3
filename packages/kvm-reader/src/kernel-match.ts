import { isKvmError, latin1 } from '@libkvm/minidump-core';
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
  if (expected === '')
    return { verdict: 'unknown', reason: 'the kernel file does not hold its version string' };
  let found: string;
  try {
    found = kvm.readCString(symbol.value, expected.length);
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return { verdict: 'unknown', reason: `the core does not hold the version string: ${error.message}` };
  }
  if (found === expected) return { verdict: 'match', reason: `both say ${firstLine(expected)}` };
  return {
    verdict: 'mismatch',
    reason: `the kernel file says ${firstLine(expected)}, the core ${firstLine(found)}`,
  };
}

function versionInFile(kernel: KernelFile, address: bigint): string {
  const bytes = kernel.readAt(address, VERSION_BYTES);
  return bytes === undefined ? '' : latin1(bytes);
}

function firstLine(text: string): string {
  return JSON.stringify(text.split('\n', 1)[0]);
}

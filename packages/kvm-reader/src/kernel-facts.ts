import { isKvmError } from '@libkvm/minidump-core';
import type { MatchReport } from './kernel-match.js';
import type { Kvm } from './kvm.js';

/** What a kernel file tells of itself and of the machine in the core; what cannot be read is left out. */
export interface KernelFacts extends MatchReport {
  readonly buildId?: string;
  /** The string `version` (sys/conf/newvers.sh), e.g. `FreeBSD 14.1-RELEASE ...`. */
  readonly version?: string;
  /** The string `osrelease`, e.g. `14.1-RELEASE`. */
  readonly osrelease?: string;
  /** The string that `panicstr` points to (sys/kern/kern_shutdown.c); null when the kernel had not panicked. */
  readonly panic?: string | null;
}

/** No string that is asked for here is longer in any kernel. */
const MAX_STRING = 1024;

/** Reads what a kernel file and its core tell; undefined without a kernel file. */
export function kernelFacts(kvm: Kvm): KernelFacts | undefined {
  const { kernel } = kvm.symbols;
  if (kernel === undefined) return undefined;
  const version = stringAt(kvm, 'version');
  const osrelease = stringAt(kvm, 'osrelease');
  const panic = panicString(kvm);
  return {
    ...kvm.checkMatch(),
    ...(kernel.buildId !== undefined && { buildId: kernel.buildId }),
    ...(version !== undefined && { version }),
    ...(osrelease !== undefined && { osrelease }),
    ...(panic !== undefined && { panic }),
  };
}

/** What the kernel tells, as the notes of a dump for readers that will not have the kernel. */
export function kernelNotes(kvm: Kvm): Record<string, string> {
  const facts = kernelFacts(kvm);
  return {
    ...(facts?.version !== undefined && { kernelVersion: facts.version }),
    ...(typeof facts?.panic === 'string' && { panic: facts.panic }),
    ...(facts?.buildId !== undefined && { buildId: facts.buildId }),
  };
}

function panicString(kvm: Kvm): string | null | undefined {
  const panicstr = kvm.symbols.find('panicstr');
  if (panicstr === undefined) return undefined;
  return attempt(() => {
    const pointer = kvm.readPointer(panicstr);
    return pointer === 0n ? null : kvm.readCString(pointer, MAX_STRING);
  });
}

function stringAt(kvm: Kvm, symbol: string): string | undefined {
  const address = kvm.symbols.find(symbol);
  const text = address === undefined ? undefined : attempt(() => kvm.readCString(address, MAX_STRING));
  return text === '' ? undefined : text;
}

/** A fact that the core does not hold is no error here. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isKvmError(error)) return undefined;
    throw error;
  }
}

import {
  KvmError,
  MemorySource,
  dumpSourceOf,
  freebsdDumpFormat,
  portableDumpFormat,
  type Architecture,
  type DumpFormat,
  type DumpOptions,
  type DumpPlan,
  type DumpSource,
  type MachineFacts,
} from '@libkvm/minidump-core';
import { elfDumpFormat, elfKvaDumpFormat } from './elf-dump-formats.js';
import { kernelNotes } from './kernel-facts.js';
import type { Kvm } from './kvm.js';

/** The formats of this package that can be written. */
export const dumpFormats: readonly DumpFormat[] = [
  portableDumpFormat,
  freebsdDumpFormat,
  elfDumpFormat,
  elfKvaDumpFormat,
];

/** How an opened core is converted. */
export interface ConvertOptions extends DumpOptions {
  /** Name of the format to write: `portable` unless given. */
  readonly format?: string;
  /** Formats beside {@link dumpFormats}. */
  readonly formats?: readonly DumpFormat[];
  /** The architectures whose dialects can be written. */
  readonly architectures: readonly Architecture[];
  /** The message buffer's text to put in, oldest byte first, instead of that of the core. */
  readonly messageBuffer?: Uint8Array;
  /** Facts to use beside or instead of those of the core: a direct map, a kernbase. */
  readonly machine?: Partial<MachineFacts>;
}

/**
 * Plans a core anew in a format: converting is opening, planning, writing. Pages that the source lacks are left out and
 * counted in the report, never filled.
 *
 * @throws KvmError `UNSUPPORTED` when the format is not known or cannot hold the core, `INVALID_ARGUMENT` when the core
 *   has no address space and the format needs one, `CORRUPT`
 * @example
 * const kvm = openKvmFile('vmcore.0');
 * const plan = planConversion(kvm, { format: 'portable', architectures: defaultArchitectures });
 * await writeDumpFile(plan, 'vmcore.0.portable');
 */
export function planConversion(kvm: Kvm, options: ConvertOptions): DumpPlan {
  const { format: name = 'portable', formats = [], architectures } = options;
  const known = [...formats, ...dumpFormats];
  const format = known.find((candidate) => candidate.name === name);
  if (format === undefined) {
    throw new KvmError('UNSUPPORTED', `no format ${name} that can be written`, {
      field: 'format',
      hint: `formats that can be written: ${known.map((one) => one.name).join(', ')}`,
    });
  }
  if (format.needsTables && kvm.core.addressSpace === undefined) throw noTables(kvm);
  const chosen = { ...options, pages: options.pages ?? defaultPages(kvm) };
  return format.plan(dumpSourceOfKvm(kvm, options), chosen, architectures);
}

/** Of a memory image those pages that are mapped; of a dump all, for it holds what somebody chose. */
function defaultPages({ core }: Kvm): 'mapped' | 'all' {
  return core.format === 'elf' || core.format === 'raw' ? 'mapped' : 'all';
}

/** An opened core with all that its kernel tells of it, as the source of a dump. */
export function dumpSourceOfKvm(
  kvm: Kvm,
  { messageBuffer, machine }: Pick<ConvertOptions, 'messageBuffer' | 'machine'> = {},
): DumpSource {
  const source = dumpSourceOf(kvm.core, machine);
  const notes = { ...kvm.core.notes, ...kernelNotes(kvm) };
  const found = messageBuffer ? { ring: messageBuffer, start: 0 } : kvm.messageBuffer();
  return {
    ...source,
    notes,
    ...(found && { messageBuffer: { ring: new MemorySource(found.ring), start: found.start } }),
  };
}

function noTables({ core }: Kvm): KvmError {
  return new KvmError('INVALID_ARGUMENT', `the page tables of this ${core.format} core are not known`, {
    field: 'registers',
    hint:
      'give the kernel file (--kernel) of a FreeBSD full dump, or the registers of a processor: ' +
      '--arch amd64 --reg CR3=…; --arch arm --reg TTBR0=… --reg TTBCR=…',
  });
}

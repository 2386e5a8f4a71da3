import type { Architecture } from './architecture.js';
import { planPortable, type DumpPlan, type PlanOptions } from './dump-plan.js';
import type { DumpSource } from './dump-source.js';
import { KvmError } from './errors.js';
import { planMinidump, type MinidumpOptions } from './minidump-plan.js';

/** What may be chosen of a dump in any format; each format takes what concerns it. */
export interface DumpOptions extends PlanOptions, MinidumpOptions {}

/** A format that dumps can be written in. Converters are given a list of them, as readers are of core formats. */
export interface DumpFormat {
  /** As the command line has it: `portable`, `freebsd`, ... */
  readonly name: string;
  /** Whether it describes an address space: sources without one are refused. */
  readonly needsTables: boolean;
  /**
   * Plans a dump of a source.
   *
   * @throws KvmError `UNSUPPORTED` when the format cannot hold it, `INVALID_ARGUMENT`
   */
  plan(source: DumpSource, options: DumpOptions, architectures: readonly Architecture[]): DumpPlan;
}

/** The portable minidump: holds what every source knows. */
export const portableDumpFormat: DumpFormat = {
  name: 'portable',
  needsTables: true,
  plan(source, options) {
    const { version = 1 } = options;
    if (version === 1) return planPortable(source, options);
    throw new KvmError('UNSUPPORTED', `portable minidumps have no version ${version}`, {
      field: 'version',
      hint: 'known is 1',
    });
  },
};

/** The minidump that FreeBSD's kernel of the source's architecture writes. */
export const freebsdDumpFormat: DumpFormat = {
  name: 'freebsd',
  needsTables: true,
  plan(source, options, architectures) {
    const { architecture: name } = source.machine;
    const architecture = architectures.find((candidate) => candidate.name === name);
    const dialect = architecture?.dialects.find(({ writer }) => writer !== undefined);
    if (dialect) return planMinidump(source, dialect, options);
    const writable = architectures.filter(({ dialects }) => dialects.some(({ writer }) => writer));
    throw new KvmError('UNSUPPORTED', `FreeBSD minidumps of ${name} cannot be written`, {
      field: 'architecture',
      hint: `they can of ${writable.map((one) => one.name).join(', ')}; the portable format holds any architecture`,
    });
  },
};

import type { Crc32, DumpPlan } from '@libkvm/minidump-core';
import { roundUp, writeKernelDumpHeader, type DumpHeaderFacts } from './kernel-dump-header.js';
import { DUMP_HEADER_BYTES } from './kernel-dump-structs.js';

/** What the headers of a planned dump say; its length is the plan's own. */
export type PlannedHeaderFacts = Partial<Omit<DumpHeaderFacts, 'dumpLength' | 'dumpExtent' | 'compression'>>;

/** MACHINE_ARCH of FreeBSD where it is not the name used here. */
const MACHINE_ARCH: Readonly<Record<string, string>> = { arm64: 'aarch64', arm: 'armv7' };

/** FreeBSD's MACHINE_ARCH for the name of an architecture here, as dump headers have it. */
export function machineArch(architecture: string): string {
  return MACHINE_ARCH[architecture] ?? architecture;
}

/**
 * A planned dump as a kernel leaves it at the end of a dump device: a header of version 4, the dump in whole blocks, and
 * the same header once more (dump_start and dump_finish of sys/kern/kern_shutdown.c). savecore(8) finds it where these
 * are the last bytes of a device or of a file.
 *
 * @throws KvmError `INVALID_ARGUMENT` as `writeKernelDumpHeader`
 * @example
 * await writeDumpFile(withDumpHeader(plan, { hostname: 'crash', panicString: 'page fault' }), 'dump.device');
 */
export function withDumpHeader(plan: DumpPlan, facts: PlannedHeaderFacts = {}): DumpPlan {
  const { blockSize = DUMP_HEADER_BYTES } = facts;
  const architecture = machineArch(plan.report.architecture);
  const header = writeKernelDumpHeader({ architecture, ...facts, dumpLength: plan.size });
  const block = new Uint8Array(blockSize);
  block.set(header);
  const extent = roundUp(plan.size, blockSize);
  const size = extent + 2 * blockSize;
  const { report } = plan;
  const pageBytes = report.size - report.metadataBytes;
  return {
    size,
    sections: [
      { name: 'dumpHeader', offset: 0, length: DUMP_HEADER_BYTES },
      ...plan.sections.map((section) => ({ ...section, offset: section.offset + blockSize })),
      { name: 'dumpTrailer', offset: blockSize + extent, length: DUMP_HEADER_BYTES },
    ],
    report: {
      ...report,
      size,
      metadataBytes: size - pageBytes,
      metadataShare: (size - pageBytes) / size,
    },
    *bytes(crc32?: Crc32) {
      yield block;
      yield* plan.bytes(crc32);
      if (extent > plan.size) yield new Uint8Array(extent - plan.size);
      yield block;
    },
  };
}

import type { DumpPlan } from '@libkvm/minidump-core';
import {
  formatInfo,
  kernelNotes,
  machineArch,
  planConversion,
  withDumpHeader,
  type ConvertOptions,
  type Kvm,
  type PlannedHeaderFacts,
} from '@libkvm/kvm-reader';
import { FileSink, writeDumpFile } from '@libkvm/kvm-reader/node';
import { Progress } from './progress.js';
import { reportSheet } from './report-sheet.js';
import type { Session } from './session.js';

/** What is written beside the dump, or around it. */
export interface Wrapping {
  /** A kernel dump header in front and behind. */
  readonly dumpHeader?: boolean;
  /** Path of the text that savecore(8) writes beside a core. */
  readonly info?: string;
}

/** Plans an opened core in another format, writes it, and prints the report. */
export async function writeDump(
  session: Session,
  kvm: Kvm,
  out: string,
  options: ConvertOptions,
  { dumpHeader = false, info }: Wrapping = {},
): Promise<void> {
  const bare = planConversion(kvm, options);
  const facts = headerFacts(kvm);
  const plan = dumpHeader ? withDumpHeader(bare, facts) : bare;
  await write(session, plan, out);
  if (info !== undefined) await writeInfo(info, bare, facts);
  if (session.json) session.out.json({ ...plan.report, file: out });
  else session.out.write(reportSheet(out, plan.report));
}

/** What the core and its kernel tell, for a dump header. */
function headerFacts(kvm: Kvm): PlannedHeaderFacts {
  const { dumpHeader, info, notes } = kvm.core;
  const known = dumpHeader ?? info;
  const { panic, kernelVersion } = { ...notes, ...kernelNotes(kvm) };
  const time = known?.dumpTime ?? Date.parse(notes?.time ?? '') / 1000;
  return {
    ...(known?.architecture !== undefined && { architecture: known.architecture }),
    ...(known?.hostname !== undefined && { hostname: known.hostname }),
    ...(kernelVersion !== undefined && { versionString: kernelVersion }),
    ...(panic !== undefined && { panicString: panic }),
    ...(Number.isFinite(time) && { dumpTime: time }),
  };
}

async function writeInfo(path: string, plan: DumpPlan, facts: PlannedHeaderFacts): Promise<void> {
  const architecture = machineArch(plan.report.architecture);
  const text = formatInfo({ architecture, ...facts, dumpLength: plan.size });
  const sink = new FileSink(path);
  await sink.write(new TextEncoder().encode(text));
  await sink.commit();
}

/** Ctrl-C and a polite kill cancel the write, so that nothing half-written stays behind. */
async function write(session: Session, plan: DumpPlan, out: string): Promise<void> {
  const progress = new Progress(session, 'writing', plan.size);
  const controller = new AbortController();
  const cancel = (): void => controller.abort();
  process.once('SIGINT', cancel);
  process.once('SIGTERM', cancel);
  try {
    await writeDumpFile(plan, out, {
      signal: controller.signal,
      onProgress: (done) => progress.update(done),
    });
  } finally {
    process.removeListener('SIGINT', cancel);
    process.removeListener('SIGTERM', cancel);
    progress.stop();
  }
}

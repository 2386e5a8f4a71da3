import type { DumpPlan } from '@libkvm/minidump-core';
import { planConversion, type ConvertOptions, type Kvm } from '@libkvm/kvm-reader';
import { writeDumpFile } from '@libkvm/kvm-reader/node';
import { Progress } from './progress.js';
import { reportSheet } from './report-sheet.js';
import type { Session } from './session.js';

/** Plans an opened core in another format, writes it, and prints the report. */
export async function writeDump(
  session: Session,
  kvm: Kvm,
  out: string,
  options: ConvertOptions,
): Promise<void> {
  const plan = planConversion(kvm, options);
  await write(session, plan, out);
  if (session.json) session.out.json({ ...plan.report, file: out });
  else session.out.write(reportSheet(out, plan.report));
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

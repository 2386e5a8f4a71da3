import { readFileSync } from 'node:fs';
import {
  KvmError,
  MemorySource,
  dumpSourceOf,
  planPortable,
  type DumpPlan,
  type DumpReport,
  type DumpSource,
  type PlanOptions,
} from '@libkvm/minidump-core';
import type { Kvm } from '@libkvm/kvm-reader';
import { writeDumpFile } from '@libkvm/kvm-reader/node';
import { Option, type Command } from 'commander';
import { parseSize, parseWindow } from '../arguments.js';
import { describe } from '../describe.js';
import { usage } from '../errors.js';
import { kernelFacts } from '../kernel-facts.js';
import { addCoreOptions, collect, withCore, type CoreOptions } from '../open.js';
import { Progress } from '../progress.js';
import { reportSheet } from '../report-sheet.js';
import type { Session } from '../session.js';

interface CreateOptions extends CoreOptions {
  readonly kva?: string;
  readonly format: string;
  readonly dumpVersion?: string;
  readonly addPage?: readonly string[];
  readonly dropPage?: readonly string[];
  readonly msgbuf?: string;
  readonly run: boolean;
  readonly exact?: boolean;
  readonly tolerateDamage?: boolean;
  readonly json?: boolean;
}

/** `vmcore create`. */
export function addCreate(program: Command, session: Session): void {
  const command = program
    .command('create')
    .summary('memory image -> minidump')
    .description(
      'Makes a minidump from a memory image: walks its page tables, decides which pages go in, and writes them. The ' +
        'file appears under its name only when it is whole.',
    )
    .argument('<image>', 'memory image: an ELF core with physical segments, or raw memory with --base')
    .argument('<out>', 'file to write')
    .option('--kva <from-to>', 'only mappings in this window of KVAs; either end may be left out')
    .option('--format <name>', 'format to write: portable', 'portable')
    .option('--dump-version <n>', 'version of the format (portable: 1)')
    .addOption(
      new Option('--add-page <pa>', 'put this page in, mapped or not (repeatable)')
        .argParser(collect)
        .default(undefined),
    )
    .addOption(
      new Option('--drop-page <pa>', 'leave this page out (repeatable)')
        .argParser(collect)
        .default(undefined),
    )
    .option('--msgbuf <file>', 'the message buffer to put in: its text, oldest first')
    .option('--no-run', 'one leaf for every granule (FLAT) instead of one for a whole run')
    .option('--exact', 'keep the exact page-table entries')
    .option('--tolerate-damage', 'go on when page tables are too damaged to be trusted')
    .option('--json', 'print the report as JSON, one object');
  addCoreOptions(command).action(async (image: string, out: string, options: CreateOptions) => {
    const plan = planOptions(options);
    await withCore(session, image, options, (kvm) => create(session, kvm, out, options, plan));
  });
  describe(command, {
    json: `One object: \`format\`, \`architecture\`, \`size\`, \`pages\`, \`mappings\`, \`mappedBytes\`, \`added\`,
\`dropped:{outsideRam,absent,byHand}\`, \`damage:{tablesAbsent,tablesTruncated,loops,unsupportedEntries}\`,
\`metadataBytes\`, \`metadataShare\`, \`tables:{segments,leaves,bytes,flatBytes}\`, \`losses\`, \`file\`.`,
    examples: [
      'vmcore create guest.elf guest.minidump',
      'vmcore create ram.bin out --base 0x40000000 --arch arm --reg TTBR0=0x40004000 --reg TTBCR=0',
      'vmcore create guest.elf out --kva 0xffffffff80000000- --add-page 0x1000 --exact',
    ],
  });
}

function planOptions({ kva, addPage, dropPage, run, exact, tolerateDamage }: CreateOptions): PlanOptions {
  const pages = (list: readonly string[] | undefined, what: string): number[] | undefined =>
    list?.map((text) => usage(() => parseSize(text, what)));
  const add = pages(addPage, '--add-page');
  const drop = pages(dropPage, '--drop-page');
  return {
    ...(kva !== undefined && usage(() => parseWindow(kva))),
    ...(add && { addPages: add }),
    ...(drop && { dropPages: drop }),
    run,
    exact: exact === true,
    tolerateDamage: tolerateDamage === true,
  };
}

async function create(
  session: Session,
  kvm: Kvm,
  out: string,
  options: CreateOptions,
  planning: PlanOptions,
): Promise<void> {
  checkFormat(options);
  if (kvm.core.addressSpace === undefined) throw noTables();
  const plan = planPortable(sourceOf(kvm, options), planning);
  await write(session, plan, out);
  const report: DumpReport = plan.report;
  if (session.json) session.out.json({ ...report, file: out });
  else session.out.write(reportSheet(out, report));
}

function sourceOf(kvm: Kvm, { msgbuf }: CreateOptions): DumpSource {
  const source = { ...dumpSourceOf(kvm.core), notes: { ...kvm.core.notes, ...kernelNotes(kvm) } };
  if (msgbuf !== undefined) return withRing(source, readFileSync(msgbuf), 0);
  const found = kvm.messageBuffer();
  return found === undefined ? source : withRing(source, found.ring, found.start);
}

function withRing(source: DumpSource, ring: Uint8Array, start: number): DumpSource {
  return { ...source, messageBuffer: { ring: new MemorySource(ring), start } };
}

/** What the kernel tells, for readers that will not have it. */
function kernelNotes(kvm: Kvm): Record<string, string> {
  const facts = kernelFacts(kvm);
  return {
    ...(facts?.version !== undefined && { kernelVersion: facts.version }),
    ...(typeof facts?.panic === 'string' && { panic: facts.panic }),
    ...(facts?.buildId !== undefined && { buildId: facts.buildId }),
  };
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

function checkFormat({ format, dumpVersion }: CreateOptions): void {
  if (format !== 'portable') {
    throw new KvmError('UNSUPPORTED', `${format} cannot be written`, {
      field: 'format',
      hint: 'formats that can be written: portable',
    });
  }
  if (dumpVersion === undefined || dumpVersion === '1') return;
  throw new KvmError('UNSUPPORTED', `portable minidumps have no version ${dumpVersion}`, {
    field: 'dump-version',
    hint: 'known is 1',
  });
}

function noTables(): KvmError {
  return new KvmError('INVALID_ARGUMENT', 'the page tables of this image are not known', {
    field: 'reg',
    hint: 'give the registers of a processor: --arch amd64 --reg CR3=…; --arch arm --reg TTBR0=… --reg TTBCR=…',
  });
}

import { readFileSync } from 'node:fs';
import type { MachineFacts } from '@libkvm/minidump-core';
import { dumpFormats, type ConvertOptions } from '@libkvm/kvm-reader';
import { defaultArchitectures } from '@libkvm/kvm-reader/node';
import { Option, type Command } from 'commander';
import { parseAddress, parseCount, parsePhysical, parseWindow } from './arguments.js';
import { usage, UsageError } from './errors.js';
import { addCoreOptions, collect, type CoreOptions } from './open.js';

/** The options of the commands that write a dump. */
export interface DumpCommandOptions extends CoreOptions {
  readonly kva?: string;
  readonly format: string;
  readonly dumpVersion?: string;
  readonly pages?: 'mapped' | 'all';
  readonly addPage?: readonly string[];
  readonly dropPage?: readonly string[];
  readonly msgbuf?: string;
  readonly run: boolean;
  readonly exact?: boolean;
  readonly kernbase?: string;
  readonly dmap?: string;
  readonly toPteFormat?: string;
  readonly superpages?: 'freebsd' | 'attributes';
  readonly dumpHeader?: boolean;
  readonly info?: string;
  readonly leaveOut?: boolean;
  readonly tolerateDamage?: boolean;
  readonly json?: boolean;
}

/** What these commands print with `--json`. */
export const REPORT_JSON = `One object: \`format\`, \`version\`, \`architecture\`, \`size\`, \`pages\`, \`mappings\`,
\`mappedBytes\`, \`added\`, \`dropped:{outsideRam,absent,byHand,truncated}\`,
\`damage:{tablesAbsent,tablesTruncated,loops,unsupportedEntries}\`, \`metadataBytes\`, \`metadataShare\`,
\`tables:{bytes}\` (portable: and \`segments\`, \`leaves\`, \`flatBytes\`; freebsd: and \`pages\`), \`losses\` (a sentence each),
\`lossList:[{kind,reason,bytes}]\`, \`file\`.`;

/** Adds them to a command. */
export function addDumpOptions(command: Command): Command {
  const repeatable = (flags: string, text: string): Option =>
    new Option(flags, `${text} (repeatable)`).argParser(collect).default(undefined);
  command
    .option(
      '--format <name>',
      `format to write: ${dumpFormats.map(({ name }) => name).join(', ')}`,
      'portable',
    )
    .option('--dump-version <n>', 'version of the format (default: the newest)')
    .option('--kva <from-to>', 'only mappings in this window of KVAs; either end may be left out')
    .addOption(
      new Option(
        '--pages <which>',
        'pages that a mapping reaches, or all (default: mapped for memory images, all for dumps)',
      ).choices(['mapped', 'all']),
    )
    .addOption(repeatable('--add-page <pa>', 'put this page in, mapped or not'))
    .addOption(repeatable('--drop-page <pa>', 'leave this page out'))
    .option('--msgbuf <file>', 'the message buffer to put in: its text, oldest first')
    .option('--no-run', 'portable: one leaf for every granule (FLAT) instead of one for a whole run')
    .option('--exact', 'portable: keep the exact page-table entries')
    .option('--kernbase <kva>', 'freebsd: first KVA that the page-table section covers')
    .option(
      '--dmap <from-to[:pa]>',
      'the direct map of the kernel: these KVAs are not walked but described in the header',
    )
    .option(
      '--to-pte-format <name>',
      'format of the page-table entries to write (nopae, pae, v4, v6, lpae; default: that of the source)',
    )
    .addOption(
      new Option(
        '--superpages <how>',
        'freebsd: superpages as 4 KB entries, as the kernel makes them or with the attributes they can have',
      ).choices(['freebsd', 'attributes']),
    )
    .option('--dump-header', 'put a kernel dump header in front and behind, as on a dump device')
    .option('--info <file>', 'write what savecore(8) writes beside a core (info.N) to this file')
    .option('--leave-out', 'leave out, and count, mappings that the format cannot hold')
    .option('--tolerate-damage', 'go on when page tables are too damaged to be trusted')
    .option('--json', 'print the report as JSON, one object');
  return addCoreOptions(command);
}

/** What the options ask for; paths are read, numbers checked. */
export function conversionOf(options: DumpCommandOptions): ConvertOptions {
  const { format, dumpVersion, kva, addPage, dropPage, msgbuf, run, exact, superpages } = options;
  const pages = (list: readonly string[] | undefined, what: string): number[] | undefined =>
    list?.map((text) => usage(() => parsePhysical(text, what)));
  const add = pages(addPage, '--add-page');
  const drop = pages(dropPage, '--drop-page');
  const { kernbase, toPteFormat } = options;
  return {
    format,
    architectures: defaultArchitectures,
    ...(dumpVersion !== undefined && { version: usage(() => parseCount(dumpVersion, '--dump-version')) }),
    ...(kva !== undefined && usage(() => parseWindow(kva))),
    ...(options.pages && { pages: options.pages }),
    ...(add && { addPages: add }),
    ...(drop && { dropPages: drop }),
    ...(msgbuf !== undefined && { messageBuffer: readFileSync(msgbuf) }),
    ...(kernbase !== undefined && { kernbase: parseKernbase(kernbase) }),
    ...(toPteFormat !== undefined && { pteFormat: toPteFormat }),
    ...(superpages && { superpages }),
    ...(options.dmap !== undefined && { machine: { directMap: parseDirectMap(options.dmap) } }),
    run,
    exact: exact === true,
    leaveOut: options.leaveOut === true,
    tolerateDamage: options.tolerateDamage === true,
  };
}

function parseKernbase(text: string): bigint {
  const { symbol, offset } = usage(() => parseAddress(text));
  if (symbol === undefined) return offset;
  throw new UsageError(`--kernbase is an address, not ${symbol}`);
}

/** `FROM-TO` or `FROM-TO:PA`. */
function parseDirectMap(text: string): NonNullable<MachineFacts['directMap']> {
  const [window, phys = '0', ...rest] = text.split(':');
  const { from, to } = usage(() => parseWindow(window));
  if (from === undefined || to === undefined || rest.length > 0) {
    throw new UsageError('--dmap is FROM-TO or FROM-TO:PA', 'e.g. 0xfffff80000000000-0xfffffc0000000000');
  }
  return { base: from, end: to, phys: usage(() => parsePhysical(phys, '--dmap')) };
}

import type { Command } from 'commander';
import { toHex } from '@libkvm/minidump-core';
import type { PageEntry } from '@libkvm/kvm-reader';
import { parseWindow } from '../arguments.js';
import { describe } from '../describe.js';
import { usage } from '../errors.js';
import { addCoreOptions, withCore, type CoreOptions } from '../open.js';
import { Progress } from '../progress.js';
import type { Session } from '../session.js';
import { hexColumn, pageSizeName } from '../text.js';

interface PagesOptions extends CoreOptions {
  readonly kva?: string;
  readonly json?: boolean;
}

/** `vmcore pages`. */
export function addPages(program: Command, session: Session): void {
  const command = program
    .command('pages')
    .summary('the page walk')
    .description(
      'Lists what the kernel has mapped, by ascending KVA, then the pages in the core that no KVA maps. Superpages are ' +
        'listed whole, but split where presence or contiguity in the file changes.',
    )
    .argument('<core>', 'core file')
    .option('--kva <from-to>', 'only mappings in this window of addresses, e.g. 0xfffffe0000000000-')
    .option('--json', 'print JSON, a line a mapping');
  addCoreOptions(command).action(async (core: string, options: PagesOptions) => {
    const window = options.kva === undefined ? {} : usage(() => parseWindow(options.kva!));
    await withCore(session, core, options, async (kvm) => {
      const { pages, pageSize } = kvm.core.memory;
      const progress = new Progress(
        session,
        'pages',
        options.kva === undefined ? pages.dumped * pageSize : 0,
      );
      const rows = kvm.pages(window);
      await print(session, rows, progress).finally(() => progress.stop());
    });
  });
  describe(command, {
    json: `A line a mapping: \`{"kva","pa","dmap","protection","offset","length","pageSize"}\`. \`dmap\` is the address
in the direct map, \`offset\` that in the file, \`length\` the bytes of the line and \`pageSize\` those of the hardware's
mapping. What does not exist is null: \`kva\` of a page without one, \`offset\` of one that is not in the core.`,
    examples: [
      'vmcore pages vmcore.0',
      'vmcore pages vmcore.0 --kva 0xffffffff80000000-',
      'vmcore pages vmcore.0 --json',
    ],
  });
}

async function print(session: Session, rows: Iterable<PageEntry>, progress: Progress): Promise<void> {
  const { out } = session;
  const line = session.json ? jsonLine : textLine;
  let stored = 0;
  if (!session.json) out.line(out.colors.bold(HEADING));
  for (const row of rows) {
    out.line(line(row));
    if (row.offset !== undefined) stored += row.length;
    if (!out.full) continue;
    await out.flush();
    progress.update(stored);
  }
}

const HEADING = `${'kva'.padEnd(18)}  ${'pa'.padEnd(14)}  ${'dmap'.padEnd(18)}  prt  ${'offset'.padEnd(13)}  length  page`;

function textLine({ kva, pa, dmap, protection, offset, length, pageSize }: PageEntry): string {
  const addresses = `${hexColumn(kva, 18)}  ${hexColumn(pa, 14)}  ${hexColumn(dmap, 18)}`;
  const place = `${hexColumn(offset, 13)}  ${pageSizeName(length).padStart(6)}`;
  return `${addresses}  ${protection}  ${place}  ${pageSizeName(pageSize).padStart(4)}`;
}

/** Written out by hand: this is where millions of lines go through. */
function jsonLine({ kva, pa, dmap, protection, offset, length, pageSize }: PageEntry): string {
  const where = `"kva":${hexOrNull(kva)},"pa":"${toHex(pa)}","dmap":${hexOrNull(dmap)}`;
  return `{${where},"protection":"${protection}","offset":${offset ?? null},"length":${length},"pageSize":${pageSize}}`;
}

function hexOrNull(kva: bigint | undefined): string {
  return kva === undefined ? 'null' : `"${toHex(kva)}"`;
}

import { crc32 } from 'node:zlib';
import { BlockCache, verifyCore, type Core, type VerifyReport } from '@libkvm/minidump-core';
import { openCore, unwrapCore } from '@libkvm/kvm-reader';
import { FileSource, defaultArchitectures, fileUnpack } from '@libkvm/kvm-reader/node';
import type { Command } from 'commander';
import { describe } from '../describe.js';
import { FAILED } from '../errors.js';
import { addCoreOptions, openOptions, unpackProgress, withProgress, type CoreOptions } from '../open.js';
import { visibleLine } from '../output.js';
import type { Session } from '../session.js';

interface VerifyOptions extends CoreOptions {
  readonly json?: boolean;
}

/** `vmcore verify`. */
export function addVerify(program: Command, session: Session): void {
  const command = program
    .command('verify')
    .summary('check every claim of a core')
    .description(
      'Checks every claim that a core makes: sizes and order of its sections, checksums where it has them, the bitmap ' +
        "against the file's length, padding, and every mapping. The exit status is 1 when a claim does not hold.",
    )
    .argument('<core>', 'core file')
    .option('--json', 'print JSON, one object');
  addCoreOptions(command).action(async (core: string, options: VerifyOptions) => {
    const source = new FileSource(core);
    const closers = [() => source.close()];
    try {
      const { info: _, ...given } = openOptions(options);
      const progress = unpackProgress(session);
      const unpack = fileUnpack(core, { ...given, onProgress: progress.update }, (close) =>
        closers.push(close),
      );
      const how = { architectures: defaultArchitectures, ...given, unpack };
      const cache = withProgress(progress, () => unwrapCore(new BlockCache(source), how));
      const open = (): Core => openCore(cache, how);
      await print(session, core, verifyCore(cache, open, crc32));
    } finally {
      for (const close of closers) close();
    }
  });
  describe(command, {
    json: `One object: \`format\`, \`sound\`, \`problems:[{code,where,message,offset}]\`, \`notes\`,
\`checked\` (how many of what were looked at).`,
    examples: ['vmcore verify guest.minidump', 'vmcore verify vmcore.0 --json'],
  });
}

async function print(session: Session, file: string, report: VerifyReport): Promise<void> {
  const { out } = session;
  if (!report.sound) session.status = FAILED;
  if (session.json) {
    out.json(report);
    return;
  }
  for (const { code, where, message, offset } of report.problems) {
    const at = offset === undefined ? '' : ` (offset ${offset})`;
    out.line(`${out.colors.red(code)} ${visibleLine(where)}: ${visibleLine(message)}${at}`);
    if (out.full) await out.flush();
  }
  for (const note of report.notes) out.line(`note: ${visibleLine(note)}`);
  const counts = Object.entries(report.checked).map(([what, count]) => `${count} ${what}`);
  out.line(
    `${file}: ${report.sound ? 'sound' : `${report.problems.length} problems`} (${counts.join(', ')})`,
  );
}

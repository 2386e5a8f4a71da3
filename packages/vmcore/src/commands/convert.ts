import type { Command } from 'commander';
import { describe } from '../describe.js';
import { addDumpOptions, conversionOf, REPORT_JSON, type DumpCommandOptions } from '../dump-options.js';
import { withCore } from '../open.js';
import type { Session } from '../session.js';
import { writeDump } from '../write-dump.js';

/** `vmcore convert`. */
export function addConvert(program: Command, session: Session): void {
  const command = program
    .command('convert')
    .summary('any core -> any format that can be written')
    .description(
      'Writes a core anew in another format. Pages that the core does not hold are left out and counted, and so is what ' +
        'the format cannot hold of it. The file appears under its name only when it is whole.',
    )
    .argument('<core>', 'the core, or a memory image')
    .argument('<out>', 'file to write');
  addDumpOptions(command).action(async (core: string, out: string, options: DumpCommandOptions) => {
    const conversion = conversionOf(options);
    await withCore(session, core, options, (kvm) => writeDump(session, kvm, out, conversion, options));
  });
  describe(command, {
    json: REPORT_JSON,
    examples: [
      'vmcore convert vmcore.0 vmcore.portable',
      'vmcore convert vmcore.portable vmcore.1 --format freebsd --dump-version 2',
      'vmcore convert fulldump minidump --kernel kernel --format freebsd --kva 0xfffffe0000000000-',
    ],
  });
}

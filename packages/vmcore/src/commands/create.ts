import type { Command } from 'commander';
import { describe } from '../describe.js';
import { addDumpOptions, conversionOf, REPORT_JSON, type DumpCommandOptions } from '../dump-options.js';
import { withCore } from '../open.js';
import type { Session } from '../session.js';
import { writeDump } from '../write-dump.js';

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
    .argument('<out>', 'file to write');
  addDumpOptions(command).action(async (image: string, out: string, options: DumpCommandOptions) => {
    const conversion = conversionOf(options);
    await withCore(session, image, options, (kvm) => writeDump(session, kvm, out, conversion, options));
  });
  describe(command, {
    json: REPORT_JSON,
    examples: [
      'vmcore create guest.elf guest.minidump',
      'vmcore create ram.bin out --base 0x40000000 --arch arm --reg TTBR0=0x40004000 --reg TTBCR=0',
      'vmcore create guest.elf out --kva 0xffffffff80000000- --add-page 0x1000 --exact',
      'vmcore create fulldump vmcore.0 --kernel kernel --format freebsd --kva 0xfffffe0000000000-',
    ],
  });
}

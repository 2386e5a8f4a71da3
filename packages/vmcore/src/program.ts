import { Command } from 'commander';
import { version } from '../package.json';
import { addConvert } from './commands/convert.js';
import { addCreate } from './commands/create.js';
import { addDmesg } from './commands/dmesg.js';
import { addInfo } from './commands/info.js';
import { addPages } from './commands/pages.js';
import { addRead } from './commands/read.js';
import { addResolve } from './commands/resolve.js';
import { addSymbols } from './commands/symbols.js';
import { addVerify } from './commands/verify.js';
import type { Session } from './session.js';

/** Each registers one command; this is the order of the help. */
const COMMANDS = [
  addInfo,
  addDmesg,
  addResolve,
  addRead,
  addPages,
  addSymbols,
  addCreate,
  addConvert,
  addVerify,
];

/** The command line of one run. */
export function createProgram(session: Session): Command {
  const program = new Command('vmcore')
    .description('Looks into FreeBSD kernel cores: what they are, and what memory they hold.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError('(vmcore help, or vmcore help COMMAND, says what there is)')
    .configureOutput({
      writeOut: (text) => session.out.write(text),
      writeErr: (text) => session.err.write(text),
      getOutHelpWidth: () => width(session.io.stdout.columns),
      getErrHelpWidth: () => width(session.io.stderr.columns),
      getOutHasColors: () => session.out.colors.isColorSupported,
      getErrHasColors: () => session.err.colors.isColorSupported,
    })
    .addHelpText('after', STATUS);
  program.hook('preAction', (_, action) => {
    session.json = action.opts<{ json?: boolean }>().json === true;
  });
  for (const add of COMMANDS) add(program, session);
  return program;
}

const STATUS = `
Exit status: 0 done, 1 the answer is an error, 2 the command line makes no sense.
Most commands print JSON with --json. A CORE is a file such as /var/crash/vmcore.0.`;

function width(columns: number | undefined): number {
  return columns === undefined || columns < 40 ? 80 : columns;
}

import { CommanderError } from 'commander';
import { DONE, USAGE } from './errors.js';
import { processIo, type Io } from './io.js';
import { createProgram } from './program.js';
import { Session } from './session.js';

/**
 * Runs the `vmcore` command.
 *
 * @param argv the arguments, without those of Node
 * @returns the exit status: 0 done, 1 the answer is an error, 2 usage. Nothing is thrown
 */
export async function main(argv: readonly string[], io: Io = processIo): Promise<number> {
  const session = new Session(io);
  return session.run(async () => {
    try {
      await createProgram(session).parseAsync([...argv], { from: 'user' });
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error;
      session.status = error.exitCode === 0 ? DONE : USAGE;
    }
  });
}

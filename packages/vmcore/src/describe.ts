import type { Command } from 'commander';

/** What a command's help and its page in the documentation say beside its arguments and options. */
export interface CommandNotes {
  /** What `--json` prints, in the words of the documentation. */
  readonly json: string;
  readonly examples: readonly string[];
}

const notes = new WeakMap<Command, CommandNotes>();

/** Adds examples and the shape of the JSON output to a command's help. */
export function describe(command: Command, added: CommandNotes): Command {
  notes.set(command, added);
  return command.addHelpText('after', ({ error }) => {
    const output = command.configureOutput();
    const width = (error ? output.getErrHelpWidth?.() : output.getOutHelpWidth?.()) ?? 80;
    const json = indented(wrapped(added.json.replaceAll('`', ''), width - 2));
    return `\nWith --json:\n${json}\n\nExamples:\n${indented(added.examples.map((line) => `$ ${line}`))}`;
  });
}

/** What {@link describe} added. */
export function notesOf(command: Command): CommandNotes | undefined {
  return notes.get(command);
}

function wrapped(text: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1)!;
    if (last !== '' && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => `  ${line}`).join('\n');
}

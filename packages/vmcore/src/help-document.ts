import type { Argument, Command, Option } from 'commander';
import { notesOf } from './describe.js';

const INTRODUCTION = `# The command vmcore

\`vmcore\` looks into FreeBSD kernel cores, on any system that has Node. A core is a file such as
\`/var/crash/vmcore.0\`; a kernel is the ELF file that was running when the core was made, \`/boot/kernel/kernel\`, or
its debug file. This page is made from the command's own help: do not edit it, see \`packages/vmcore/src\`.

## Output

People get text: colours on a terminal only, and never with \`NO_COLOR\` set; characters out of a dump that a
terminal would obey are spelled out. Programs get JSON with \`--json\`: one object, or one a line where there are many.
In JSON, addresses are strings such as \`"0xffffffff81cd4c0c"\`, offsets and lengths numbers, protections \`"r--"\`,
\`"rw-"\`, \`"r-x"\` or \`"rwx"\`.

Addresses are written \`0x…\` in hex, in decimal, or, with \`--kernel\`, as \`NAME\` or \`NAME+OFFSET\`.

A batch is a file with one question a line, \`-\` for standard input. Blank lines and what follows a \`#\` are skipped.
Answers come in the order of the lines, those to all that has arrived before more is waited for.

## Exit status

| status | means                                                              |
| ------ | ------------------------------------------------------------------ |
| 0      | done; in a batch, whatever the answers are                         |
| 1      | the answer is an error, or one of the answers to the command line  |
| 2      | the command line makes no sense                                    |

An error is \`{"error":{"code","message",...}}\` with \`--json\`, else a sentence and a hint on standard error. Codes are
those of the library: \`NOT_A_CORE\`, \`UNSUPPORTED\`, \`CORRUPT\`, \`TRUNCATED\`, \`NOT_MAPPED\`, \`NOT_DUMPED\`,
\`NOT_CANONICAL\`, \`NO_SYMBOL\`, \`MISMATCH\`, \`INVALID_ARGUMENT\`, \`IO\`, \`ABORTED\`; and \`INTERNAL\` for a defect of
this program.
`;

/** docs/vmcore.md: what the help says, as one page. */
export function helpDocument(program: Command): string {
  const commands = program.commands.filter((command) => notesOf(command) !== undefined);
  const rows = commands.map((command) => [
    `[\`${command.name()}\`](#vmcore-${command.name()})`,
    command.summary(),
  ]);
  return [
    INTRODUCTION,
    '## Commands\n',
    table(['command', 'says'], rows),
    ...commands.map((command) => commandPart(program.name(), command)),
  ].join('\n');
}

function commandPart(program: string, command: Command): string {
  const { json, examples } = notesOf(command)!;
  return [
    `\n## ${program} ${command.name()}\n`,
    `\`${program} ${command.name()} ${command.usage()}\`\n`,
    `${command.description()}\n`,
    table(
      ['argument or option', 'means'],
      [...command.registeredArguments.map(argumentRow), ...command.options.map(optionRow)],
    ),
    `\nWith \`--json\`: ${lowerFirst(json.replace(/\s+/g, ' '))}\n`,
    '```console',
    ...examples.map((line) => `$ ${line}`),
    '```\n',
  ].join('\n');
}

function argumentRow(argument: Argument): string[] {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return [`\`${argument.required ? `<${name}>` : `[${name}]`}\``, argument.description];
}

function optionRow({ flags, description }: Option): string[] {
  return [`\`${flags}\``, description];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

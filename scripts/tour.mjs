// The main job in a few commands: `node scripts/tour.mjs [CORE [KERNEL]]`. Each command line is shown before what it
// prints. Without a core it makes one: that of a small synthetic FreeBSD/amd64 machine after a panic.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packages, root } from './workspace.mjs';

const command = join(root, 'packages', 'vmcore', 'bin', 'vmcore.js');
/** Not under version control. */
const sampleFolder = join(root, 'temp', 'sample');
const bold =
  process.stdout.isTTY && !process.env.NO_COLOR ? (text) => `\u001b[1m${text}\u001b[22m` : (text) => text;

const [givenCore, givenKernel] = process.argv.slice(2);
if (givenCore === undefined) await tourSample();
else tourCore(givenCore, givenKernel);

async function tourSample() {
  const { core, kernel } = await makeSample();
  say(`A core and its kernel, of a synthetic machine with 64 MB that panicked: ${core}, ${kernel}`);
  say('What is this file?');
  show('info', core, '--kernel', kernel);
  say('What did the kernel print last?');
  show({ last: 8 }, 'dmesg', core);
  say('Where are these addresses? A variable, one in a 2 MB page, the same page in the direct map.');
  show('resolve', core, '--kernel', kernel, 'panicstr', '0xfffffe0004012345', '0xfffff80002612345');
  say('What do they hold? First by name, then by address.');
  show('read', core, '--kernel', kernel, 'version', '80');
  show('read', core, '0xfffff80000200000', '48');
  say('A device register is mapped, but no dump has it: an answer too.');
  show({ fails: true }, 'resolve', core, '0xfffffe0003000000');
  say('The same for programs:');
  show('resolve', core, '--kernel', kernel, '--json', 'panicstr');
  next(core, kernel);
}

/** The same questions for any core: the addresses come from its page walk. */
function tourCore(core, kernel) {
  const withKernel = kernel === undefined ? [] : ['--kernel', kernel];
  say('What is this file?');
  if (show('info', core, ...withKernel) !== 0) return;
  say('What did the kernel print last?');
  show({ last: 8 }, 'dmesg', core, ...withKernel);
  say('What is mapped where?');
  show({ first: 8 }, 'pages', core);
  const found = mappedAddresses(core);
  if (found.length > 0) {
    say('Some of these addresses, and what one of them holds:');
    show('resolve', core, ...withKernel, ...found);
    show('read', core, found[0], '64');
  }
  next(core, kernel);
}

/** Writes the sample beside the repository's other temporary files; returns paths as a user here would type them. */
async function makeSample() {
  const { dir } = packages().find(({ folder }) => folder === 'fixtures');
  const { amd64Minidump, sampleMachine } = await import(pathToFileURL(join(dir, 'dist', 'index.js')).href);
  const { machine, kernel } = sampleMachine();
  mkdirSync(sampleFolder, { recursive: true });
  const write = (name, bytes) => {
    writeFileSync(join(sampleFolder, name), bytes);
    return relative(process.cwd(), join(sampleFolder, name));
  };
  return { core: write('vmcore.0', amd64Minidump(machine).file.bytes()), kernel: write('kernel', kernel) };
}

/** A few KVAs whose bytes are in the core, from different mappings among the first. */
function mappedAddresses(core) {
  const { stdout } = vmcore(['pages', core, '--json'], 2 ** 20);
  const lines = stdout.slice(0, stdout.lastIndexOf('\n')).split('\n').filter(Boolean);
  const rows = lines
    .map((line) => JSON.parse(line))
    .filter(({ kva, offset }) => kva !== null && offset !== null);
  return [0, 0.5, 1].flatMap((part) => rows[Math.floor(part * (rows.length - 1))]?.kva ?? []);
}

/** Shows a command line and what it prints: all of it, or the first or last lines. Returns its status. */
function show(...args) {
  const { first, last, fails = false } = typeof args[0] === 'object' ? args.shift() : {};
  const pipe = first ? ` | head -${first}` : last ? ` | tail -${last}` : '';
  console.log(bold(`$ npx vmcore ${args.map(quoted).join(' ')}${pipe}`));
  const { status, stdout, stderr } = vmcore(args);
  const lines = stdout.split('\n').slice(0, -1);
  const part = first ? lines.slice(0, first) : last ? lines.slice(-last) : lines;
  if (part.length > 0) console.log(part.join('\n'));
  if (stderr) process.stdout.write(stderr);
  if ((status !== 0) !== fails) process.exitCode = 1;
  return status;
}

/** Only so much of the output as can be of use: `vmcore` ends quietly when nobody reads on. */
function vmcore(args, maxBuffer = 16 * 2 ** 20) {
  const { status, signal, stdout, stderr, error } = spawnSync(process.execPath, [command, ...args], {
    encoding: 'utf8',
    maxBuffer,
  });
  // Too much output ends the process; what came before is good.
  if (error && error.code !== 'ENOBUFS') throw error;
  return { status: signal && error ? 0 : status, stdout: clean(stdout), stderr: clean(stderr) };
}

/** Output that goes through this script went to no terminal there: what a terminal would obey is taken out here. */
function clean(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?');
}

function next(core, kernel) {
  const withKernel = kernel === undefined ? '' : ` --kernel ${quoted(kernel)}`;
  say('Try next:');
  const lines = [
    `npx vmcore pages ${quoted(core)} | less`,
    `npx vmcore read ${quoted(core)}${withKernel} ADDR LEN`,
    ...(kernel === undefined ? [] : [`npx vmcore symbols ${quoted(kernel)}`]),
    `npx vmcore info ${quoted(core)} --json`,
    'npx vmcore --help',
    ...(givenCore === undefined ? ['npm start -- /var/crash/vmcore.0 /boot/kernel/kernel'] : []),
  ];
  for (const line of lines) console.log(`  ${line}`);
}

function say(text) {
  console.log(`\n${text}`);
}

/** An argument as a shell takes it. */
function quoted(text) {
  return /^[\w./:=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// The main job in a few commands: `node scripts/tour.mjs [CORE [KERNEL]]` prints what vmcore's info,
// dmesg, resolve and read say of a core. Placeholder: without a core it only prints the command's help.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './workspace.mjs';

const command = join(root, 'packages', 'vmcore', 'bin', 'vmcore.js');
const [core, kernel] = process.argv.slice(2);

function vmcore(...args) {
  console.log(`\n$ vmcore ${args.join(' ')}`);
  const { status } = spawnSync(process.execPath, [command, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}

if (core === undefined) {
  vmcore('--help');
} else {
  vmcore('info', core, ...(kernel === undefined ? [] : ['--kernel', kernel]));
  vmcore('dmesg', core);
}

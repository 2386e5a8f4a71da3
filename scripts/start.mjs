// `npm start [-- CORE [KERNEL]]`: installs and builds what is missing, then tours a core.
import './node-version.mjs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build } from './build.mjs';
import { install } from './install.mjs';
import { root } from './workspace.mjs';

try {
  await install();
  await build({ types: false });
  const args = [join(root, 'scripts', 'tour.mjs'), ...process.argv.slice(2)];
  const { status, error } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  if (error) console.error(`The tour could not be started: ${error.message}`);
  process.exitCode = status ?? 1;
} catch {
  // The step that failed has said why.
  process.exitCode = 1;
}

// `npm run fuzz [-- --seconds N] [--seed S] [--count N] [--only NAME]`: damages cores of every kind and checks what the
// library makes of them. 60 seconds unless told otherwise; the same seed gives the same damage.
import './node-version.mjs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build } from 'tsup';
import { cacheFolder, root } from './workspace.mjs';

const outDir = join(cacheFolder, 'fuzz');

await build({
  entry: { fuzz: join(root, 'packages', 'kvm-reader', 'test', 'fuzz', 'main.ts') },
  ...{ outDir, format: ['esm'], platform: 'node', target: 'node20', sourcemap: true },
  ...{ config: false, silent: true, clean: false, dts: false, noExternal: [/^@libkvm\//] },
  external: ['vitest'],
  tsconfig: join(root, 'tsconfig.json'),
  outExtension: () => ({ js: '.mjs' }),
  esbuildOptions(options) {
    options.absWorkingDir = root;
  },
});
// A heap that holds the files many times, and no more: what takes memory out of proportion ends here.
const heap = '--max-old-space-size=256';
const args = [heap, '--enable-source-maps', join(outDir, 'fuzz.mjs'), ...process.argv.slice(2)];
const { status, error } = spawnSync(process.execPath, args, { stdio: 'inherit' });
if (error) console.error(`The fuzz lane could not be started: ${error.message}`);
process.exitCode = status ?? 1;

import './node-version.mjs';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runPnpm, step } from './steps.mjs';
import { hashFiles, packages, readStamp, root, writeStamp } from './workspace.mjs';

/** Installs what the lock file names, unless node_modules was installed from the same files. */
export async function install() {
  await step('install', async () => {
    const key = installKey();
    if (existsSync(join(root, 'node_modules', '.modules.yaml')) && readStamp('install')?.key === key) {
      return false;
    }
    // --prod=false: the tools are wanted under NODE_ENV=production too.
    await runPnpm(['install', '--frozen-lockfile', '--prod=false']);
    writeStamp('install', { key });
  });
}

function installKey() {
  const manifests = packages().map((item) => join(item.dir, 'package.json'));
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json', 'examples/package.json'];
  const all = [...files.map((file) => join(root, file)), ...manifests];
  return hashFiles(all, process.platform, process.arch);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await install().catch(() => (process.exitCode = 1));
}

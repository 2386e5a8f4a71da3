import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'tsup';

const REPOSITORY = fileURLToPath(new URL('../../../..', import.meta.url));

/**
 * Bundles a program of `test/children/` from the packages' sources, so that a process of its own can run it without a
 * build of the packages. Gives the path of the bundle, in `folder`.
 */
export async function bundleChild(name: string, folder: string): Promise<string> {
  await build({
    entry: { [name]: fileURLToPath(new URL(`../children/${name}.ts`, import.meta.url)) },
    ...{ outDir: folder, format: ['esm'], platform: 'node', target: 'node20' },
    ...{ config: false, silent: true, clean: false, dts: false },
    noExternal: [/^@libkvm\//],
    tsconfig: join(REPOSITORY, 'tsconfig.json'),
    outExtension: () => ({ js: '.mjs' }),
    esbuildOptions(options) {
      options.absWorkingDir = REPOSITORY;
    },
  });
  return join(folder, `${name}.mjs`);
}

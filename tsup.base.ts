import { readFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

interface Manifest {
  private?: boolean;
  bin?: Record<string, string>;
  exports: Record<string, string | Record<string, unknown>>;
}

// tsup runs in the package's folder: its package.json says what to build. The export "." is
// src/index.ts, "./name" is src/name.ts, and a command's only entry is src/main.ts.
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Manifest;
const exported = Object.entries(manifest.exports).filter(([path]) => path !== './package.json');
const names = exported.map(([path]) => (path === '.' ? 'index' : path.slice(2)));
if (manifest.bin) names.push('main');

const commonJs = exported.some(([, target]) => typeof target === 'object' && 'require' in target);
const typed = !manifest.private && exported.length > 0;

// scripts/build.mjs asks for JavaScript and declarations apart, to skip what has not changed.
const want = process.env.LIBKVM_BUILD ?? 'all';

export default defineConfig({
  entry: Object.fromEntries(names.map((name) => [name, `src/${name}.ts`])),
  format: commonJs ? ['esm', 'cjs'] : ['esm'],
  // Neutral for all, the command too: nothing may rely on shims, and `node:` imports stay as written.
  platform: 'neutral',
  target: 'es2022',
  // Siblings stay imports: each package must find the one copy of core.
  tsconfig: '../../tsconfig.build.json',
  external: [/^node:/, /^@libkvm\//],
  removeNodeProtocol: false,
  skipNodeModulesBundle: true,
  splitting: true,
  sourcemap: true,
  treeshake: false,
  clean: false,
  dts:
    typed && want !== 'js'
      ? {
          only: want === 'types',
          // Node's types are for src/node*.ts; tsconfig.neutral.json keeps the rest free of them.
          compilerOptions: { types: ['node'], composite: false, incremental: false },
        }
      : false,
});

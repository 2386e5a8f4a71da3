// Checks what would be published, from the tarballs pnpm makes: publint, "are the types wrong", and
// that no bundle imports what its package.json does not name or, where it is neutral, anything of Node.
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { runPnpm } from './steps.mjs';
import { cacheFolder, filesBelow, isNeutral, packages, root } from './workspace.mjs';

const folder = join(cacheFolder, 'packs');
const complaints = [];
const complain = (item, text) => complaints.push(`${item.name}: ${text}`);

const all = packages().filter(({ published, hasSources }) => published && hasSources);
await pack();
for (const item of all) {
  const tarball = readFileSync(tarballOf(item));
  await checkManifest(item, tarball);
  if (item.typed) await checkTypes(item, tarball);
  checkImports(item);
}
for (const text of complaints) console.error(text);
if (complaints.length > 0) process.exitCode = 1;

async function pack() {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const filters = all.flatMap(({ name }) => ['--filter', name]);
  await runPnpm(['--recursive', ...filters, 'pack', '--pack-destination', folder]);
}

function tarballOf({ name, manifest }) {
  return join(folder, `${name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`);
}

async function checkManifest(item, tarball) {
  const bytes = tarball.buffer.slice(tarball.byteOffset, tarball.byteOffset + tarball.length);
  const { messages, pkg } = await publint({ level: 'warning', strict: true, pack: { tarball: bytes } });
  for (const message of messages) {
    complain(item, `publint: ${formatMessage(message, pkg, { color: false }) ?? message.code}`);
  }
}

async function checkTypes(item, tarball) {
  const result = await checkPackage(createPackageFromTarballData(new Uint8Array(tarball)));
  if (result.types === false) return complain(item, 'types: the package has no declarations');
  for (const problem of result.problems) {
    // Resolvers from before "exports" see the main entry only.
    const subPath = problem.entrypoint !== undefined && problem.entrypoint !== '.';
    if (problem.resolutionKind === 'node10' && subPath) continue;
    complain(item, `types: ${problem.kind} ${JSON.stringify(problem)}`);
  }
}

function checkImports(item) {
  const allowed = new Set(item.dependencies);
  for (const file of filesBelow(join(item.dir, 'dist')).filter((name) => /\.(c?js|d\.c?ts)$/.test(name))) {
    for (const name of importsOf(file)) {
      const packageName = /^(@[^/]+\/)?[^/]+/.exec(name)[0];
      if (name.startsWith('.') || isNode(name) || allowed.has(packageName)) continue;
      complain(item, `${relative(root, file)} imports ${name}, which package.json does not name`);
    }
  }
  if (!isNeutral(item)) return;
  for (const entry of item.entries.filter((name) => !/^node\b/.test(name))) {
    for (const extension of ['js', 'cjs', 'd.ts', 'd.cts']) {
      checkNeutral(item, join(item.dir, 'dist', `${entry}.${extension}`), new Set());
    }
  }
}

/** Follows an entry through its chunks: none may need Node. */
function checkNeutral(item, file, seen) {
  if (seen.has(file) || !existsSync(file)) return;
  seen.add(file);
  const shown = relative(root, file);
  if (/\bNodeJS\.|types="node"/.test(readFileSync(file, 'utf8')))
    complain(item, `${shown} uses Node's types`);
  for (const name of importsOf(file)) {
    if (isNode(name)) complain(item, `${shown} imports ${name}, but must run without Node`);
    if (name.startsWith('.')) checkNeutral(item, chunk(file, name), seen);
  }
}

/** The file a relative import means; declarations name the JavaScript beside them. */
function chunk(file, name) {
  const path = join(dirname(file), name);
  return /\.d\.c?ts$/.test(file) ? path.replace(/\.(c?)js$/, '.d.$1ts') : path;
}

function importsOf(file) {
  const text = readFileSync(file, 'utf8');
  const pattern =
    /(?:^|[\s;}])(?:from|import)\s*["']([^"'\n]+)["']|\b(?:require|import)\(["']([^"'\n]+)["']\)/g;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2]);
}

function isNode(name) {
  return name.startsWith('node:') || builtinModules.includes(name);
}

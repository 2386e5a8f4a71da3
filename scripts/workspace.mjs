// What is in the workspace, read from the package.json files: no script lists packages by name.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const cacheFolder = join(root, 'node_modules', '.cache', 'libkvm');

export const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'));

/** Every folder packages/X with a package.json, dependencies before dependents. */
export function packages() {
  const folder = join(root, 'packages');
  const found = readdirSync(folder)
    .sort()
    .map((name) => join(folder, name))
    .filter((dir) => existsSync(join(dir, 'package.json')))
    .map(describe);
  return inDependencyOrder(found);
}

function describe(dir) {
  const manifest = readJson(join(dir, 'package.json'));
  const paths = Object.keys(manifest.exports ?? {}).filter((path) => path !== './package.json');
  const entries = paths.map((path) => (path === '.' ? 'index' : path.slice(2)));
  return {
    dir,
    folder: basename(dir),
    name: manifest.name,
    manifest,
    published: !manifest.private,
    /** Names of the importable entries: `index`, `node`, ... */
    entries,
    /** Has declarations and an API report. */
    typed: !manifest.private && entries.length > 0,
    /** False for a folder that somebody has only begun: nothing to build or check yet. */
    hasSources: existsSync(join(dir, 'src', `${entries[0] ?? 'main'}.ts`)),
    dependencies: Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }),
  };
}

function inDependencyOrder(found) {
  const byName = new Map(found.map((item) => [item.name, item]));
  const ordered = new Set();
  const visit = (item, trail) => {
    if (ordered.has(item)) return;
    if (trail.includes(item)) {
      throw new Error(`packages import each other: ${[...trail, item].map((p) => p.name).join(' -> ')}`);
    }
    for (const name of item.dependencies) {
      if (byName.has(name)) visit(byName.get(name), [...trail, item]);
    }
    ordered.add(item);
  };
  for (const item of found) visit(item, []);
  return [...ordered];
}

/** Packages that must be neutral (src/node* apart): all but those tsconfig.neutral.json excludes. */
export function isNeutral(item) {
  return !nodeOnlyFolders().includes(item.folder);
}

/** Folders under packages/ that tsconfig.neutral.json excludes whole. */
export function nodeOnlyFolders() {
  const text = readFileSync(join(root, 'tsconfig.neutral.json'), 'utf8');
  const { exclude } = JSON.parse(text.replace(/^\s*\/\/.*$/gm, ''));
  return exclude.flatMap((pattern) => /^packages\/([^*/]+)\/\*\*$/.exec(pattern)?.[1] ?? []);
}

/** All files below a folder, sorted; an absent folder has none. */
export function filesBelow(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** One hash over names and contents of files; absent files count as absent. */
export function hashFiles(files, ...extra) {
  const hash = createHash('sha256');
  for (const text of extra) hash.update(`${text}\0`);
  for (const file of files) {
    hash.update(`${relative(root, file).split(sep).join('/')}\0`);
    hash.update(existsSync(file) ? readFileSync(file) : 'absent');
    hash.update('\0');
  }
  return hash.digest('hex');
}

export function readStamp(name) {
  try {
    return readJson(join(cacheFolder, `${name}.json`));
  } catch {
    return undefined;
  }
}

export function writeStamp(name, value) {
  mkdirSync(cacheFolder, { recursive: true });
  writeFileSync(join(cacheFolder, `${name}.json`), JSON.stringify(value, null, 1));
}

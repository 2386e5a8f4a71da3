// Builds packages/*/dist: `node scripts/build.mjs [--js] [--force]`. What has not changed is left alone.
import './node-version.mjs';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { availableParallelism } from 'node:os';
import { runTool, step, StepError } from './steps.mjs';
import { filesBelow, hashFiles, packages, readStamp, root, writeStamp } from './workspace.mjs';

const shared = [
  'pnpm-lock.yaml',
  'tsconfig.base.json',
  'tsconfig.build.json',
  'tsconfig.neutral.json',
  'tsup.base.ts',
];
const isDeclaration = (name) => /\.d\.c?ts$/.test(name);

/** Builds JavaScript, and declarations unless told not to. */
export async function build({ types = true, force = false } = {}) {
  const all = packages().filter((item) => item.hasSources);
  await step('build', async () => {
    // A bundle does not depend on its siblings', declarations do: they go in order.
    const scripts = await each(all, () => [], makeBuilder('js', force));
    const declared = types ? await declarations(all, force) : [];
    const built = [...new Set([...scripts, ...declared])];
    return built.length > 0 && { note: built.map((item) => item.folder).join(', ') };
  });
}

function declarations(all, force) {
  const typed = all.filter((item) => item.typed);
  const siblings = (item) => typed.filter((other) => item.dependencies.includes(other.name));
  return each(typed, siblings, makeBuilder('types', force, siblings));
}

/** Runs a builder over packages, those before it first, some at a time; returns those that were built. */
async function each(items, before, builder) {
  const waiting = new Set(items);
  const running = new Map();
  const built = [];
  while (waiting.size + running.size > 0) {
    for (const item of waiting) {
      const ready = before(item).every((other) => !waiting.has(other) && !running.has(other));
      if (!ready || running.size >= Math.max(2, availableParallelism())) continue;
      waiting.delete(item);
      const work = builder(item).then((did) => {
        if (did) built.push(item);
        running.delete(item);
      });
      running.set(item, work);
    }
    await Promise.race(running.values());
  }
  return built;
}

function makeBuilder(want, force, siblings = () => []) {
  return async (item) => {
    const stampName = `build-${want}-${item.folder}`;
    const key = inputKey(item, want, siblings(item));
    const stamp = readStamp(stampName);
    if (!force && stamp?.key === key && stamp.outputs.every((name) => existsSync(join(item.dir, name)))) {
      return false;
    }
    clear(item, want);
    await runTool('tsup', ['--silent'], { cwd: item.dir, env: { LIBKVM_BUILD: want } }).catch((error) => {
      throw new StepError(`${item.name}: ${error.message}`, error.output);
    });
    writeStamp(stampName, { key, outputs: outputs(item, want) });
    return true;
  };
}

function inputKey(item, want, siblings) {
  const own = ['package.json', 'tsconfig.json', 'tsup.config.ts'].map((name) => join(item.dir, name));
  const sources = filesBelow(join(item.dir, 'src'));
  const declared = siblings.flatMap((other) => filesBelow(join(other.dir, 'dist')).filter(isDeclaration));
  return hashFiles([...shared.map((name) => join(root, name)), ...own, ...sources, ...declared], want);
}

function outputs(item, want) {
  const dist = join(item.dir, 'dist');
  const names = existsSync(dist) ? readdirSync(dist) : [];
  const mine = names.filter((name) => isDeclaration(name) === (want === 'types'));
  if (mine.length === 0) throw new StepError(`${item.name}: the build wrote nothing`);
  return mine.map((name) => `dist/${name}`);
}

/** Removes what an earlier build of the same kind left, so that no stale chunk is published. */
function clear(item, want) {
  const dist = join(item.dir, 'dist');
  if (!existsSync(dist)) return;
  for (const name of readdirSync(dist)) {
    if (isDeclaration(name) === (want === 'types')) rmSync(join(dist, name), { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const has = (flag) => process.argv.includes(flag);
  await build({ types: !has('--js'), force: has('--force') }).catch(() => (process.exitCode = 1));
}

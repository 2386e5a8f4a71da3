import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

/** The seams between packages: what may import what, which names stay where, and that every entry is there. */

const PACKAGES = fileURLToPath(new URL('../..', import.meta.url));

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly main?: string;
  readonly types?: string;
  readonly exports?: Readonly<Record<string, unknown>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const folders = readdirSync(PACKAGES).filter((name) => existsSync(join(PACKAGES, name, 'package.json')));
const architectures = folders
  .filter((name) => name.startsWith('arch-'))
  .map((name) => name.slice('arch-'.length));
const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(PACKAGES, folder, 'package.json'), 'utf8')) as Manifest;

/** Sources of a package, by path below its src. */
function sourcesOf(folder: string): { path: string; text: string }[] {
  const src = join(PACKAGES, folder, 'src');
  if (!existsSync(src)) return [];
  const paths = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.ts'),
  );
  return paths.map((path) => ({ path, text: readFileSync(join(src, path), 'utf8') }));
}

/** Module names of all imports of a file: static, dynamic, re-exports and types. */
function importsOf(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** The code alone, types included. */
function withoutComments(path: string, text: string): string {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  return ts.createPrinter({ removeComments: true }).printFile(file);
}

const isRelative = (name: string): boolean => name.startsWith('./') || name.startsWith('../');
const isNode = (path: string): boolean => /^node([-.]|\/)/.test(path);

/** Decompressors, which only Node's side uses. */
const CODECS = /^(pako|fzstd)(\/|$)/;

function allowed(folder: string, path: string, name: string): boolean {
  if (isRelative(name)) return true;
  if (folder === 'minidump-core') return false;
  if (folder.startsWith('arch-')) return name === '@libkvm/minidump-core';
  if (name === '@libkvm/vmcore' || name.startsWith('@libkvm/fixtures')) return false;
  if (folder === 'kvm-reader') {
    if (name === '@libkvm/minidump-core') return true;
    return isNode(path) && (/^(@libkvm\/arch-|node:)/.test(name) || CODECS.test(name));
  }
  return true;
}

describe('imports', () => {
  it.each(folders)('of %s point down', (folder) => {
    const bad = sourcesOf(folder).flatMap(({ path, text }) =>
      importsOf(text)
        .filter((name) => !allowed(folder, path, name))
        .map((name) => `${path} imports ${name}`),
    );
    expect(bad).toEqual([]);
  });

  it.each(folders)('of %s stay in the package, and are in its manifest', (folder) => {
    const { dependencies = {}, name: own } = manifestOf(folder);
    const bad = sourcesOf(folder).flatMap(({ path, text }) =>
      importsOf(text).filter((name) => {
        if (name.startsWith('node:')) return false;
        if (!isRelative(name)) {
          const named = name
            .split('/')
            .slice(0, name.startsWith('@') ? 2 : 1)
            .join('/');
          return named === own || !(named in dependencies);
        }
        return join('src', path, '..', name).startsWith('..');
      }),
    );
    expect(bad).toEqual([]);
  });

  it('of neutral code in the reader leave Node-only files alone', () => {
    const bad = sourcesOf('kvm-reader')
      .filter(({ path }) => !isNode(path))
      .flatMap(({ path, text }) =>
        importsOf(text)
          .filter((name) => isNode(name.replace('./', '')))
          .map((name) => `${path}: ${name}`),
      );
    expect(bad).toEqual([]);
  });
});

describe('the core', () => {
  it('has no dependency, and an architecture none but the core', () => {
    const of = ({ dependencies, peerDependencies, optionalDependencies }: Manifest): string[] =>
      Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies });
    expect(of(manifestOf('minidump-core'))).toEqual([]);
    for (const name of architectures)
      expect(of(manifestOf(`arch-${name}`))).toEqual(['@libkvm/minidump-core']);
  });

  it('knows no architecture by name', () => {
    expect(architectures).toContain('amd64');
    const names = new RegExp(
      `\\b(${[...architectures, 'i386', 'arm', 'arm64', 'riscv', 'powerpc64'].join('|')})\\b`,
      'i',
    );
    const named = sourcesOf('minidump-core').flatMap(({ path, text }) => {
      const found = names.exec(withoutComments(path, text));
      return found ? [`${path}: ${found[0]}`] : [];
    });
    expect(named).toEqual([]);
    // The check itself: comments are let through, code and text in it are not.
    expect(names.test(withoutComments('a.ts', '/** amd64 */ const a = 1; // i386'))).toBe(false);
    expect(names.test(withoutComments('a.ts', 'const a = "FreeBSD/amd64";'))).toBe(true);
    expect(names.test(withoutComments('a.ts', 'type A = "arm" | 1;'))).toBe(true);
  });
});

describe('the entries of', () => {
  it.each(folders)('%s are there', (folder) => {
    const { exports = {}, bin = {}, main, types, name } = manifestOf(folder);
    expect(name).toBe(`@libkvm/${folder}`);
    const targets = [
      ...leavesOf(exports),
      ...Object.values(bin),
      ...(main ? [main] : []),
      ...(types ? [types] : []),
    ];
    const missing = targets.filter((target) => {
      const source = target.replace(/^\.\/dist\/(.*?)\.(d\.cts|d\.ts|cjs|js)$/, './src/$1.ts');
      return !existsSync(join(PACKAGES, folder, source));
    });
    expect(missing).toEqual([]);
    expect(exports).toHaveProperty(['./package.json']);
  });

  it('published packages have declarations for ESM and for CommonJS', () => {
    for (const folder of folders) {
      const { exports = {}, private: own } = manifestOf(folder);
      if (own === true) continue;
      for (const [entry, value] of Object.entries(exports)) {
        if (entry === './package.json') continue;
        expect(value, `${folder} ${entry}`).toMatchObject({
          import: { types: expect.stringMatching(/\.d\.ts$/), default: expect.stringMatching(/\.js$/) },
          require: { types: expect.stringMatching(/\.d\.cts$/), default: expect.stringMatching(/\.cjs$/) },
        });
      }
    }
  });
});

/** All paths in a tree of export conditions. */
function leavesOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(leavesOf);
}

import { builtinModules } from 'node:module';
import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { nodeOnlyFolders } from './scripts/workspace.mjs';

// Which way imports point. Patterns say what is NOT allowed.
const anyOfOurs = { regex: '^@libkvm/', message: 'This package imports nothing of ours.' };
const onlyCore = { regex: '^@libkvm/(?!minidump-core$)', message: 'Of ours, only @libkvm/minidump-core.' };
const coreAndReader = {
  regex: '^@libkvm/(?!minidump-core$|kvm-reader$)',
  message: 'Of ours, only @libkvm/minidump-core and @libkvm/kvm-reader (its neutral entry).',
};
const nothingAbove = {
  regex: '^@libkvm/(vmcore|fixtures)(/|$)',
  message: 'Nothing imports the command, and the fixtures are not published.',
};
const insides = { regex: '^@libkvm/[^/]+/(src|dist)/|/packages/|/src/', message: 'Import packages by name.' };

const builtins = builtinModules.filter((name) => !name.startsWith('_')).join('|');
const nodeModules = { regex: `^node:|^(${builtins})(/|$)`, message: 'This file must run in a browser.' };
const nodeFiles = {
  regex: String.raw`^\.{1,2}/(.*/)?node([-./]|$)`,
  message: 'This file must run in a browser; src/node* holds what needs Node.',
};
const nodeEntries = { regex: '^@libkvm/[^/]+/node$', message: 'This file must run in a browser.' };
const nodeGlobals = [
  'Buffer',
  'process',
  'global',
  'require',
  'module',
  'exports',
  '__dirname',
  '__filename',
  'setImmediate',
  'clearImmediate',
];
const pageGlobals = ['window', 'document', 'localStorage', 'sessionStorage', 'alert', 'location'];

const imports = (...patterns) => ({ 'no-restricted-imports': ['error', { patterns }] });
const globals = (names) => ({
  'no-restricted-globals': ['error', ...names.map((name) => ({ name, message: 'Not there everywhere.' }))],
});

const nodeOnly = nodeOnlyFolders().map((folder) => `packages/${folder}/**`);
const nodeSide = ['packages/*/src/node.ts', 'packages/*/src/node-*.ts', 'packages/*/src/node/**'];

export default defineConfig(
  { ignores: ['**/dist/', '**/coverage/', '**/temp/', '**/etc/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: ['./tsconfig.json'], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      eqeqeq: 'error',
      'max-lines': ['warn', 300],
      'no-console': 'error',
      // Several counters in one for loop, parallel typed arrays, tables indexed by field numbers.
      '@typescript-eslint/prefer-for-of': 'off',
      // Index access is not checked (noUncheckedIndexedAccess is off), so `!` says something here.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An asynchronous face over synchronous work has methods without await.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-empty-function': 'off',
      '@typescript-eslint/class-literal-property-style': 'off',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true, requireDefaultForNonUnion: false },
      ],
    },
  },

  // Where imports may point, and what must run without Node. A file takes the last rule that fits it.
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: [...nodeOnly, ...nodeSide],
    rules: {
      ...imports(coreAndReader, nothingAbove, insides, nodeModules, nodeFiles, nodeEntries),
      ...globals([...nodeGlobals, ...pageGlobals]),
    },
  },
  {
    files: ['packages/arch-*/src/**/*.ts', 'packages/kvm-reader/src/**/*.ts'],
    ignores: nodeSide,
    rules: imports(onlyCore, insides, nodeModules, nodeFiles),
  },
  {
    files: ['packages/minidump-core/src/**/*.ts'],
    rules: imports(anyOfOurs, insides, nodeModules, nodeFiles),
  },
  { files: nodeSide, rules: imports(nothingAbove, insides) },
  {
    files: nodeOnly.map((pattern) => pattern.replace('**', 'src/**/*.ts')),
    rules: imports(nothingAbove, insides),
  },
  { files: ['packages/fixtures/src/**/*.ts'], rules: imports(anyOfOurs, insides) },
  { files: ['packages/vmcore/src/**/*.ts'], rules: { 'no-console': 'off' } },

  {
    files: ['**/test/**/*.ts', '**/*.test.ts', '*.ts', 'packages/fixtures/**/*.ts'],
    rules: {
      'max-lines': 'off',
      'no-console': 'off',
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
    },
  },
  {
    files: ['**/*.{js,mjs,cjs}'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'Buffer',
          'console',
          'performance',
          'process',
          'setTimeout',
          'clearTimeout',
          'TextDecoder',
          'TextEncoder',
        ]
          .concat([
            'URL',
            'fetch',
            'AbortController',
            'AbortSignal',
            'Blob',
            'setImmediate',
            'structuredClone',
          ])
          .map((name) => [name, 'readonly']),
      ),
    },
  },
);

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const packages = fileURLToPath(new URL('./packages', import.meta.url));

// The packages' names mean their sources, so that tests need no build.
export default defineConfig({
  resolve: {
    alias: [
      { find: /^@libkvm\/([^/]+)$/, replacement: `${packages}/$1/src/index.ts` },
      { find: /^@libkvm\/([^/]+)\/(?!package\.json$)(.+)$/, replacement: `${packages}/$1/src/$2.ts` },
    ],
  },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'examples/**/*.test.ts'],
    // By default one processor is left idle, of two that there may be.
    maxWorkers: '100%',
    testTimeout: process.env.LIBKVM_LONG ? 600_000 : 20_000,
    coverage: {
      provider: 'v8',
      include: ['packages/*/src/**/*.ts'],
      exclude: ['packages/fixtures/**'],
      reporter: ['text-summary', 'html'],
    },
  },
});

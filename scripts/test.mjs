// `npm test`: installs, builds and runs every gate, then the tests. `--gates` leaves the tests out.
// Gates do not stop each other; the last line counts the tests, the exit status covers everything. With the tests goes
// the browser lane, which is skipped where there is no Chromium.
import './node-version.mjs';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { install } from './install.mjs';
import { inLanes, run, runTool, step, StepError } from './steps.mjs';
import { cacheFolder, readJson } from './workspace.mjs';

const script = (name) => run(process.execPath, [join('scripts', name)]);

/** Each a chain of steps; a failure ends its chain only. */
const gates = [
  async () => {
    await build();
    const errors = await inLanes(1, [
      () => step('packages', () => script('packs.mjs')),
      () => step('api reports', () => script('api.mjs')),
    ]);
    if (errors.length > 0) throw errors[0];
  },
  () => step('lint', () => runTool('eslint', ['.'])),
  () => step('types', () => runTool('typescript:tsc', ['-p', 'tsconfig.json'])),
  () => step('types, neutral', () => runTool('typescript:tsc', ['-p', 'tsconfig.neutral.json'])),
  () => step('format', () => runTool('prettier', ['--check', '--log-level', 'warn', '.'])),
];

/** The lane's last line says how it went, or why it was skipped. */
const browserLane = () =>
  step('browser', async () => (await script('browser.mjs')).trim().split('\n').at(-1));

/** Runs the tests and returns how many passed, failed and were skipped. */
async function tests() {
  const file = join(cacheFolder, 'vitest.json');
  mkdirSync(cacheFolder, { recursive: true });
  rmSync(file, { force: true });
  const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  let failure;
  await step('tests', () => runTool('vitest', args)).catch((error) => (failure = error));
  return { ...count(file), failure };
}

function count(file) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  // No report means that vitest itself failed: that is no run without failures.
  if (!existsSync(file)) return { ...counts, failed: 1 };
  for (const { status, assertionResults } of readJson(file).testResults) {
    for (const test of assertionResults) {
      if (test.status === 'passed' || test.status === 'failed') counts[test.status]++;
      else counts.skipped++;
    }
    // A file that does not load has no tests to count, and its failure shows nowhere else.
    if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) counts.failed++;
  }
  return counts;
}

function printCounts({ passed, failed, skipped }) {
  const tail = skipped > 0 ? `, ${skipped} skipped` : '';
  console.log(`Tests: ${passed} passed, ${failed} failed${tail}`);
}

const withTests = !process.argv.includes('--gates');
let result = { passed: 0, failed: 0, skipped: 0, failure: undefined };
let errors = [];
try {
  await install();
  errors = await inLanes(2, gates);
  if (withTests) {
    result = await tests();
    await browserLane().catch((error) => errors.push(error));
  }
} catch (error) {
  errors.push(error);
  if (!(error instanceof StepError)) console.error(error);
  result.failed = 1;
}
if (errors.length > 0) console.error('\nNot every gate passed: see FAILED above.');
if (result.failure && result.failed === 0) console.error('\nThe test run failed: see above.');
if (errors.length > 0 || result.failed > 0 || result.failure) process.exitCode = 1;
if (withTests) printCounts(result);

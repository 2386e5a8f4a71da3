// Damages cores without end: see scripts/fuzz.mjs, which bundles and runs it.
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { runOne, tallyOf, type Tally } from './run.js';
import { makeTargets } from './targets.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    count: { type: 'string' },
    only: { type: 'string' },
  },
});
const number = (name: 'seconds' | 'seed' | 'count'): number | undefined => {
  const text = values[name];
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  console.error(`--${name} takes a number, not ${text}`);
  process.exit(2);
};
const [count, seed] = [number('count'), number('seed') ?? 0];
const seconds = number('seconds') ?? (count === undefined ? 60 : Infinity);
const all = makeTargets();
const targets = all.filter(({ name }) => values.only === undefined || name === values.only);
if (targets.length === 0) {
  console.error(`--only takes one of ${all.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

/** More different complaints than this are not worth waiting for. */
const MOST_FAILURES = 20;
/** No mutation takes a second: one that takes so many milliseconds runs without end. */
const PATIENCE = 60_000;

interface Report {
  readonly lines: readonly string[];
  readonly failures: readonly string[];
}

/** What is under way: index of the target, and the seed. */
const progress = new Int32Array((workerData as SharedArrayBuffer | null) ?? new SharedArrayBuffer(8));
if (isMainThread) watch();
else parentPort?.postMessage(work());

/** Runs the work in a thread of its own, since nothing else can end a loop without end. */
function watch(): void {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: progress.buffer,
    argv: process.argv.slice(2),
  });
  let before = '';
  const timer = setInterval(() => {
    const now = progress.join();
    if (now === before) {
      console.error(`\nWITHOUT END: ${again(targets[progress[0]].name, progress[1])}`);
      process.exit(1);
    }
    before = now;
  }, PATIENCE);
  worker.on('message', ({ lines, failures }: Report) => {
    for (const line of lines) console.log(line);
    for (const failure of failures) console.error(`\n${failure}`);
    if (failures.length > 0) process.exitCode = 1;
  });
  worker.on('error', (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  worker.on('exit', () => clearInterval(timer));
}

function again(target: string, own: number): string {
  return `node scripts/fuzz.mjs --only ${target} --seed ${own} --count 1`;
}

function work(): Report {
  const failures: string[] = [];
  const told = new Set<string>();
  const tallies = targets.map(tallyOf);
  const spent = targets.map(() => 0);
  const slowest = { milliseconds: 0, what: '' };
  const start = performance.now();
  const goesOn = (done: number): boolean =>
    done < (count ?? Infinity) &&
    failures.length < MOST_FAILURES &&
    performance.now() - start < seconds * 1000;
  for (let done = 0; goesOn(done); done++) {
    const i = done % targets.length;
    const own = (seed + Math.floor(done / targets.length)) % 2 ** 31;
    progress.set([i, own]);
    const before = performance.now();
    const failure = runOne(targets[i], own, tallies[i]);
    const milliseconds = performance.now() - before;
    spent[i] += milliseconds;
    if (milliseconds > slowest.milliseconds)
      Object.assign(slowest, { milliseconds, what: `${targets[i].name} seed ${own}` });
    if (!failure) continue;
    const { error } = failure;
    // The same complaint once for each target: digits are what differs between its occurrences.
    const complaint = `${targets[i].name} ${String(error).replace(/[0-9a-fx]+/g, '#')}`;
    const text = error instanceof Error ? error.stack : String(error);
    if (!told.has(complaint)) failures.push(`FAILED: ${again(targets[i].name, own)}\n${text}`);
    told.add(complaint);
  }
  const total = tallies.reduce((sum, tally) => sum + tally.count, 0);
  const lines = [
    ...tallies.map((tally, i) => lineOf(tally, spent[i])),
    `${total} mutations in ${((performance.now() - start) / 1000).toFixed(1)} s, from seed ${seed}`,
    `the slowest took ${slowest.milliseconds.toFixed(0)} ms: ${slowest.what}`,
  ];
  return { lines, failures };
}

function lineOf({ name, count: runs, outcomes, mostAtOnce, mostTotal }: Tally, spent: number): string {
  const kb = (bytes: number): string => `${Math.round(bytes / 1024)} KB`;
  const ends = [...outcomes].sort((a, b) => b[1] - a[1]).map(([code, times]) => `${code} ${times}`);
  return (
    `${name.padEnd(15)} ${String(runs).padStart(7)} in ${(spent / 1000).toFixed(1)} s: ${ends.join(', ')};` +
    ` at most ${kb(mostAtOnce)} at once, ${kb(mostTotal)} in all`
  );
}

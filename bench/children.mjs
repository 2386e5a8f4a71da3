// Figures that need a process of their own: memory, and first calls before anything is compiled.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { figure, median } from './measure.mjs';

const CACHE_MB = 32;
const ALLOWED_MB = CACHE_MB + 8;

/** Memory and opening time on the giant core. */
export function giantCore(giant) {
  const { start, end } = giant.window;
  const addresses = [...giant.written.map(String), String(start), String(end)];
  const { offset, length } = giant.dump.expected.sections.bitmap;
  const args = [giant.path, `${offset}`, `${length}`];
  const results = [1, 2, 3].map(() => child('giant-child.mjs', args, addresses.join('\n')));
  const of = (key) => median(results.map((result) => result[key]));
  return [
    figure({
      ...{ name: `64 GB core: heap and buffers after all that`, unit: 'MB', value: of('megabytes') },
      limit: ALLOWED_MB,
    }),
    figure({
      ...{ name: '64 GB core: open', unit: 'ms', value: of('open'), floor: of('openFloor') },
      floorIs: 'read its bitmap of 32 MB, add up the words',
    }),
    figure({ name: '64 GB core: random 8-byte read', unit: 'ns', value: of('read') }),
    figure({ name: '64 GB core: first rows of the page walk', unit: 'ms', value: of('walk') }),
  ];
}

/** The first call in a new process: loading, compiling and running. */
export function firstCalls(dense) {
  const results = [1, 2, 3, 4, 5].map(() => child('first-child.mjs', [dense.path]));
  const of = (key) => median(results.map((result) => result[key]));
  return [
    figure({ name: 'new process: load the library', unit: 'ms', value: of('load') }),
    figure({ name: 'new process: first open', unit: 'ms', value: of('open') }),
    figure({ name: 'new process: first readU64', unit: 'ms', value: of('read') }),
    figure({ name: `new process: first page walk, ${of('rows')} rows`, unit: 'ms', value: of('walk') }),
  ];
}

function child(script, args, input = '') {
  const path = fileURLToPath(new URL(script, import.meta.url));
  return JSON.parse(execFileSync(process.execPath, ['--expose-gc', path, ...args], { input }).toString());
}

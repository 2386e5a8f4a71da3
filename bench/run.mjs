// `node bench/run.mjs [read] [architectures] [create] [convert] [--json FILE]`: see README.md. Nothing is asserted; what misses its target is
// marked `miss`.
import { closeSync, existsSync, openSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

const built = (name) => fileURLToPath(new URL(`../packages/${name}/dist/node.js`, import.meta.url));
const missing = ['kvm-reader', 'fixtures'].filter((name) => !existsSync(built(name)));
if (missing.length > 0) {
  console.error(`not built: ${missing.join(', ')}; run \`npm run build\` first`);
  process.exit(1);
}

const { architectures } = await import('./architectures.mjs');
const { bulkReads, pageReads } = await import('./bulk-reads.mjs');
const { firstCalls, giantCore } = await import('./children.mjs');
const { makeDense, makeGiant, withFolderAsync } = await import('./cores.mjs');
const { benchConvert } = await import('./convert.mjs');
const { benchCreate } = await import('./create.mjs');
const { opening, walking } = await import('./open-and-walk.mjs');
const { wholeCoreReads, workingSetReads } = await import('./small-reads.mjs');
const { printTable } = await import('./table.mjs');
const { openKvmFile } = await import('../packages/kvm-reader/dist/node.js');

const words = process.argv.slice(2);
const json = words.includes('--json') ? words.splice(words.indexOf('--json'), 2)[1] : undefined;
const wants = (part) => words.length === 0 || words.includes(part);
const print = (line) => console.error(`# ${line}`);

const machine = { node: process.version, cpu: cpus()[0].model, cpus: cpus().length };
/** Bytes of the files that are read, by name. */
const files = {};
const figures = [
  ...(wants('read') ? await benchRead() : []),
  ...(wants('architectures') ? await withFolderAsync(architectures) : []),
  ...(wants('create') ? await benchCreate(print) : []),
  ...(wants('convert') ? await benchConvert(print) : []),
];
const report = { machine, files, figures };
printTable(report);
if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);

function benchRead() {
  return withFolderAsync((folder) => {
    print('making a dense core of 100 MB and a sparse one of 64 GB');
    const dense = makeDense(folder);
    const giant = makeGiant(folder);
    files['dense core'] = statSync(dense.path).size;
    files['64 GB core'] = statSync(giant.path).size;
    print('reading them');
    const fd = openSync(dense.path, 'r');
    const onDense = (action) => {
      const kvm = openKvmFile(dense.path);
      const measured = action(kvm, dense, fd);
      kvm.close();
      return measured;
    };
    const rows = [
      ...onDense(workingSetReads),
      ...onDense(wholeCoreReads),
      ...onDense(pageReads),
      ...onDense(bulkReads),
      ...opening(dense),
      ...onDense(walking),
      ...firstCalls(dense),
      ...giantCore(giant),
    ];
    closeSync(fd);
    return rows;
  });
}

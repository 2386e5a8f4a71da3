// `node bench/run.mjs [--json FILE]`: see README.md. Nothing is asserted; what misses its target is marked `miss`.
import { closeSync, existsSync, openSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

const built = (name) => fileURLToPath(new URL(`../packages/${name}/dist/node.js`, import.meta.url));
const missing = ['kvm-reader', 'fixtures'].filter((name) => !existsSync(built(name)));
if (missing.length > 0) {
  console.error(`not built: ${missing.join(', ')}; run \`npm run build\` first`);
  process.exit(1);
}

const { makeDense, makeGiant, withFolder } = await import('./cores.mjs');
const { openKvmFile } = await import('../packages/kvm-reader/dist/node.js');
const { bulkReads, pageReads } = await import('./bulk-reads.mjs');
const { firstCalls, giantCore } = await import('./children.mjs');
const { opening, walking } = await import('./open-and-walk.mjs');
const { wholeCoreReads, workingSetReads } = await import('./small-reads.mjs');
const { printTable } = await import('./table.mjs');

const report = withFolder((folder) => {
  const dense = makeDense(folder);
  const giant = makeGiant(folder);
  const fd = openSync(dense.path, 'r');
  const onDense = (action) => {
    const kvm = openKvmFile(dense.path);
    const rows = action(kvm, dense, fd);
    kvm.close();
    return rows;
  };
  const figures = [
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
  const machine = {
    ...{ node: process.version, cpu: cpus()[0].model, cpus: cpus().length },
    ...{ denseBytes: statSync(dense.path).size, giantBytes: statSync(giant.path).size },
  };
  return { machine, figures };
});

printTable(report);
const json = process.argv.indexOf('--json');
if (json > 0) writeFileSync(process.argv[json + 1], `${JSON.stringify(report, null, 2)}\n`);

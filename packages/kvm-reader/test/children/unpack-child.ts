// Opens the compressed core argv[2], through an index where argv[3] says so, reads all of it, and tells how much memory
// that took at its most.
import { openKvmFile } from '../../src/node.js';

const [, , path, how] = process.argv;

function held(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  gc?.(); // the memory of buffers is given back behind the first one
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const before = held();
let most = before;
let looked = 0;
const started = performance.now();
const kvm = openKvmFile(path, {
  index: how === 'index',
  cacheBytes: 2 ** 20,
  onProgress(done) {
    if (Math.floor(done / 2 ** 24) > Math.floor(looked / 2 ** 24)) most = Math.max(most, held());
    looked = done;
  },
});
const seconds = (performance.now() - started) / 1000;
const { cache } = kvm.core;
const target = new Uint8Array(2 ** 20);
let sum = 0;
for (let offset = 0; offset < cache.size; offset += target.length) {
  const got = cache.readSync(offset, target, 0, target.length);
  for (let i = 0; i < got; i += 4096) sum = (sum * 31 + target[i]) % 1000003;
  if (offset % 2 ** 24 === 0) most = Math.max(most, held());
}
most = Math.max(most, held());
process.stdout.write(
  `${JSON.stringify({ megabytes: (most - before) / 2 ** 20, size: cache.size, sum, seconds, warnings: kvm.core.warnings })}\n`,
);
kvm.close();

// `node --expose-gc giant-child.mjs CORE BITMAP-OFFSET BITMAP-LENGTH < ADDRESSES`: memory and times on the core of a
// terabyte, as JSON. The last two addresses are a window in which everything is mapped, the others are pages with content.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { openKvmFile } from '../packages/kvm-reader/dist/node.js';
import { random } from './cores.mjs';

const READS = 100_000;
const ROWS = 50_000;

const path = process.argv[2];
const addresses = readFileSync(0, 'utf8').split('\n').map(BigInt);
const [start, end] = addresses.splice(-2);
const result = {};

const held = () => {
  globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};
const timed = (name, divisor, action) => {
  const from = performance.now();
  const value = action();
  result[name] = (performance.now() - from) / divisor;
  return value;
};

// Holes of the file take their place in the page cache when they are read first; twice, since the second is compiled.
addUpBitmap();
timed('openFloor', 1, addUpBitmap);
const before = held();
const kvm = timed('open', 1, () => openKvmFile(path));
timed('read', READS / 1e6, randomReads);
const walk = kvm.pages();
timed('walk', 1, () => {
  for (let i = 0; i < ROWS; i++) if (walk.next().done) break;
});
result.megabytes = (held() - before) / 2 ** 20;
walk.return();
kvm.close();
console.log(JSON.stringify(result));

/** Half of them in the mapped window, half in pages with content, by turns. */
function randomReads() {
  const { below } = random(3);
  const target = new Uint8Array(8);
  const pages = Number((end - start) / 4096n);
  for (let i = 0; i < READS; i += 2) {
    kvm.readInto(start + BigInt(below(pages)) * 4096n + BigInt(below(512) * 8), target);
    const page = addresses[below(addresses.length)];
    kvm.readPartial(page, 8);
  }
}

function addUpBitmap() {
  const [offset, length] = process.argv.slice(3).map(Number);
  const words = new Uint32Array(65536);
  const bytes = new Uint8Array(words.buffer);
  const fd = openSync(path, 'r');
  let sum = 0;
  for (let at = 0; at < length; at += bytes.length) {
    readSync(fd, bytes, 0, bytes.length, offset + at);
    for (let i = 0; i < words.length; i++) sum = (sum + words[i]) | 0;
  }
  closeSync(fd);
  return sum;
}

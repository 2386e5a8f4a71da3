// Making a minidump: `create` against a plain copy, planning by itself, and the memory that it takes.
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Amd64Machine, pagesOf, Prng } from '../packages/fixtures/dist/index.js';
import { openKvmFile, writeDumpFile } from '../packages/kvm-reader/dist/node.js';
import { dumpSourceOf, planPortable } from '../packages/minidump-core/dist/index.js';
import { withFolderAsync } from './cores.mjs';
import { figure, median } from './measure.mjs';

const MB = 2 ** 20;
const IMAGE_BYTES = 1024 * MB;
const TWO_MB = 2 * MB;
const PIECE = MB;
const ROUNDS = 5;

/**
 * All figures about making minidumps, as rows for the table. Makes and removes its own folder.
 *
 * @param print called with a line about what is going on
 */
export async function benchCreate(print = () => undefined) {
  return withFolderAsync(async (folder) => {
    print('making an image of 1 GB with 400 MB mapped');
    const image = makeImage(join(folder, 'image'));
    print('creating minidumps of it');
    return [...(await creating(image, folder)), ...planning(image), ...giantPlan()];
  });
}

/** 200 MB in 4 KB pages whose frames lie in runs of 1 to 64, 200 MB in 2 MB pages; a raw image of 1 GB from PA 0. */
export function makeImage(path) {
  const prng = new Prng(1);
  const common = { writable: true, executable: false, global: true };
  const runs = [];
  for (let pa = 64 * MB; pa < 264 * MB;) {
    const pages = Math.min(prng.between(1, 64), (264 * MB - pa) / 4096);
    runs.push({ pa, pages });
    pa += pages * 4096;
  }
  let kva = 0xfffffe0000000000n;
  const small = prng.shuffle(runs).map(({ pa, pages }) => {
    const mapping = { ...common, kva, pa, pages, pageSize: 0x1000 };
    kva += BigInt(pages * 4096);
    return mapping;
  });
  const large = Array.from({ length: 100 }, (_, i) => ({
    ...{ ...common, kva: 0xfffffe0040000000n + BigInt(i * TWO_MB), pages: 1, pageSize: TWO_MB },
    pa: 400 * MB + ((i * 37) % 100) * 3 * TWO_MB,
  }));
  const machine = new Amd64Machine({
    ram: [{ start: 0, end: IMAGE_BYTES }],
    kernbase: 0xfffffe0000000000n,
    kvaEnd: 1n << 64n,
    dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
    mappings: [...small, ...large],
    tablePool: pagesOf(16 * MB, 32 * MB),
  });
  writeImage(path, machine, prng);
  const registers = { CR3: BigInt(machine.cr3), CR4: 0x6f0n };
  return { path, registers, mappedBytes: 400 * MB };
}

/** Tables and mapped frames have content, the rest is a hole. */
function writeImage(path, { ram, description }, prng) {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, IMAGE_BYTES);
  const noise = Uint8Array.from({ length: TWO_MB }, () => prng.below(256));
  for (const { pa, pages, pageSize } of description.mappings) writeSync(fd, noise, 0, pages * pageSize, pa);
  for (const pa of ram.writtenPages()) writeSync(fd, ram.readBytes(pa, 4096), 0, 4096, pa);
  fsyncSync(fd);
  closeSync(fd);
}

export function openImage({ path, registers }) {
  return openKvmFile(path, { raw: [{ pa: 0 }], image: { architecture: 'amd64', registers } });
}

/** The whole of `create` and the plain copy of its result take turns. */
async function creating(image, folder) {
  const target = join(folder, 'dump');
  const times = { create: [], copy: [] };
  for (let round = -1; round < ROUNDS; round++) {
    rmSync(target, { force: true });
    const create = await timed(async () => {
      const kvm = openImage(image);
      await writeDumpFile(planPortable(dumpSourceOf(kvm.core)), target);
      kvm.close();
    });
    const copy = await timed(() => copyFile(target, join(folder, 'copy')));
    rmSync(join(folder, 'copy'));
    if (round < 0) continue;
    times.create.push(create);
    times.copy.push(copy);
  }
  return [
    figure({
      ...{ name: `create from a 1 GB image, ${Math.round(statSync(target).size / 1e6)} MB dump`, unit: 'ms' },
      ...{ value: median(times.create), floor: median(times.copy), limit: 1.25 },
      floorIs: 'read/write loop and fsync over the same bytes',
    }),
  ];
}

/** What anyone would write: pieces of 1 MB, one after the other, flushed. */
export function copyFile(from, to) {
  const source = openSync(from, 'r');
  const target = openSync(to, 'w');
  const piece = new Uint8Array(PIECE);
  for (;;) {
    const count = readSync(source, piece, 0, PIECE);
    if (count === 0) break;
    for (let at = 0; at < count;) at += writeSync(target, piece, at, count - at);
  }
  fsyncSync(target);
  closeSync(target);
  closeSync(source);
}

export async function timed(action) {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

/** Planning alone, warm, by GB mapped. */
function planning(image) {
  const kvm = openImage(image);
  const windows = {
    '4 KB pages': { from: 0xfffffe0000000000n, to: 0xfffffe0040000000n },
    '2 MB pages': { from: 0xfffffe0040000000n, to: 0xfffffe0080000000n },
  };
  const rows = Object.entries(windows).map(([name, window]) => {
    const times = [];
    let bytes = 0;
    for (let round = -3; round < 7; round++) {
      const start = performance.now();
      bytes = planPortable(dumpSourceOf(kvm.core), window).report.mappedBytes;
      if (round >= 0) times.push(performance.now() - start);
    }
    const value = (median(times) / bytes) * 2 ** 30;
    return figure({ name: `planning, for each GB mapped in ${name}`, unit: 'ms', value });
  });
  kvm.close();
  return rows;
}

/** A machine with a terabyte of addresses: planned, and a gigabyte of it written to nowhere, in a process of its own. */
function giantPlan() {
  const script = fileURLToPath(new URL('plan-child.mjs', import.meta.url));
  const results = [1, 2, 3].map(() =>
    JSON.parse(execFileSync(process.execPath, ['--expose-gc', script]).toString()),
  );
  const of = (key) => median(results.map((result) => result[key]));
  return [
    figure({ name: `1 TB machine: plan a dump of ${of('dumpGigabytes')} GB`, unit: 'ms', value: of('plan') }),
    figure({
      ...{ name: '1 TB machine: heap and buffers for planning and writing', unit: 'MB' },
      ...{ value: of('megabytes'), limit: 40 },
    }),
  ];
}

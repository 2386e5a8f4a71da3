// Plans a dump of a machine with a terabyte of physical addresses, writes the first GB of it to nowhere, and says what
// that took: { plan, megabytes, dumpGigabytes }.
import { crc32 } from 'node:zlib';
import {
  literalAddressSpace,
  PageRanges,
  planPortable,
  writeDumpSync,
} from '../packages/minidump-core/dist/index.js';

const GB = 2 ** 30;

/** Memory that is there and costs nothing: zeros. */
const memory = {
  ranges: new PageRanges(
    [
      { start: 0x1000, end: 0x9f000 },
      { start: 0x100000, end: 2 * GB },
      { start: 4 * GB, end: 1026 * GB },
    ],
    4096,
  ),
  available(pa, limit) {
    const pfn = Math.floor(pa / 4096);
    const bit = this.ranges.bitOf(pfn);
    return bit < 0 ? 0 : Math.min(limit, (pfn + this.ranges.endBitOf(pfn) - bit) * 4096 - pa);
  },
  readSync: (_pa, target, at, length) => target.fill(0, at, at + length),
};

/** 64 pieces of 1 GB all over the terabyte, in 2 MB pages; and a comb of single pages. */
const mappings = [
  ...Array.from({ length: 64 }, (_, i) => ({
    ...{ kva: 0xfffffe0000000000n + BigInt(i * GB), pa: (8 + ((i * 13) % 64) * 15) * GB },
    ...{ length: GB, pageSize: 0x200000 },
  })),
  ...Array.from({ length: 4096 }, (_, i) => ({
    ...{ kva: 0xffffff0000000000n + BigInt(i * 4096), pa: 1000 * GB + i * 0x100000, length: 4096 },
  })),
];
const addressSpace = literalAddressSpace(mappings);
const machine = {
  ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'amd64',
};

const held = () => {
  globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

const before = held();
const start = performance.now();
const plan = planPortable({ machine, memory, addressSpace });
const planTime = performance.now() - start;
let most = held();
let done = 0;
const controller = new AbortController();
const sink = {
  write(bytes) {
    const last = done;
    done += bytes.length;
    if (Math.floor(done / (GB / 8)) > Math.floor(last / (GB / 8))) most = Math.max(most, held());
    if (done > GB) controller.abort();
  },
};
try {
  writeDumpSync(plan, sink, { crc32, signal: controller.signal });
} catch (error) {
  if (error.code !== 'ABORTED') throw error;
}
console.log(
  JSON.stringify({
    plan: planTime,
    megabytes: (most - before) / 2 ** 20,
    dumpGigabytes: Math.round(plan.size / GB),
  }),
);

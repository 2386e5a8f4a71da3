// A machine with a terabyte of physical addresses and 64 GB mapped, all over it: plans a dump from its page tables, writes
// the first 256 MB to nowhere, and tells how much memory that took at its most.
import { crc32 } from 'node:zlib';
import { amd64 } from '@libkvm/arch-amd64';
import { Amd64Machine, pagesOf, type Amd64Mapping } from '@libkvm/fixtures';
import { dumpSourceOf, isKvmError, planPortable, writeDumpSync } from '@libkvm/minidump-core';
import { openKvm } from '../../src/index.js';
import { RamSource } from '../support/ram-source.js';

const GB = 2 ** 30;
const common = { writable: true, executable: false } as const;
const superpages = Array.from({ length: 32 }, (_, i): Amd64Mapping => ({
  ...{ ...common, kva: 0xfffffe0000000000n + BigInt(i * 2 * GB), pa: (8 + ((i * 13) % 32) * 30) * GB },
  ...{ pageSize: 0x200000, pages: 1024 },
}));
const comb = Array.from({ length: 4096 }, (_, i): Amd64Mapping => ({
  ...{ ...common, kva: 0xffffff0000000000n + BigInt(i * 4096), pa: 1000 * GB + i * 0x100000 },
  ...{ pageSize: 0x1000, pages: 1 },
}));
const machine = new Amd64Machine({
  ram: [
    { start: 0x1000, end: 0x9f000 },
    { start: 0x100000, end: 2 * GB },
    { start: 4 * GB, end: 1026 * GB },
  ],
  kernbase: 0xfffffe0000000000n,
  kvaEnd: 1n << 64n,
  dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
  mappings: [...superpages, ...comb],
  tablePool: pagesOf(0x1000000, 0x2000000),
});
const kvm = openKvm(new RamSource(machine.ram, 1026 * GB), {
  ...{
    architectures: [amd64],
    raw: machine.ram.ranges.map(({ start, end }) => ({ pa: start, offset: start, length: end - start })),
  },
  image: { architecture: 'amd64', registers: { CR3: BigInt(machine.cr3), CR4: 0x6f0n } },
});

function held(): number {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const before = held();
const plan = planPortable(dumpSourceOf(kvm.core));
let most = held();
let done = 0;
const controller = new AbortController();
try {
  const sink = {
    write(bytes: Uint8Array): void {
      if (Math.floor((done + bytes.length) / 2 ** 25) > Math.floor(done / 2 ** 25))
        most = Math.max(most, held());
      done += bytes.length;
      if (done > 2 ** 28) controller.abort();
    },
  };
  writeDumpSync(plan, sink, { crc32, signal: controller.signal });
} catch (error) {
  if (!isKvmError(error, 'ABORTED')) throw error;
}
const { size, report } = plan;
process.stdout.write(
  `${JSON.stringify({ megabytes: (most - before) / 2 ** 20, size, pages: report.pages, done })}\n`,
);

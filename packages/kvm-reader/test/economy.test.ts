import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { amd64 } from '@libkvm/arch-amd64';
import { Amd64Machine, directMapOf, pagesOf, Prng, type Amd64Mapping } from '@libkvm/fixtures';
import { dumpSourceOf, planPortable, writeDumpSync, type PortablePlan } from '@libkvm/minidump-core';
import { afterAll, describe, expect, it } from 'vitest';
import { openKvm } from '../src/index.js';
import { bundleChild } from './support/child.js';
import { RamSource } from './support/ram-source.js';

const MB = 2 ** 20;
const GB = 2 ** 30;

/**
 * The machine of the first minidump (FreeBSD r157908, 2006): 8 GB, idle, "a 48 MB dump". Here 16 MB of text and data in
 * superpages and 32 MB of heap in single pages, whose frames lie in runs of 1 to 32 all over the 8 GB; a direct map of
 * everything, which the header alone describes.
 */
function idleMachine(): Amd64Machine {
  const prng = new Prng(2006);
  const ram = [
    { start: 0x1000, end: 0x9f000 },
    { start: 0x100000, end: 3 * GB },
    { start: 4 * GB, end: 9 * GB },
  ];
  const dmap = { base: 0xfffff80000000000n, end: 0xfffff80000000000n + BigInt(9 * GB) };
  const heap: Amd64Mapping[] = [];
  let kva = 0xfffffe0000000000n;
  for (let left = (32 * MB) / 4096; left > 0;) {
    const pages = Math.min(left, prng.between(1, 32));
    const pa = 4 * GB + heap.length * 4 * MB;
    heap.push({ kva, pa, pageSize: 0x1000, pages, writable: true, executable: false, global: true });
    left -= pages;
    kva += BigInt((pages + (prng.chance(20) ? prng.between(1, 40) : 0)) * 4096);
  }
  const kernel = [true, false].map((text, i): Amd64Mapping => ({
    ...{
      kva: 0xffffffff80200000n + BigInt(i * 8 * MB),
      pa: 2 * MB + i * 8 * MB,
      pageSize: 0x200000,
      pages: 4,
    },
    ...{ writable: !text, executable: text, global: true },
  }));
  return new Amd64Machine({
    ...{ ram, dmap, patternSeed: 8, kernbase: 0xfffffe0000000000n, kvaEnd: 1n << 64n },
    mappings: [...directMapOf(ram, dmap.base), ...heap, ...kernel],
    tablePool: pagesOf(64 * MB, 96 * MB),
  });
}

function reportOf(report: PortablePlan['report']): string {
  const { size, pages, metadataBytes, metadataShare, tables } = report;
  const kb = (bytes: number): string => `${Math.round(bytes / 1024)} KB`;
  return (
    `8 GB machine: a dump of ${(size / MB).toFixed(1)} MB, ${pages} pages; metadata ${kb(metadataBytes)} ` +
    `(${(metadataShare * 100).toFixed(2)} %), of which tables ${kb(tables.bytes)}; FLAT alone ${kb(tables.flatBytes)}`
  );
}

describe('economy', () => {
  it('makes 48 MB and a little of an idle machine with 8 GB', () => {
    const machine = idleMachine();
    const kvm = openKvm(new RamSource(machine.ram, 9 * GB), {
      architectures: [amd64],
      raw: machine.ram.ranges.map(({ start, end }) => ({ pa: start, offset: start, length: end - start })),
      image: { architecture: 'amd64', registers: { CR3: BigInt(machine.cr3), CR4: 0x6f0n } },
    });
    const directMap = { ...machine.description.dmap, phys: 0 };
    const source = dumpSourceOf(kvm.core, { directMap, kernbase: machine.description.kernbase });
    const plan = planPortable(source);
    const flat = planPortable(source, { run: false });
    console.log(reportOf(plan.report));
    expect(plan.report).toMatchObject({ pages: (48 * MB) / 4096, mappedBytes: 48 * MB });
    expect(plan.size).toBe(48 * MB + plan.report.metadataBytes);
    // The bitmap has a bit for each page of 8 GB: 256 KB, half of all that is not memory.
    expect(plan.report.metadataBytes).toBeLessThan(512 * 1024);
    expect(plan.report.metadataShare).toBeLessThan(0.01);
    expect(plan.report.tables.flatBytes).toBe(flat.report.tables.bytes);
    expect(plan.report.tables.bytes).toBeLessThan(flat.report.tables.bytes);
    let written = 0;
    writeDumpSync(plan, { write: (bytes) => void (written += bytes.length) }, { crc32 });
    expect(written).toBe(plan.size);
  });
});

describe('memory', () => {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-economy-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('is bounded on a machine with a terabyte of addresses', async () => {
    const child = await bundleChild('giant-child', folder);
    const told = execFileSync(process.execPath, ['--expose-gc', child]).toString();
    const { megabytes, size, pages, done } = JSON.parse(told) as Record<string, number>;
    expect(pages).toBe((64 * GB) / 4096 + 4096);
    expect(size).toBeGreaterThan(64 * GB);
    expect(done).toBeGreaterThan(2 ** 28);
    // Where bits are set the bitmap is held (2 MB for 64 GB); two buffers of 1 MB; what a walk needs.
    console.log(`1 TB machine: ${megabytes.toFixed(1)} MB for planning and writing`);
    expect(megabytes).toBeLessThan(16);
  });
});

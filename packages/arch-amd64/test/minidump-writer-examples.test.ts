import { Amd64Machine, pagesOf, type Amd64MachineDescription, type Amd64Mapping } from '@libkvm/fixtures';
import {
  BlockCache,
  dumpMemoryOf,
  MemorySource,
  SegmentMemory,
  type DumpSource,
  type MachineFacts,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { RamSource } from '../../kvm-reader/test/support/ram-source.js';
import { amd64Walker } from '../src/index.js';
import { AMD64, lossesOf, write } from './written.js';

/** The worked examples of freebsd-dumps.md 7.1 and 7.2, written: every number is from there. */

/** A file by its hexdump and the words in it; all other bytes are zero. */
function fileOf(size: number, header: string, words: Readonly<Record<number, bigint>>): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(
    header
      .trim()
      .split(/\s+/)
      .map((byte) => parseInt(byte, 16)),
  );
  const view = new DataView(bytes.buffer);
  for (const [at, word] of Object.entries(words)) view.setBigUint64(Number(at), word, true);
  return bytes;
}

function setBits(bytes: Uint8Array, offset: number, ...bits: number[]): void {
  for (const bit of bits) bytes[offset + (bit >> 3)] |= 1 << (bit & 7);
}

/** Compares whole files; says where they differ. */
function expectSame(ours: Uint8Array, theirs: Uint8Array): void {
  const at = ours.findIndex((byte, i) => byte !== theirs[i]);
  expect({ size: ours.length, differsAt: at }).toEqual({ size: theirs.length, differsAt: -1 });
}

function walked(machine: Amd64Machine, facts: Partial<MachineFacts>, ringBytes: number): DumpSource {
  const { ram, cr3 } = machine;
  const size = Math.max(...ram.ranges.map(({ end }) => end));
  const segments = ram.ranges.map(({ start, end }) => ({ pa: start, offset: start, length: end - start }));
  const memory = new SegmentMemory(new BlockCache(new RamSource(ram, size)), segments);
  return {
    machine: { ...AMD64, ...facts },
    memory: dumpMemoryOf(memory),
    addressSpace: amd64Walker(memory, { registers: { CR3: BigInt(cr3) } }),
    messageBuffer: { ring: new MemorySource(new Uint8Array(ringBytes)), start: 0 },
  };
}

const common = { pages: 1, writable: true, executable: false } as const;

describe('7.1 amd64 version 3, written', () => {
  const header = `
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 03 00 00 00 70 7f 01 00
    00 80 00 00 00 f0 7f 00 00 00 00 00 00 fe ff ff
    00 00 00 00 00 f8 ff ff 00 00 00 00 00 fc ff ff
    00 10 00 00 00 00 00 00`;
  const page: Amd64Mapping = {
    ...common,
    ...{ kva: 0xfffffe0012345000n, pa: 0x3456000, pageSize: 0x1000, global: true },
  };
  const large: Amd64Mapping = {
    ...{ kva: 0xffffffff80200000n, pa: 0x1e00000, pageSize: 0x200000, pages: 1 },
    ...{ writable: false, executable: true, global: true },
  };
  const dmap = { base: 0xfffff80000000000n, end: 0xfffffc0000000000n };
  const description: Amd64MachineDescription = {
    ram: [
      { start: 0x1000, end: 0xa0000 },
      { start: 0x100000, end: 0x40000000 },
    ],
    ...{ kernbase: 0xfffffe0000000000n, kvaEnd: 1n << 64n, dmap, mappings: [page, large] },
    tables: [{ kva: page.kva, level: 1, pa: 0x2345000 }],
    tablePool: pagesOf(0x5000000, 0x5100000),
  };

  it('is the file of the document, byte by byte', () => {
    const bytes = fileOf(0xa26000, header, {
      0x19000: 0x1000n,
      0x19008: 0xa0000n,
      0x19010: 0x100000n,
      0x19018: 0x40000000n,
      0x22488: 0x0000000002345063n,
      0x820008: 0x1e001e1n,
      0xa24a28: 0x8000000003456163n,
    });
    const superpage = Array.from({ length: 512 }, (_, i) => 0x1e00 - 0x100 + 159 + i);
    setBits(bytes, 0x1a000, 1, 158, 159, ...superpage, 8932, 13301);
    const machine = new Amd64Machine(description);
    const source = walked(machine, { directMap: { ...dmap, phys: 0 } }, 0x17f70);
    const written = write(source, { addPages: [0x2010, 0x9f000, 0x100fff] });
    expectSame(written.bytes, bytes);
    expect(lossesOf(written)).toEqual({});
    expect(written.plan.report).toMatchObject({
      ...{ format: 'freebsd', version: 3, architecture: 'amd64', size: 0xa26000, pages: 517, added: 3 },
      ...{ tables: { bytes: 0x7ff000, pages: 1 }, metadataBytes: 0x821000, losses: [] },
    });
  });
});

describe('7.2 amd64 version 1, written', () => {
  const header = `
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 01 00 00 00 e0 ff 00 00
    00 80 00 00 00 00 40 00 00 00 00 80 ff ff ff ff
    00 00 00 00 00 ff ff ff 00 00 00 00 80 ff ff ff`;

  it('is the file of the document, but for a page mapped at the end, for the table to be 2 GB', () => {
    const bytes = fileOf(0x41b000, header, { 0x1b918: 0x723063n, 0x418ff8: 0x1063n });
    setBits(bytes, 0x11000, 1, 0x723);
    const dmap = { base: 0xffffff0000000000n, end: 0xffffff8000000000n };
    const machine = new Amd64Machine({
      ram: [{ start: 0x1000, end: 0x40000000 }],
      ...{ kernbase: 0xffffffff80000000n, kvaEnd: 1n << 64n, dmap },
      mappings: [
        { ...common, kva: 0xffffffff80523000n, pa: 0x723000, pageSize: 0x1000, executable: true },
        { ...common, kva: 0xfffffffffffff000n, pa: 0x1000, pageSize: 0x1000, executable: true },
      ],
      tablePool: pagesOf(0x5000000, 0x5100000),
    });
    const facts = { kernbase: 0xffffffff80000000n, directMap: { ...dmap, phys: 0 } };
    const written = write(walked(machine, facts, 0xffe0), { version: 1 });
    expectSame(written.bytes, bytes);
    expect(lossesOf(written)).toEqual({});
  });
});

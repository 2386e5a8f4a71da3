import type { Amd64Mapping } from '@libkvm/fixtures';
import { Amd64Machine, amd64Minidump as dump, pagesOf } from '@libkvm/fixtures';
import {
  ABSENT,
  BlockCache,
  MAPPED,
  MemorySource,
  openMinidump,
  Translation,
  UNMAPPED,
} from '@libkvm/minidump-core';
import type { Core, Outcome } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { amd64Minidump, amd64MinidumpHeader } from '../src/index.js';

/** The worked examples of freebsd-dumps.md 7.1 and 7.2: every number is from there. */

function openBytes(bytes: Uint8Array): Core {
  return openMinidump(new BlockCache(new MemorySource(bytes)), amd64Minidump);
}

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

function translate(
  core: Core,
  kva: bigint,
): { outcome: Outcome; pa: number; flags: string; entry: bigint; offset: number } {
  const out = new Translation();
  const outcome = core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
  const flags = ['r', 'w', 'x'].filter((_, i) => (out.flags >> i) & 1).join('');
  const entry = (BigInt(out.entryHigh) << 32n) | BigInt(out.entryLow);
  return { outcome, pa: out.pa, flags, entry, offset: core.memory.locate(out.pa) };
}

function setBits(bytes: Uint8Array, offset: number, ...bits: number[]): void {
  for (const bit of bits) bytes[offset + (bit >> 3)] |= 1 << (bit & 7);
}

describe('7.1 amd64 version 3', () => {
  const header = `
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 03 00 00 00 70 7f 01 00
    00 80 00 00 00 f0 7f 00 00 00 00 00 00 fe ff ff
    00 00 00 00 00 f8 ff ff 00 00 00 00 00 fc ff ff
    00 10 00 00 00 00 00 00`;
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
  const core = openBytes(bytes);

  it('has its sections', () => {
    expect(core.sections).toEqual([
      { name: 'header', offset: 0, length: 0x1000 },
      { name: 'msgbuf', offset: 0x1000, length: 0x17f70 },
      { name: 'dumpAvail', offset: 0x19000, length: 0x1000 },
      { name: 'bitmap', offset: 0x1a000, length: 0x8000 },
      { name: 'table', offset: 0x22000, length: 0x7ff000 },
      { name: 'pages', offset: 0x821000, length: 517 * 0x1000 },
    ]);
    expect(core).toMatchObject({
      ...{
        format: 'freebsd',
        architecture: 'amd64',
        version: 3,
        byteOrder: 'little',
        bits: 64,
        pageSize: 4096,
      },
      ...{ kernbase: 0xfffffe0000000000n, warnings: [] },
      directMap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n, phys: 0 },
    });
    expect(core.memory.pages).toEqual({ dumped: 517, missing: 0, partial: 0 });
  });

  it('numbers pages through dump_avail', () => {
    const { ranges } = core.memory;
    expect(ranges.pages).toBe(262047);
    expect([0x1000, 0x9f000, 0x100000, 0x3ffff000].map((pa) => ranges.bitOf(pa / 4096))).toEqual([
      0, 158, 159, 262046,
    ]);
  });

  it('answers the queries', () => {
    expect(translate(core, 0xfffffe0012345678n)).toEqual({
      ...{ outcome: MAPPED, pa: 0x3456678, flags: 'rw', entry: 0x8000000003456163n, offset: 0xa25678 },
    });
    expect(translate(core, 0xffffffff80234567n)).toEqual({
      ...{ outcome: MAPPED, pa: 0x1e34567, flags: 'rx', entry: 0x1e001e1n, offset: 0x858567 },
    });
    expect(core.memory.locate(0x2010)).toBe(0x821010); // VA 0xfffff80000002010 of the direct map
    expect(core.memory.locate(0xb0000)).toBe(ABSENT);
    expect(translate(core, 0xfffffe0012346678n).outcome).toBe(UNMAPPED);
  });

  it('is the file that the dumper makes of that machine', () => {
    const page: Amd64Mapping = {
      ...{ kva: 0xfffffe0012345000n, pa: 0x3456000, pageSize: 0x1000, pages: 1 },
      ...{ writable: true, executable: false, global: true },
    };
    const big: Amd64Mapping = {
      ...{ kva: 0xffffffff80200000n, pa: 0x1e00000, pageSize: 0x200000, pages: 1 },
      ...{ writable: false, executable: true, global: true },
    };
    const machine = new Amd64Machine({
      ram: [
        { start: 0x1000, end: 0xa0000 },
        { start: 0x100000, end: 0x40000000 },
      ],
      kernbase: 0xfffffe0000000000n,
      kvaEnd: 0xfffffe0000000000n + 2047n * 0x40000000n,
      dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
      mappings: [page, big],
      tables: [{ kva: page.kva, level: 1, pa: 0x2345000 }],
      tablePool: pagesOf(0x5000000, 0x5100000),
      extraPages: [0x2000, 0x9f000, 0x100000],
      messageBuffer: { pa: 0x6000000, ringSize: 0x17f70, dumped: false },
    });
    const made = openBytes(dump(machine).file.bytes());
    expect(made.sections).toEqual(core.sections);
    for (const kva of [0xfffffe0012345678n, 0xffffffff80234567n]) {
      expect(translate(made, kva)).toEqual(translate(core, kva));
    }
  });
});

describe('7.2 amd64 version 1', () => {
  const header = `
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 01 00 00 00 e0 ff 00 00
    00 80 00 00 00 00 40 00 00 00 00 80 ff ff ff ff
    00 00 00 00 00 ff ff ff 00 00 00 00 80 ff ff ff`;
  const bytes = fileOf(0x41b000, header, { 0x1b918: 0x723063n });
  setBits(bytes, 0x11000, 1, 0x723);

  it('answers the query', () => {
    const core = openBytes(bytes);
    expect(core.sections.map(({ name, offset }) => [name, offset])).toEqual([
      ...[
        ['header', 0],
        ['msgbuf', 0x1000],
        ['bitmap', 0x11000],
        ['table', 0x19000],
        ['pages', 0x419000],
      ],
    ]);
    expect(bytes[0x11000 + 0xe4]).toBe(0x08);
    expect(core.memory.ranges.ranges).toEqual([{ start: 0, end: 0x40000000 }]);
    expect(translate(core, 0xffffffff80523abcn)).toEqual({
      ...{ outcome: MAPPED, pa: 0x723abc, flags: 'rwx', entry: 0x723063n, offset: 0x41aabc },
    });
    expect(translate(core, 0xffffffff80524000n).outcome).toBe(UNMAPPED);
    expect(core.directMap).toEqual({ base: 0xffffff0000000000n, end: 0xffffff8000000000n, phys: 0 });
  });
});

describe('the header structure of 2.1.1', () => {
  it('has its fields at their offsets', () => {
    const { fields, size } = amd64MinidumpHeader;
    const layout = Object.entries(fields).map(([name, { at, kind }]) => `${at} ${kind} ${name}`);
    expect(layout).toEqual([
      '0 char[24] magic',
      '24 u32 version',
      '28 u32 msgbufsize',
      '32 u32 bitmapsize',
      '36 u32 pmapsize',
      '40 u64 kernbase',
      '48 u64 dmapbase',
      '56 u64 dmapend',
      '64 u32 dumpavailsize',
    ]);
    expect(size).toBe(68); // 72 in C, with padding
    expect(amd64MinidumpHeader.toMarkdown().split('\n').length).toBe(2 + layout.length);
  });
});

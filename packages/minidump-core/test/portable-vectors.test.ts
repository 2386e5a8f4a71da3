import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  dumpToBytes,
  entryOf,
  kvaOf,
  literalAddressSpace,
  literalMemory,
  Mapping,
  MemorySource,
  PageRanges,
  planPortable,
  portableFormat,
  protectionOf,
  verifyCore,
  type Core,
  type DumpSource,
  type PlanOptions,
} from '../src/index.js';
import { ModelDump, slowCrc } from './portable-model.js';

/** The vectors of the format document: bytes that were put down by hand, not by this library. */
const FOLDER = fileURLToPath(new URL('../../../docs/formats/vectors/', import.meta.url));

/** A file of annotated hex: `size N`, then `OFFSET BYTES ; comment`; what no line has is zero. */
function readVector(name: string): Uint8Array<ArrayBuffer> {
  const lines = readFileSync(`${FOLDER}${name}.hex`, 'utf8').split('\n');
  const bytes = new Uint8Array(Number(lines.find((line) => line.startsWith('size '))!.slice(5)));
  for (const line of lines) {
    const content = line.replace(/\s*[;#].*$/, '');
    if (content === '' || content.startsWith('size ')) continue;
    const match = /^([0-9a-f]{8})((?: [0-9a-f]{2})+)$/.exec(content);
    if (!match) throw new Error(`${name}: ${line}`);
    bytes.set(Buffer.from(match[2].replaceAll(' ', ''), 'hex'), parseInt(match[1], 16));
  }
  return bytes;
}

/** Pages that start with their own PA as text. */
function pagesAt(...pas: number[]): { pa: number; bytes: Uint8Array }[] {
  return pas.map((pa) => ({ pa, bytes: new TextEncoder().encode(`page 0x${pa.toString(16)}`) }));
}

interface Vector {
  readonly source: DumpSource;
  readonly options: PlanOptions;
  /** Every mapping: KVA, PA, bytes, rights, page size, level, memory type, entry. */
  readonly mappings: readonly string[];
  readonly pages: readonly number[];
  readonly facts: Partial<Core>;
}

const K = 0xffffffff80000000n;
const runPages = Array.from({ length: 16 }, (_, i) => 0x102000 + i * 4096);
const armPages = Array.from({ length: 8 }, (_, i) => 0x40000000 + i * 4096);
const smallPage = {
  kva: 0xc0100000,
  pa: 0x40002000,
  length: 1024,
  entry: 0x4000250en,
  entryBits: 32 as const,
};

const VECTORS: Readonly<Record<string, Vector>> = {
  'portable-flat-run-hole': {
    source: {
      machine: {
        ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
        ...{ pteFormat: 'amd64', kernbase: K },
      },
      memory: {
        ...literalMemory(pagesAt(0x3000, 0x5000, ...runPages)),
        ranges: new PageRanges(
          [
            { start: 0x1000, end: 0x9000 },
            { start: 0x100000, end: 0x114800 },
          ],
          4096,
        ),
      },
      addressSpace: literalAddressSpace([
        { kva: K, pa: 0x3000, length: 4096, protection: 'r-x', global: true, level: 1 },
        { kva: K + 0x1000n, pa: 0x5000, length: 4096, level: 1 },
        { kva: K + 0x4000n, pa: 0xfee00000, length: 4096, level: 1, memoryType: 3 },
        { kva: K + 0x200000n, pa: 0x102000, length: 0x10000, protection: 'r--', level: 1 },
        { kva: K + 0x400000n, pa: 0x40000000, length: 0x200000, pageSize: 0x200000, level: 2 },
      ]),
    },
    options: {},
    mappings: [
      'ffffffff80000000 3000 4096 r-x g 4096 1 0',
      'ffffffff80001000 5000 4096 rw- 4096 1 0',
      'ffffffff80004000 fee00000 4096 rw- 4096 1 3',
      ...runPages.map(
        (pa) => `${(K + 0xfe000n + BigInt(pa)).toString(16)} ${pa.toString(16)} 4096 r-- 4096 1 0`,
      ),
      'ffffffff80400000 40000000 2097152 rw- 2097152 2 0',
    ],
    pages: [0x3000, 0x5000, ...runPages],
    facts: {
      architecture: 'amd64',
      bits: 64,
      byteOrder: 'little',
      kernbase: K,
      pteFormat: 'amd64',
      elfMachine: 62,
    },
  },
  'portable-big-endian-1k': {
    source: {
      machine: {
        ...{ architecture: 'arm', elfMachine: 40, bits: 32, byteOrder: 'big', pageSize: 4096 },
        ...{ pteFormat: 'v4', kernbase: 0xc0000000n },
      },
      memory: literalMemory(pagesAt(...armPages)),
      addressSpace: literalAddressSpace(
        [
          {
            ...{ kva: 0xc0000000, pa: 0x40000000, length: 0x100000, pageSize: 0x100000, protection: 'rwx' },
            ...{ entry: 0x40000c1en, level: 2, entryBits: 32 },
          },
          { ...smallPage, protection: 'r--' },
          { ...smallPage, kva: 0xc0100400, pa: 0x40002400, protection: 'r--' },
          { ...smallPage, kva: 0xc0100800, pa: 0x40002800 },
          { ...smallPage, kva: 0xc0100c00, pa: 0x40002c00, user: true },
          {
            ...{ kva: 0xc0101400, pa: 0x40004400, length: 1024, pageSize: 1024 },
            ...{ entry: 0x4000443fn, entryBits: 32 },
          },
          {
            ...{ kva: 0xc0108000, pa: 0x40007000, length: 4096, global: true },
            ...{ entry: 0x40007ffen, entryBits: 32 },
          },
        ],
        32,
      ),
      messageBuffer: { ring: new MemorySource(new TextEncoder().encode('world\nhello ')), start: 6 },
    },
    options: { exact: true },
    mappings: [
      'c0000000 40000000 1048576 rwx 1048576 2 0 40000c1e',
      // The two quarters of one page that say the same are put together.
      'c0100000 40002000 2048 r-- 4096 1 0 4000250e',
      'c0100800 40002800 1024 rw- 4096 1 0 4000250e',
      'c0100c00 40002c00 1024 rw- u 4096 1 0 4000250e',
      'c0101400 40004400 1024 rw- 1024 1 0 4000443f',
      'c0108000 40007000 4096 rw- g 4096 1 0 40007ffe',
    ],
    pages: armPages,
    facts: {
      ...{ architecture: 'arm', bits: 32, byteOrder: 'big', kernbase: 0xc0000000n, pteFormat: 'v4' },
      ...{ elfMachine: 40, messageBufferStart: 6 },
    },
  },
  'portable-direct-map-notes': {
    source: {
      machine: {
        ...{ architecture: 'arm64', elfMachine: 183, bits: 64, byteOrder: 'little', pageSize: 4096 },
        pteFormat: '',
        directMap: { base: 0xffffff0000000000n, end: 1n << 64n, phys: 0x80000000 },
      },
      memory: literalMemory(pagesAt(0x80001000), [{ start: 0x80000000, end: 0x80003000 }]),
      addressSpace: literalAddressSpace([]),
      notes: {
        panic: 'synchronous abort',
        kernelVersion: 'FreeBSD 14.0-RELEASE GENERIC arm64',
        buildId: 'd0c0ffee',
        time: '2026-01-02T03:04:05Z',
        registers: 'cpu0 TTBR1_EL1=0x80002000\n',
      },
    },
    options: { addPages: [0x80001000] },
    mappings: [],
    pages: [0x80001000],
    facts: {
      ...{ architecture: 'arm64', bits: 64, elfMachine: 183 },
      directMap: { base: 0xffffff0000000000n, end: 1n << 64n, phys: 0x80000000 },
      notes: {
        panic: 'synchronous abort',
        kernelVersion: 'FreeBSD 14.0-RELEASE GENERIC arm64',
        buildId: 'd0c0ffee',
        time: '2026-01-02T03:04:05Z',
        registers: 'cpu0 TTBR1_EL1=0x80002000\n',
      },
    },
  },
};

function rowsOf(core: Core): string[] {
  const cursor = core.addressSpace!.mappings(0, core.bits === 32 ? 2 ** 20 : 2 ** 52);
  const row = new Mapping();
  const rows: string[] = [];
  while (cursor.next(row)) {
    const { flags } = row;
    rows.push(
      [
        ...[kvaOf(row.page, row.offset).toString(16), row.pa.toString(16), row.length, protectionOf(flags)],
        ...((flags & 8) !== 0 ? ['u'] : []),
        ...((flags & 16) !== 0 ? ['g'] : []),
        ...[row.pageSize, row.level, flags >> 8],
        ...(row.entryBits > 0 ? [entryOf(row)!.toString(16)] : []),
      ].join(' '),
    );
  }
  return rows;
}

it('every vector of the document is tested', () => {
  const files = readdirSync(FOLDER).filter((name) => name.startsWith('portable-'));
  expect(files.sort()).toEqual(
    Object.keys(VECTORS)
      .map((name) => `${name}.hex`)
      .sort(),
  );
});

describe.each(Object.entries(VECTORS))('%s', (name, { source, options, mappings, pages, facts }) => {
  const bytes = readVector(name);

  it('is what the library writes, byte by byte', () => {
    const written = dumpToBytes(planPortable(source, options));
    expect(written.length).toBe(bytes.length);
    const differs = bytes.findIndex((byte, i) => byte !== written[i]);
    expect(differs === -1 ? 'the same' : `differs at 0x${differs.toString(16)}`).toBe('the same');
  });

  it('is read by the library as it is described', () => {
    const core = portableFormat.open(new BlockCache(new MemorySource(bytes)), { architectures: [] });
    expect(core).toMatchObject({ format: 'portable', version: 1, pageSize: 4096, warnings: [], ...facts });
    expect(rowsOf(core)).toEqual(mappings);
    const { memory } = core;
    expect(memory.pages.dumped).toBe(pages.length);
    pages.forEach((pa, i) => {
      expect(memory.pageIndex(pa)).toBe(i);
      const text = Buffer.from(bytes.subarray(memory.locate(pa), memory.locate(pa) + 20)).toString('latin1');
      expect(text.replace(/\0.*$/, '')).toBe(`page 0x${pa.toString(16)}`);
    });
  });

  it('passes verification', () => {
    const cache = new BlockCache(new MemorySource(bytes));
    const open = (): Core => portableFormat.open(cache, { architectures: [] });
    expect(verifyCore(cache, open).problems).toEqual([]);
  });

  it('is read by the literal model as it is described', () => {
    const model = new ModelDump(bytes);
    expect([...model.pages.keys()].map(Number)).toEqual(pages);
    for (const row of mappings) {
      const [kva, pa, length] = row.split(' ');
      const leaf = model.translate(BigInt(`0x${kva}`) + BigInt(length) - 1n);
      expect(leaf?.pa).toBe(BigInt(`0x${pa}`) + BigInt(length) - 1n);
    }
    const trailer = bytes.slice(-4096);
    const crc = new DataView(trailer.buffer).getUint32(28, true);
    trailer.fill(0, 28, 32);
    expect(slowCrc(trailer)).toBe(crc);
  });
});

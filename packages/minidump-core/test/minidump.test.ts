import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  isKvmError,
  KvmError,
  MAPPED,
  Mapping,
  MemorySource,
  minidumpFormat,
  openMinidump,
  RadixSpace,
  readHead,
  struct,
  Translation,
  type BitOrder,
  type ByteOrder,
  type ByteSource,
  type Core,
  type MinidumpDialect,
} from '../src/index.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { mix, PlainSource } from './sources.js';
import { toyFormat } from './toy-machine.js';

const PAGE = 4096;
const header = struct('toyhdr', {
  magic: { at: 0, kind: 'char[16]', doc: '' },
  version: { at: 16, kind: 'u32', doc: '' },
  msgbufsize: { at: 20, kind: 'u32', doc: '' },
  dumpavailsize: { at: 24, kind: 'u32', doc: '' },
  bitmapsize: { at: 28, kind: 'u32', doc: '' },
  tablesize: { at: 32, kind: 'u32', doc: '' },
  kernbase: { at: 40, kind: 'u64', doc: '' },
});
const MAGIC = 'minidump toy';
const LIMIT = 2 ** 36;

/** Minidumps of the toy machine: a flat table of its 8-byte entries. */
function dialect(order: ByteOrder, bitOrder: BitOrder): MinidumpDialect {
  return {
    name: 'toy minidump',
    probe: (head) => MAGIC === new TextDecoder().decode(head.subarray(0, MAGIC.length)),
    layout(head, _fileSize, overrides = {}) {
      const fields = { ...header.read(head, 0, order), ...overrides };
      if (fields.version > 2) throw new KvmError('UNSUPPORTED', 'newer');
      return {
        ...{ format: 'freebsd', architecture: 'toy', version: fields.version, byteOrder: order, bits: 64 },
        ...{ pageSize: PAGE, kernbase: fields.kernbase, bitOrder, physicalLimit: LIMIT },
        ...(fields.kernbase === 0n && { warnings: ['kernbase is 0'] }),
        sizes: {
          msgbuf: fields.msgbufsize,
          dumpAvail: fields.version > 1 ? fields.dumpavailsize : 0,
          bitmap: fields.bitmapsize,
          table: fields.tablesize,
        },
      };
    },
    addressSpace(table, memory, { kernbase = 0n }) {
      const fromPage = Number(kernbase >> 12n);
      const entries = Math.min(Math.floor(table.length / 8), 2 ** 52 - fromPage);
      const common = { fromPage, toPage: fromPage + entries, basePage: fromPage, level: 1, shift: 12 };
      return new RadixSpace(memory, toyFormat(8), order, [
        { ...common, entries, root: table.offset, section: table.cache },
      ]);
    },
  };
}

/** RAM with a hole, a shared page, and pages that are dumped or not; the bytes of a page tell its PA. */
const RANGES = [
  { start: 0x3000, end: 0x7800 },
  { start: 0x7c00, end: 0x9000 },
  { start: 0x1_0000_0000, end: 0x1_0000_8000 },
];
/** Pages of the ranges, in bit order: the shared page 7 twice, its second bit clear. */
const BITS = [3, 4, 5, 6, 7, 7, 8, ...Array.from({ length: 8 }, (_, i) => 0x10_0000 + i)];
const isDumped = (pfn: number): boolean => pfn % 3 !== 2;
const KERNBASE = 0xffff_ff00_0000_0000n;
const TABLE_PAGES = 700;
/** PFN that entry i of the table maps, or undefined. */
const mapped = (i: number): number | undefined => (i % 5 === 4 ? undefined : BITS[mix(i) % BITS.length]);
const byteOf = (pfn: number, offset: number): number => mix(pfn * PAGE + offset) & 0xff;

function word(value: bigint, bytes: number, order: ByteOrder): number[] {
  const list = Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
  return order === 'little' ? list : list.reverse();
}

const padded = (bytes: number[]): number[] => [
  ...bytes,
  ...new Array<number>((PAGE - (bytes.length % PAGE)) % PAGE).fill(0),
];

function build(version: 1 | 2, order: ByteOrder, bitOrder: BitOrder): Uint8Array {
  const flat = Array.from({ length: 0x10_0008 }, (_, pfn) => pfn);
  const bits = version === 2 ? BITS : flat;
  const dumped = new Set<number>();
  const unit = bitOrder === 'little' ? 8 : bitOrder === 'big32' ? 32 : 64;
  const bitmap = new Array<number>((Math.ceil(bits.length / 64) * 64) / 8).fill(0);
  bits.forEach((pfn, bit) => {
    if (!BITS.includes(pfn) || !isDumped(pfn) || dumped.has(pfn)) return;
    dumped.add(pfn);
    const inWord = bit % unit;
    bitmap[Math.floor(bit / unit) * (unit / 8) + (unit / 8 - 1 - (inWord >> 3))] |= 1 << (inWord & 7);
  });
  const dumpAvail = [...RANGES.flatMap(({ start, end }) => [start, end]), 0, 0];
  const table = Array.from({ length: TABLE_PAGES }, (_, i) => mapped(i)).map((pfn) =>
    pfn === undefined ? 0n : BigInt(pfn * PAGE) + 2n + 4n * 3n,
  );
  const head = [
    ...[...MAGIC.padEnd(16, '\0')].map((char) => char.charCodeAt(0)),
    ...[version, 100, version === 2 ? dumpAvail.length * 8 : 0, bitmap.length, table.length * 8, 0].flatMap(
      (value) => word(BigInt(value), 4, order),
    ),
    ...word(KERNBASE, 8, order),
  ];
  const sections = [
    padded(head),
    padded(new Array<number>(100).fill(0x6d)),
    version === 2 ? padded(dumpAvail.flatMap((value) => word(BigInt(value), 8, order))) : [],
    padded(bitmap),
    padded(table.flatMap((value) => word(value, 8, order))),
    ...[...dumped].map((pfn) => Array.from({ length: PAGE }, (_, i) => byteOf(pfn, i))),
  ];
  return Uint8Array.from(sections.flat());
}

const VARIANTS: { version: 1 | 2; order: ByteOrder; bitOrder: BitOrder }[] = [
  { version: 2, order: 'little', bitOrder: 'little' },
  { version: 2, order: 'big', bitOrder: 'big32' },
  { version: 2, order: 'big', bitOrder: 'big64' },
  { version: 1, order: 'little', bitOrder: 'little' },
  { version: 1, order: 'big', bitOrder: 'big32' },
];
const BUILT = new Map(
  VARIANTS.map((variant) => [variant, build(variant.version, variant.order, variant.bitOrder)]),
);

function openToy(source: ByteSource, { order, bitOrder }: (typeof VARIANTS)[number], overrides = {}): Core {
  return openMinidump(new BlockCache(source, 0), dialect(order, bitOrder), overrides);
}

describe.each(VARIANTS)('a minidump of version $version, $order-endian, bits $bitOrder', (variant) => {
  const file = BUILT.get(variant)!;
  const dumped = [...new Set(BITS)].filter(isDumped);

  it('opens to its facts, sections and warnings', () => {
    const core = openToy(new PlainSource(file), variant);
    expect(core).toMatchObject({
      ...{ format: 'freebsd', architecture: 'toy', version: variant.version, byteOrder: variant.order },
      ...{ bits: 64, pageSize: PAGE, kernbase: KERNBASE, warnings: [] },
    });
    expect(core.memory.pages).toEqual({ dumped: dumped.length, missing: 0, partial: 0 });
    const flat = [{ start: 0, end: PAGE * 8 * core.sections.find(({ name }) => name === 'bitmap')!.length }];
    expect(core.memory.ranges.ranges).toEqual(variant.version === 2 ? RANGES : flat);
    const names = core.sections.map(({ name }) => name);
    expect(names).toEqual(
      ['header', 'msgbuf', 'dumpAvail', 'bitmap', 'table', 'pages'].filter(
        (name) => name !== 'dumpAvail' || variant.version === 2,
      ),
    );
    const pages = core.sections.at(-1)!;
    expect(pages.offset + pages.length).toBe(file.length);
    expect(core.messageBuffer).toEqual({ name: 'msgbuf', offset: PAGE, length: 100 });
    expect(openToy(new PlainSource(file), variant, { kernbase: 0n }).warnings).toEqual(['kernbase is 0']);
  });

  it('gives the right byte for every KVA that is mapped and dumped, and none otherwise', () => {
    const core = openToy(new PlainSource(file), variant);
    const out = new Translation();
    for (let i = 0; i < TABLE_PAGES; i++) {
      const offset = mix(i) % PAGE;
      const pfn = mapped(i);
      const outcome = core.addressSpace?.translate(Number(KERNBASE >> 12n) + i, offset, out);
      expect(outcome === MAPPED).toBe(pfn !== undefined);
      if (pfn === undefined) continue;
      expect(out.pa).toBe(pfn * PAGE + offset);
      const at = core.memory.locate(out.pa);
      expect(at >= 0).toBe(isDumped(pfn));
      if (at >= 0) expect(file[at]).toBe(byteOf(pfn, offset));
    }
  });

  it('opens wherever its pages are cut, says so, and no sooner', () => {
    const pagesAt = openToy(new PlainSource(file), variant).sections.at(-1)!.offset;
    const cuts = [0, 1, 1000, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 1, 3 * PAGE];
    for (const cut of cuts) {
      const core = openToy(new PlainSource(file.slice(0, file.length - cut)), variant);
      const { missing, partial } = core.memory.pages;
      expect([missing, partial]).toEqual([Math.floor(cut / PAGE), cut % PAGE === 0 ? 0 : 1]);
      expect(core.warnings.length).toBe(cut === 0 ? 0 : 1);
    }
    // The table's own bytes have to be there; the padding behind them need not.
    const tableEnd = pagesAt - ((PAGE - ((TABLE_PAGES * 8) % PAGE)) % PAGE);
    expect(openToy(new PlainSource(file.slice(0, tableEnd)), variant).memory.pages.missing).toBe(
      dumped.length,
    );
    for (const size of [tableEnd - 1, PAGE + 99, PAGE, 48, 47, 0]) {
      expectCode('TRUNCATED', () => openToy(new PlainSource(file.slice(0, size)), variant));
    }
  });

  /** Opens what may be damaged, and if it opens uses everything; nothing may go wrong but by a KvmError. */
  function abuse(bytes: Uint8Array): void {
    let core: Core;
    try {
      core = openToy(new MemorySource(bytes), variant);
    } catch (error) {
      if (!isKvmError(error)) throw error;
      expect(['CORRUPT', 'TRUNCATED', 'UNSUPPORTED']).toContain(error.code);
      return;
    }
    const { memory, addressSpace } = core;
    let index = -1;
    for (let pa = memory.nextDumped(0); pa >= 0;) {
      const end = memory.dumpedEnd(pa);
      same(end > pa, true, 'dumpedEnd', pa, end);
      const place = memory.pageIndex(pa);
      same(place > index && place < memory.pages.dumped, true, 'pageIndex', pa, place);
      index = place;
      const at = memory.locate(pa);
      if (at >= 0) same(at + memory.run(pa, PAGE) <= bytes.length, true, 'run', pa, at);
      const next = memory.nextDumped(end);
      same(next === -1 || next >= end, true, 'nextDumped', end, next);
      pa = next;
    }
    const cursor = addressSpace!.mappings(0, 2 ** 52);
    const mapping = new Mapping();
    const out = new Translation();
    let last = -1;
    for (let count = 0; cursor.next(mapping); count++) {
      same(mapping.page > last, true, 'page', mapping.page);
      last = mapping.page;
      if (count % 50 !== 0) continue;
      same(addressSpace!.translate(mapping.page, 0, out), mapping.outcome, 'outcome', mapping.page);
      if (out.outcome === MAPPED) same(out.pa, mapping.pa, 'pa', mapping.page);
    }
  }

  it('is safe to open and use after any change of its bytes', () => {
    const places = fc.oneof(
      fc.nat(47),
      fc.constantFrom(16, 20, 24, 28, 32, 40).chain((at) => fc.nat(3).map((byte) => at + byte)),
      fc.nat(7 * PAGE),
    );
    const changes = fc.array(
      fc.tuple(places, fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff))),
      {
        minLength: 1,
        maxLength: 6,
      },
    );
    fc.assert(
      fc.property(changes, fc.oneof(fc.constant(0), fc.nat(file.length)), (changes, cut) => {
        const bytes = file.slice(0, file.length - cut);
        for (const [at, value] of changes) bytes[at] = value;
        abuse(bytes);
      }),
      runs(40),
    );
  });
});

describe('openMinidump', () => {
  const variant = VARIANTS[0];
  const file = BUILT.get(variant)!;

  it('warns of bits that stand for no page, and does not count them', () => {
    const bytes = file.slice();
    bytes[3 * PAGE + 1] |= 0x80; // bit 15: there are 15 pages
    const core = openToy(new MemorySource(bytes), variant);
    expect(core.memory.pages.dumped).toBe(
      BITS.filter((pfn, bit) => isDumped(pfn) && BITS.indexOf(pfn) === bit).length,
    );
    expect(core.warnings.length).toBe(1);
    expect(core.warnings[0]).toContain('1 bit is set');
  });

  it('refuses ranges and a bitmap that contradict each other', () => {
    const bytes = file.slice();
    bytes[2 * PAGE + 8 + 2] = 1; // the first range reaches to 0x17800, into the second
    expectCode('CORRUPT', () => openToy(new MemorySource(bytes), variant));
    bytes[2 * PAGE + 8 + 2] = 0;
    bytes[2 * PAGE + 5 * 8 + 3] = 1; // the last one is 16 MB longer
    expect(expectCode('CORRUPT', () => openToy(new MemorySource(bytes), variant)).field).toBe('bitmapsize');
    bytes[2 * PAGE + 5 * 8 + 7] = 0x10; // and now lies above what the architecture has
    expect(expectCode('CORRUPT', () => openToy(new MemorySource(bytes), variant)).field).toContain(
      'dump_avail',
    );
  });

  it('opens without any page, and without ranges that nothing tells', () => {
    for (const variant of VARIANTS) {
      const bytes = BUILT.get(variant)!.slice(0, 9 * PAGE);
      const sizes = { bitmapsize: 0, dumpavailsize: 0, msgbufsize: 0, tablesize: 0 };
      const core = openToy(new MemorySource(bytes), variant, sizes);
      expect(core.memory.ranges.ranges).toEqual([]);
      expect(core.memory.pages).toEqual({ dumped: 0, missing: 0, partial: 0 });
      expect(core.addressSpace!.mappings(0, 2 ** 52).next(new Mapping())).toBe(false);
      expect(core.sections.at(-1)).toEqual({ name: 'pages', offset: PAGE, length: 0 });
    }
  });

  it('reads the head of files of any length', () => {
    for (const size of [0, 5, 4095, 4096, 9000]) {
      const cache = new BlockCache(new PlainSource(file.slice(0, size)), 0);
      expect(readHead(cache)).toEqual(file.slice(0, Math.min(size, 4096)));
    }
  });

  it('is a format: probed by its dialect, opened with overrides', () => {
    const format = minidumpFormat(dialect(variant.order, variant.bitOrder));
    expect([format.name, format.probe(file), format.probe(new Uint8Array(5))]).toEqual([
      'toy minidump',
      true,
      false,
    ]);
    const cache = new BlockCache(new MemorySource(file));
    const core = format.open(cache, { architectures: [], overrides: { kernbase: 0n } });
    expect([core.kernbase, core.cache]).toEqual([0n, cache]);
  });
});

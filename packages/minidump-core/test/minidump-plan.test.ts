import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import {
  dumpToBytes,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  planMinidump,
  type DumpSource,
  type LiteralMapping,
  type MinidumpDialect,
  type MinidumpOptions,
  type MinidumpWriter,
  type SectionSizes,
  type TablePlan,
  type TableSource,
} from '../src/index.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';

/** What all minidumps have in common, through a dialect that no kernel writes. The expected files are put together here. */

const PAGE = 4096;

interface Toy {
  readonly dumpAvail?: boolean;
  readonly wordBits?: 8 | 32 | 64;
  readonly bitOrder?: TablePlan['bitOrder'];
  readonly tableBytes?: number;
  readonly tablePages?: readonly number[];
  /** Made-up pages; each is filled with its number from 0xa0 on. */
  readonly spare?: number;
}

/** A dialect whose header is its sizes, and whose table is 0x77 throughout; `seen` is what it was shown. */
function toyDialect(toy: Toy = {}, seen: TableSource[] = []): MinidumpDialect {
  const writer: MinidumpWriter = {
    versions: [1, 7],
    plan(source, { version = 7 }) {
      seen.push(source);
      const { tableBytes = 8192, tablePages, spare } = toy;
      const pa = spare === undefined ? 0 : source.sparePlace(spare * PAGE)!;
      return {
        version,
        kernbase: 0xc0000000n,
        dumpAvail: toy.dumpAvail ?? true,
        wordBits: toy.wordBits ?? 32,
        bitOrder: toy.bitOrder ?? 'little',
        table: { name: 'table', length: tableBytes, produce: () => [new Uint8Array(tableBytes).fill(0x77)] },
        ...(tablePages && { tablePages }),
        ...(spare !== undefined && {
          spare: {
            ...{ pa, pages: spare },
            produce: () => Array.from({ length: spare }, (_, i) => new Uint8Array(PAGE).fill(0xa0 + i)),
          },
        }),
        header: (sizes) => headerOf(sizes),
      };
    },
  };
  return {
    ...{ name: 'toy', probe: () => false, writer },
    layout: () => {
      throw new Error('not asked');
    },
    addressSpace: () => {
      throw new Error('not asked');
    },
  };
}

function headerOf({ msgbuf, dumpAvail, bitmap, table }: SectionSizes): Uint8Array {
  return new Uint8Array(new Uint32Array([msgbuf, dumpAvail, bitmap, table]).buffer);
}

interface Range {
  readonly start: number;
  readonly end: number;
}

const RAM: readonly Range[] = [
  { start: 0x1000, end: 0x4800 },
  { start: 0x10000, end: 0x14000 },
];
const MAPPINGS: readonly LiteralMapping[] = [
  { kva: 0xc0001000, pa: 0x2000, length: 0x2000 },
  { kva: 0xc0008000, pa: 0x13000, length: 0x1000 },
  { kva: 0xc000a000, pa: 0x9000, length: 0x1000 },
];

/** Each page of RAM is filled with the lowest byte of its number. */
function sourceOf(over: Partial<DumpSource> = {}, ram = RAM, mappings = MAPPINGS): DumpSource {
  const memory = literalMemory([], ram);
  return {
    machine: {
      ...{ architecture: 'toy', elfMachine: 0, bits: 32, byteOrder: 'little', pageSize: PAGE },
      pteFormat: '',
    },
    memory: {
      ...memory,
      readSync(pa, target, at, length) {
        for (let i = 0; i < length; i++) target[at + i] = ((pa + i) / PAGE) & 0xff;
      },
    },
    addressSpace: literalAddressSpace(mappings, 32),
    ...over,
  };
}

function write(source: DumpSource, toy: Toy = {}, options: MinidumpOptions = {}): Uint8Array {
  return dumpToBytes(planMinidump(source, toyDialect(toy), options));
}

const padded = (bytes: Uint8Array): Uint8Array => {
  const whole = new Uint8Array(Math.ceil(bytes.length / PAGE) * PAGE);
  whole.set(bytes);
  return whole;
};
const u64s = (values: readonly number[]): Uint8Array =>
  new Uint8Array(new BigUint64Array(values.map(BigInt)).buffer);

interface Parts {
  readonly msgbuf?: Uint8Array;
  readonly msgbufsize?: number;
  readonly avail?: readonly number[];
  readonly bits: readonly number[];
  readonly bitmapBytes?: number;
  /** What fills each page. */
  readonly pages: readonly number[];
  readonly tableBytes?: number;
}

/** A file with bitmaps in little-endian order. */
function fileOf({ msgbuf = new Uint8Array(0), avail, bits, pages, ...sizes }: Parts): Uint8Array {
  const bitmap = new Uint8Array(sizes.bitmapBytes ?? PAGE);
  for (const bit of bits) bitmap[bit >> 3] |= 1 << (bit & 7);
  const availBytes = avail ? padded(u64s([...avail, 0, 0])) : new Uint8Array(0);
  const { tableBytes = 8192, msgbufsize = msgbuf.length } = sizes;
  const header = headerOf({
    ...{ msgbuf: msgbufsize, dumpAvail: availBytes.length, bitmap: bitmap.length, table: tableBytes },
  });
  return Buffer.concat([
    ...[padded(header), padded(msgbuf), availBytes, bitmap, padded(new Uint8Array(tableBytes).fill(0x77))],
    ...pages.map((fill) => new Uint8Array(PAGE).fill(fill)),
  ]);
}

function expectFile(ours: Uint8Array, theirs: Uint8Array): void {
  const differsAt = ours.findIndex((byte, i) => byte !== theirs[i]);
  expect({ size: ours.length, differsAt }).toEqual({ size: theirs.length, differsAt: -1 });
}

describe('sections of a minidump', () => {
  const ranges = [0x1000, 0x5000, 0x10000, 0x14000];

  it('follow each other, pages of ranges numbered one behind the other', () => {
    expectFile(write(sourceOf()), fileOf({ avail: ranges, bits: [1, 2, 7], pages: [2, 3, 0x13] }));
  });

  it('have the pages numbered from PA 0 on where the dialect has no ranges', () => {
    const file = fileOf({ bits: [2, 3, 0x13], pages: [2, 3, 0x13] });
    expectFile(write(sourceOf(), { dumpAvail: false }), file);
  });

  it('have whole pages of the message buffer, and its size to the byte', () => {
    const ring = new Uint8Array(5000).fill(0x41);
    const source = sourceOf({ messageBuffer: { ring: new MemorySource(ring), start: 0 } });
    expectFile(write(source), fileOf({ msgbuf: ring, avail: ranges, bits: [1, 2, 7], pages: [2, 3, 0x13] }));
  });

  it('have page tables of the source among the pages, those that are RAM', () => {
    const file = fileOf({ avail: ranges, bits: [0, 1, 2, 7], pages: [1, 2, 3, 0x13] });
    expectFile(write(sourceOf(), { tablePages: [0x1000, 0x2000, 0x8000] }), file);
  });

  it('have pages that are made up behind all RAM, in a range of their own', () => {
    const file = fileOf({
      ...{ avail: [...ranges, 0x14000, 0x16000], bits: [1, 2, 7, 8, 9], pages: [2, 3, 0x13, 0xa0, 0xa1] },
    });
    expectFile(write(sourceOf(), { spare: 2 }), file);
    const flat = fileOf({ bits: [2, 3, 0x13, 0x14, 0x15], pages: [2, 3, 0x13, 0xa0, 0xa1] });
    expectFile(write(sourceOf(), { spare: 2, dumpAvail: false }), flat);
  });

  it('have no made-up page where a mapping leads to', () => {
    const device: LiteralMapping = { kva: 0xc0100000, pa: 0x15000, length: 0x1000 };
    const file = fileOf({
      ...{ avail: [...ranges, 0x16000, 0x18000], bits: [1, 2, 7, 8, 9], pages: [2, 3, 0x13, 0xa0, 0xa1] },
    });
    expectFile(write(sourceOf({}, RAM, [...MAPPINGS, device]), { spare: 2 }), file);
  });

  it('have bitmaps in the words and the order of the machine', () => {
    const ram = [{ start: 0, end: 0x23000 }];
    const mappings = [0, 9, 0x22].map((pfn, i) => ({
      kva: 0xc0000000 + i * PAGE,
      pa: pfn * PAGE,
      length: PAGE,
    }));
    const bitmapOf = (bitOrder: TablePlan['bitOrder']): number[] => {
      const bytes = write(sourceOf({}, ram, mappings), { bitOrder, dumpAvail: false, wordBits: 64 });
      const bitmap = bytes.subarray(PAGE, 2 * PAGE);
      return [...bitmap.keys()].flatMap((i) => (bitmap[i] === 0 ? [] : [i, bitmap[i]]));
    };
    expect(bitmapOf('little')).toEqual([0, 1, 1, 2, 4, 4]);
    expect(bitmapOf('big32')).toEqual([2, 2, 3, 1, 7, 4]);
    expect(bitmapOf('big64')).toEqual([3, 4, 6, 2, 7, 1]);
  });

  it('have bitmaps of as many pages as they need', () => {
    const end = (PAGE * 8 + 1) * PAGE;
    const file = fileOf({
      avail: [0, end],
      bits: [2, 3, 9, 19],
      bitmapBytes: 2 * PAGE,
      pages: [2, 3, 9, 0x13],
    });
    expectFile(write(sourceOf({}, [{ start: 0, end }])), file);
  });

  it('have ranges in whole pages, those that share one joined', () => {
    const ram = [
      { start: 0x1800, end: 0x2400 },
      { start: 0x2800, end: 0x3100 },
      { start: 0x5000, end: 0x6000 },
    ];
    const file = fileOf({ avail: [0x1000, 0x4000, 0x5000, 0x6000], bits: [1, 2], pages: [2, 3] });
    expectFile(write(sourceOf({}, ram)), file);
  });

  it('are there without a mapping, without RAM', () => {
    const options = { tolerateDamage: true };
    const file = fileOf({ avail: ranges, bits: [], pages: [] });
    expectFile(write(sourceOf({}, RAM, []), {}, options), file);
    const none = fileOf({ avail: [], bits: [], bitmapBytes: 0, pages: [] });
    expectFile(write(sourceOf({}, [], []), {}, options), none);
  });
});

describe('the plan of a minidump', () => {
  it('shows the dialect what it has to describe', () => {
    const seen: TableSource[] = [];
    planMinidump(sourceOf(), toyDialect({}, seen), { from: 0xc0002000, dropPages: [0x3000] });
    const [source] = seen;
    expect([source.fromPage, source.toPage, source.sparePa]).toEqual([0xc0002, 0xc000b, 0x14000]);
    const found = [...source.mappings()].map(({ page, pa, length }) => [page, pa, length]);
    expect(found.length).toBe(3); // the object is reused
    expect([...source.mappings()].length).toBe(3);
    const held = [0x1000, 0x3000, 0x4000, 0x5000, 0x9000, 0x13000].map((pa) => source.holdsPage(pa));
    expect(held).toEqual([true, false, true, false, false, true]);
    expect([source.sparePlace(PAGE), source.sparePlace(2 ** 52)]).toEqual([0x14000, undefined]);
  });

  it('says what it will write', () => {
    const toy = { tablePages: [0x1000], spare: 1 };
    const plan = planMinidump(sourceOf({ notes: { panic: 'oops' } }), toyDialect(toy), {
      addPages: [0x11000],
    });
    expect(plan.sections.map(({ name, offset, length }) => [name, offset, length])).toEqual([
      ...[
        ['header', 0, PAGE],
        ['msgbuf', PAGE, 0],
        ['dumpAvail', PAGE, 64],
        ['bitmap', 2 * PAGE, PAGE],
        ['table', 3 * PAGE, 2 * PAGE],
        ['pages', 5 * PAGE, 6 * PAGE],
      ],
    ]);
    expect(plan.size).toBe(11 * PAGE);
    expect(plan.report).toMatchObject({
      ...{ format: 'freebsd', version: 7, architecture: 'toy', size: 11 * PAGE, pages: 6, added: 1 },
      ...{ metadataBytes: 5 * PAGE, metadataShare: 5 / 11, tables: { bytes: 2 * PAGE, pages: 2 } },
      dropped: { outsideRam: 1, absent: 0, byHand: 0 },
      losses: ['the note panic is left out: FreeBSD minidumps have no place for it'],
      lossList: [{ kind: 'note', bytes: 0 }],
    });
  });

  it('is refused for dialects that cannot be written, versions that there are not', () => {
    const { writer: _, ...readOnly } = toyDialect();
    expect(expectCode('UNSUPPORTED', () => planMinidump(sourceOf(), readOnly)).message).toMatch(
      /toy can be read/,
    );
    const error = expectCode('UNSUPPORTED', () => planMinidump(sourceOf(), toyDialect(), { version: 2 }));
    expect(error).toMatchObject({ field: 'version', hint: 'known are 1, 7' });
    expect(planMinidump(sourceOf(), toyDialect(), { version: 1 }).report.version).toBe(1);
  });

  it('is refused for a section whose size no header can give, before anything of it is made', () => {
    const plan = (toy: Toy, ram = RAM): unknown => planMinidump(sourceOf({}, ram), toyDialect(toy));
    const produceNothing = { tableBytes: 0x1_0000_0000 };
    expect(expectCode('UNSUPPORTED', () => plan(produceNothing))).toMatchObject({ field: 'table' });
    expect(() => plan({ tableBytes: 0xffff_f000 })).not.toThrow();
    const high = [...RAM, { start: 2 ** 51, end: 2 ** 51 + PAGE }];
    const error = expectCode('UNSUPPORTED', () => plan({ dumpAvail: false }, high));
    expect(error).toMatchObject({ field: 'bitmap' });
    expect(() => plan({ dumpAvail: true }, high)).not.toThrow();
  });

  it('is refused over page tables that are too damaged, unless that is tolerated', () => {
    const nothing = sourceOf({}, RAM, []);
    expectCode('CORRUPT', () => planMinidump(nothing, toyDialect()));
    expect(planMinidump(nothing, toyDialect(), { tolerateDamage: true }).report.pages).toBe(0);
  });

  it('fails with IO where a page is gone when it is written', () => {
    const source = sourceOf();
    let gone = false;
    const memory = {
      ...source.memory,
      available: (pa: number, limit: number) => (gone ? 0 : source.memory.available(pa, limit)),
    };
    const plan = planMinidump({ ...source, memory }, toyDialect());
    gone = true;
    const error = expectCode('IO', () => dumpToBytes(plan));
    expect(error.physicalAddress).toBe(0x2000);
  });
});

describe('random selections', () => {
  const pfns = fc.integer({ min: 0, max: 0x18 });
  const choice = fc.record({
    ...{ adds: fc.array(pfns), drops: fc.array(pfns), tables: fc.array(pfns) },
    ...{ dumpAvail: fc.boolean(), spare: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }) },
  });

  test.prop([choice], runs(100))(
    'give the file put together by hand',
    ({ adds, drops, tables, dumpAvail, spare }) => {
      const ram = new Set([1, 2, 3, 4, 0x10, 0x11, 0x12, 0x13]);
      const pages = new Set([2, 3, 0x13]);
      for (const pfn of adds) if (ram.has(pfn)) pages.add(pfn);
      for (const pfn of drops) pages.delete(pfn);
      // A dialect asks whether a page is held before it refers to it.
      const held = tables.filter((pfn) => ram.has(pfn) && !drops.includes(pfn));
      for (const pfn of held) pages.add(pfn);
      const order = [...pages].sort((a, b) => a - b);
      const made = Array.from({ length: spare ?? 0 }, (_, i) => i);
      const numbers = [...order, ...made.map((i) => 0x14 + i)];
      const bitOf = (pfn: number): number => (!dumpAvail ? pfn : pfn < 0x10 ? pfn - 1 : pfn - 0x10 + 4);
      const avail = [0x1000, 0x5000, 0x10000, 0x14000, ...(spare ? [0x14000, 0x14000 + spare * PAGE] : [])];
      const options = { addPages: adds.map((pfn) => pfn * PAGE), dropPages: drops.map((pfn) => pfn * PAGE) };
      const toy = { dumpAvail, tablePages: held.map((pfn) => pfn * PAGE), ...(spare && { spare }) };
      expectFile(
        write(sourceOf(), toy, { ...options, tolerateDamage: true }),
        fileOf({
          ...(dumpAvail && { avail }),
          bits: numbers.map(bitOf),
          pages: [...order, ...made.map((i) => 0xa0 + i)],
        }),
      );
    },
  );
});

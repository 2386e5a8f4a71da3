import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  entryOf,
  MAPPED,
  Mapping,
  MemorySource,
  RadixSpace,
  TABLE_ABSENT,
  TABLE_LOOP,
  TABLE_TRUNCATED,
  Translation,
  UNMAPPED,
  UNSUPPORTED_ENTRY,
  type MappingCursor,
  type RadixFormat,
  type RadixRegion,
} from '../src/index.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { FlakySource, PlainSource, type Misdeed } from './sources.js';
import {
  shiftOf,
  TABLES,
  whole,
  encodeToy,
  toyDescriptions,
  toyFormat,
  ToyMachine,
  ToyMemory,
  type ToyDescription,
  type ToyEntry,
} from './toy-machine.js';

const OUTCOMES: Record<number, string> = {
  [MAPPED]: 'mapped',
  [TABLE_ABSENT]: 'absent',
  [TABLE_TRUNCATED]: 'truncated',
  [UNSUPPORTED_ENTRY]: 'unsupported',
};

const startOf = (mapping: Mapping): bigint => BigInt(mapping.page) * 4096n + BigInt(mapping.offset);

/** What a cursor gives, as text: for comparing whole walks. */
function show(mapping: Mapping): string {
  const { outcome, pa, length, flags, pageSize, level } = mapping;
  return [outcome, startOf(mapping), pa, length, flags, pageSize, level, entryOf(mapping)].join(' ');
}

function list(cursor: MappingCursor, most = 100_000): Mapping[] {
  const all: Mapping[] = [];
  for (;;) {
    const out = new Mapping();
    if (!cursor.next(out)) break;
    all.push(out);
    if (all.length > most) expect.fail(`more than ${most} mappings`);
  }
  const again = new Mapping();
  for (let i = 0; i < 3; i++) expect(cursor.next(again)).toBe(false);
  return all;
}

function spaceOf(machine: ToyMachine): RadixSpace {
  return new RadixSpace(machine.memory(), machine.format, machine.description.order, [machine.region]);
}

/** A window of pages around a region: often all of it, often a small part, sometimes beyond its ends. */
const windows = fc.oneof(
  fc.constant<[number, number]>([0, 1]),
  fc.tuple(fc.double({ min: -0.2, max: 1.2, noNaN: true }), fc.double({ min: -0.2, max: 1.2, noNaN: true })),
);

function windowOf({ region }: ToyMachine, [a, b]: [number, number]): [number, number] {
  const pages = region.toPage - region.fromPage;
  const page = (x: number): number => Math.max(0, Math.min(2 ** 52, region.fromPage + Math.floor(x * pages)));
  return [page(Math.min(a, b)), page(Math.max(a, b))];
}

/** Every KB of the window is as the slow model says: listed as that, or not mapped and not listed. */
function checkListing(machine: ToyMachine, from: number, to: number, mappings: Mapping[]): void {
  const { region } = machine;
  let at = BigInt(Math.max(from, region.fromPage)) * 4096n;
  const end = BigInt(Math.min(to, region.toPage)) * 4096n;
  const skipTo = (next: bigint): void => {
    for (; at < next; at += 1024n) same(machine.find(at).outcome, 'unmapped', 'not listed', at);
  };
  for (const mapping of mappings) {
    const start = startOf(mapping);
    same(start >= at, true, 'start', start, 'behind', at);
    same(mapping.length > 0 && mapping.length % 1024 === 0, true, 'length', mapping.length);
    same(start + BigInt(mapping.length) <= end, true, 'within the window', start, mapping.length);
    skipTo(start);
    const first = machine.find(start);
    if (mapping.outcome !== MAPPED && mapping.outcome !== UNSUPPORTED_ENTRY)
      same(mapping.pa, first.pa, 'table of', start);
    for (; at < start + BigInt(mapping.length); at += 1024n) {
      const found = machine.find(at);
      same(OUTCOMES[mapping.outcome], found.outcome, 'outcome', at);
      same(mapping.flags, found.flags, 'flags', at);
      same(mapping.pageSize, found.pageSize, 'pageSize', at);
      same(mapping.level, found.level, 'level', at);
      same(entryOf(mapping), found.entry, 'entry', at);
      same(
        mapping.entryBits,
        found.entry === undefined ? 0 : machine.description.entryBytes * 8,
        'entryBits',
        at,
      );
      if (mapping.outcome === MAPPED) same(mapping.pa + Number(at - start), found.pa, 'pa', at);
    }
  }
  if (end > at) skipTo(end);
}

describe('RadixCursor', () => {
  it('lists what the slow model finds, ascending, and nothing else', () => {
    fc.assert(
      fc.property(toyDescriptions, windows, (description, window) => {
        const machine = new ToyMachine(description);
        const [from, to] = windowOf(machine, window);
        checkListing(machine, from, to, list(spaceOf(machine).mappings(from, to)));
      }),
      runs(70),
    );
  });

  it('agrees with translate, whatever the tables are', () => {
    fc.assert(
      fc.property(toyDescriptions, windows, (description, window) => {
        const machine = new ToyMachine(description);
        const space = spaceOf(machine);
        const [from, to] = windowOf(machine, window);
        const out = new Translation();
        for (const mapping of list(space.mappings(from, to))) {
          const bytes = mapping.length;
          for (const delta of [0, 1024, bytes / 2, bytes - 1].filter((delta) => delta < bytes)) {
            const kva = startOf(mapping) + BigInt(Math.floor(delta));
            same(
              space.translate(Number(kva >> 12n), Number(kva & 4095n), out),
              mapping.outcome,
              'outcome',
              kva,
            );
            same(out.flags, mapping.flags, 'flags', kva);
            same(out.pageSize, mapping.pageSize, 'pageSize', kva);
            same(entryOf(out), entryOf(mapping), 'entry', kva);
            if (out.outcome === MAPPED) same(out.pa, mapping.pa + Math.floor(delta), 'pa', kva);
          }
        }
      }),
      runs(60),
    );
  });

  it('lists a window as the whole listing cut to it', () => {
    fc.assert(
      fc.property(toyDescriptions, windows, (description, window) => {
        const machine = new ToyMachine(description);
        const space = spaceOf(machine);
        const [from, to] = windowOf(machine, window);
        const pieces = (mappings: Mapping[]): string[] =>
          mappings.flatMap((mapping) => {
            const kbs: string[] = [];
            for (let at = 0; at < mapping.length; at += 1024) {
              const kva = startOf(mapping) + BigInt(at);
              const inside = kva >= BigInt(from) * 4096n && kva < BigInt(to) * 4096n;
              const pa = mapping.outcome === MAPPED ? mapping.pa + at : 0;
              if (inside) kbs.push([mapping.outcome, kva, pa, mapping.flags].join(' '));
            }
            return kbs;
          });
        const { fromPage, toPage } = machine.region;
        expect(pieces(list(space.mappings(from, to)))).toEqual(
          pieces(list(space.mappings(fromPage, toPage))),
        );
      }),
      runs(30),
    );
  });

  it('goes on where it was when the source threw, with the same sequence', () => {
    const deeds = fc.array(fc.constantFrom<Misdeed>('none', 'throw', 'garbage then throw'), {
      minLength: 1,
      maxLength: 60,
    });
    const stumbles = fc.array(fc.boolean(), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(toyDescriptions, windows, deeds, stumbles, (description, window, deeds, stumbles) => {
        const good = new ToyMachine(description);
        const [from, to] = windowOf(good, window);
        const expected = list(spaceOf(good).mappings(from, to)).map(show);
        const flaky = (bytes: Uint8Array): FlakySource => {
          const source = new FlakySource(new PlainSource(bytes));
          source.deeds = [...deeds];
          return source;
        };
        const machine = new ToyMachine(description, flaky);
        const memory = machine.memory(flaky(machine.file));
        const plan = [...stumbles];
        memory.stumble = () => {
          if (plan.shift()) throw new Error('flaky');
        };
        const cursor = new RadixSpace(memory, machine.format, description.order, [machine.region]).mappings(
          from,
          to,
        );
        const seen: string[] = [];
        const out = new Mapping();
        for (let patience = 300; patience > 0;) {
          const before = show(out);
          try {
            if (!cursor.next(out)) break;
            seen.push(show(out));
          } catch (error) {
            if ((error as Error).message !== 'flaky') throw error;
            same(show(out), before, 'left alone');
            patience--;
          }
        }
        expect(seen).toEqual(expected);
      }),
      runs(80),
    );
  });
});

/** An 8-byte little-endian machine with these entries. */
function machineOf(
  parts: Pick<ToyDescription, 'level' | 'rootEntries'> & Partial<ToyDescription>,
  entries: [
    table: number,
    slot: number,
    entry: Partial<ToyEntry>,
    more?: { copies?: number; target?: number },
  ][],
): ToyMachine {
  const plain: ToyEntry = { kind: 2, pa: 0, flags: 0x0f, repeated: false, fine: false, software: false };
  return new ToyMachine({
    ...{ entryBytes: 8, order: 'little', section: false, basePage: 0, skip: [0, 0] },
    ...{ absent: [], tears: [], cut: 0, sectionCut: 0 },
    ...parts,
    entries: entries.map(([table, slot, entry, more]) => ({
      ...{ table, slot, copies: 1, target: 0, ...more },
      entry: { ...plain, ...entry },
    })),
  });
}

const brief = (mapping: Mapping): (number | bigint)[] => [
  mapping.outcome,
  startOf(mapping),
  mapping.pa,
  mapping.length,
];

describe('superpages', () => {
  const MB = 2 ** 20;
  const machine = machineOf({ level: 3, rootEntries: 4, basePage: 0x100000 }, [
    [-1, 1, { pa: 5 * MB }],
    [-1, 2, { pa: 6 * MB }],
  ]);
  const base = 0x1_0000_0000n;

  it('are listed whole', () => {
    const { fromPage, toPage } = machine.region;
    expect(list(spaceOf(machine).mappings(fromPage, toPage)).map(brief)).toEqual([
      [MAPPED, base + BigInt(MB), 5 * MB, MB],
      [MAPPED, base + BigInt(2 * MB), 6 * MB, MB],
    ]);
  });

  it('are cut by a window at both ends, and keep their size and entry', () => {
    const from = 0x100000 + 256 + 3;
    const mappings = list(spaceOf(machine).mappings(from, 0x100000 + 2 * 256 + 5));
    expect(mappings.map(brief)).toEqual([
      [MAPPED, base + BigInt(MB + 3 * 4096), 5 * MB + 3 * 4096, MB - 3 * 4096],
      [MAPPED, base + BigInt(2 * MB), 6 * MB, 5 * 4096],
    ]);
    expect(mappings.map(({ pageSize }) => pageSize)).toEqual([MB, MB]);
    const inside = list(spaceOf(machine).mappings(from, from + 1)).map(brief);
    expect(inside).toEqual([[MAPPED, base + BigInt(MB + 3 * 4096), 5 * MB + 3 * 4096, 4096]]);
    expect(list(spaceOf(machine).mappings(from, from))).toEqual([]);
    expect(list(spaceOf(machine).mappings(from + 1, from))).toEqual([]);
  });

  it('that hardware repeats are listed once', () => {
    const repeated = machineOf({ level: 1, rootEntries: 600 }, [
      [-1, 4, { pa: 0x8000, repeated: true }, { copies: 4 }],
      [-1, 8, { pa: 0x8000, repeated: true }, { copies: 8 }], // two groups of the same page
      [-1, 18, { pa: 0xc000, repeated: true }, { copies: 1 }], // one slot of four
      [-1, 20, { pa: 0xc000, repeated: true }, { copies: 3 }], // the last differs:
      [-1, 23, { pa: 0xc000, repeated: true, flags: 1 }],
    ]);
    const mappings = list(spaceOf(repeated).mappings(0, 600));
    expect(mappings.map(brief)).toEqual([
      [MAPPED, 0x4000n, 0x8000, 0x4000],
      [MAPPED, 0x8000n, 0x8000, 0x4000],
      [MAPPED, 0xc000n, 0x8000, 0x4000],
      [MAPPED, 0x12000n, 0xe000, 0x1000],
      [MAPPED, 0x14000n, 0xc000, 0x3000],
      [MAPPED, 0x17000n, 0xf000, 0x1000],
    ]);
    expect(new Set(mappings.map(({ pageSize }) => pageSize))).toEqual(new Set([0x4000]));
    expect(list(spaceOf(repeated).mappings(5, 7)).map(brief)).toEqual([[MAPPED, 0x5000n, 0x9000, 0x2000]]);
  });
});

describe('fine tables', () => {
  it('map pages of 1 KB', () => {
    const machine = machineOf({ level: 2, rootEntries: 16 }, [
      [-1, 3, { kind: 1, fine: true }, { target: 1 }],
      [1, 5, { pa: 0x12400 }],
      [1, 6, { pa: 0x99c00 }],
      [1, 8, { pa: 0x5000, repeated: true }, { copies: 4 }],
    ]);
    expect(list(spaceOf(machine).mappings(0, 2 ** 52)).map(brief)).toEqual([
      [MAPPED, 0x31400n, 0x12400, 0x400],
      [MAPPED, 0x31800n, 0x99c00, 0x400],
      [MAPPED, 0x32000n, 0x5000, 0x1000],
    ]);
    const page = list(spaceOf(machine).mappings(0x31, 0x32));
    expect(page.map(({ page, offset, length }) => [page, offset, length])).toEqual([
      [0x31, 0x400, 0x400],
      [0x31, 0x800, 0x400],
    ]);
  });
});

describe('what is no mapping', () => {
  it('is told where a table is not in the core, or was cut off, in one piece each', () => {
    const holes = machineOf({ level: 1, rootEntries: 1024, absent: [1] }, [[-1, 511, { pa: 0x7000 }]]);
    expect(list(spaceOf(holes).mappings(0, 1024)).map(brief)).toEqual([
      [MAPPED, 511n * 4096n, 0x7000, 4096],
      [TABLE_ABSENT, 512n * 4096n, 0x40000, 512 * 4096],
    ]);
    expect(list(spaceOf(holes).mappings(600, 602)).map(brief)).toEqual([
      [TABLE_ABSENT, 600n * 4096n, 0x40000, 2 * 4096],
    ]);
    // The first root page is the second in the file: cut its last entry and a bit.
    const cut = machineOf({ level: 1, rootEntries: 512, cut: 4 * 4096 + 9 }, [[-1, 510, { pa: 0x7000 }]]);
    expect(list(spaceOf(cut).mappings(0, 512)).map(brief)).toEqual([
      [TABLE_TRUNCATED, 510n * 4096n, 0x40000, 2 * 4096],
    ]);
  });

  it('ends and begins at any byte, where memory is exact to the byte', () => {
    const lost = machineOf(
      {
        ...{ level: 1, rootEntries: 8 },
        tears: [
          { page: 0, at: 20, lost: true }, // in entry 2
          { page: 0, at: 37, lost: false }, // in entry 4
        ],
      },
      [[-1, 0, { pa: 0x9000 }, { copies: 8 }]],
    );
    expect(list(spaceOf(lost).mappings(0, 8)).map(brief)).toEqual([
      [MAPPED, 0n, 0x9000, 4096],
      [MAPPED, 0x1000n, 0x9000, 4096],
      [TABLE_ABSENT, 0x2000n, 0x40000, 3 * 4096],
      [MAPPED, 0x5000n, 0x9000, 4096],
      [MAPPED, 0x6000n, 0x9000, 4096],
      [MAPPED, 0x7000n, 0x9000, 4096],
    ]);
    expect(list(spaceOf(lost).mappings(3, 6)).map(brief)).toEqual([
      [TABLE_ABSENT, 0x3000n, 0x40000, 2 * 4096],
      [MAPPED, 0x5000n, 0x9000, 4096],
    ]);
  });

  it.each([
    { entryBytes: 4, order: 'little' },
    { entryBytes: 4, order: 'big' },
    { entryBytes: 8, order: 'little' },
    { entryBytes: 8, order: 'big' },
  ] as const)('is not there where an entry is in two pieces: $entryBytes bytes, $order-endian', (kind) => {
    for (let at = 1; at < 6 * kind.entryBytes; at++) {
      const torn = machineOf({ level: 1, rootEntries: 6, ...kind, tears: [{ page: 0, at, lost: false }] }, [
        [-1, 1, { pa: 0x12345000 }],
        [-1, 2, { pa: kind.entryBytes === 8 ? 0xedcba_98765000 : 0x98765000, flags: 3 }],
        [-1, 4, { pa: 0x13579000 }],
      ]);
      const mappings = list(spaceOf(torn).mappings(0, 6));
      checkListing(torn, 0, 6, mappings);
      expect(mappings.map(({ page }) => page)).toEqual([1, 2, 4]);
    }
  });

  it('is never taken for one more of a repeated entry, though memory held that before', () => {
    const repeated = { pa: 0x8000, repeated: true };
    // The second root page is the last but one in the file. It ends behind 2 entries of a group of 4.
    const cut = machineOf({ level: 1, rootEntries: 1024, cut: 2 * 4096 - 16 }, [
      [-1, 0, repeated, { copies: 1024 }],
    ]);
    const mappings = list(spaceOf(cut).mappings(0, 1024)).map(brief);
    expect(mappings.length).toBe(130);
    expect(mappings.slice(127)).toEqual([
      [MAPPED, 508n * 4096n, 0x8000, 4 * 4096],
      [MAPPED, 512n * 4096n, 0x8000, 2 * 4096],
      [TABLE_TRUNCATED, 514n * 4096n, 0x40000, 510 * 4096],
    ]);
  });

  it('is told of a section that ends early, and of entries without a meaning', () => {
    const machine = machineOf({ level: 2, rootEntries: 8, section: true, sectionCut: 12 }, [
      [-1, 1, { kind: 3, pa: 0x5000 }],
      [-1, 2, { kind: 0, software: true, pa: 0x9000 }], // not zero, and invalid
    ]);
    const mappings = list(spaceOf(machine).mappings(0, 2 ** 52));
    expect(mappings.map(({ outcome, length }) => [outcome, length])).toEqual([
      [UNSUPPORTED_ENTRY, 0x10000],
      [TABLE_TRUNCATED, 0x20000],
    ]);
    expect(mappings.map(startOf)).toEqual([0x10000n, 0x60000n]);
    expect(mappings.map(entryOf)).toEqual([BigInt(0x5000 + 3 + 4 * 0x0f), undefined]);
  });
});

describe('several regions', () => {
  it('are walked one behind the other, with what lies between them left out', () => {
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 4; i++) view.setBigUint64(i * 8, BigInt(i * 0x1000 + 2 + 4), true);
    const section = new BlockCache(new MemorySource(bytes));
    const flat = (fromPage: number, toPage: number, basePage = fromPage): RadixRegion => ({
      ...{ fromPage, toPage, basePage, level: 1, shift: 12, entries: 4, root: 0, section },
    });
    const memory = new ToyMemory(new BlockCache(new PlainSource(new Uint8Array())), new Map());
    const top = 2 ** 52;
    const regions = [flat(0, 2), flat(2, 3), flat(9, 11, 8), flat(top - 2, top, top - 4)];
    const space = new RadixSpace(memory, toyFormat(8), 'little', regions);
    const all = list(space.mappings(0, top));
    expect(all.map(({ page, pa }) => [page, pa])).toEqual([
      [0, 0],
      [1, 0x1000],
      [2, 0],
      [9, 0x1000],
      [10, 0x2000],
      [top - 2, 0x2000],
      [top - 1, 0x3000],
    ]);
    expect(list(space.mappings(1, 10)).map(({ page }) => page)).toEqual([1, 2, 9]);
    expect(list(space.mappings(3, 9))).toEqual([]);
    expect(startOf(all[6])).toBe(2n ** 64n - 4096n);
  });

  it('that claim more pages than their root has are listed as far as it goes', () => {
    const greedy = machineOf({ level: 1, rootEntries: 8 }, [[-1, 0, { pa: 0x1000 }, { copies: 8 }]]);
    const space = new RadixSpace(greedy.memory(), greedy.format, 'little', [
      { ...greedy.region, toPage: 100, entries: 5 },
    ]);
    expect(list(space.mappings(0, 100)).map(({ page }) => page)).toEqual([0, 1, 2, 3, 4]);
    expect(space.translate(5, 0, new Translation())).toBe(UNMAPPED);
  });
});

describe('tables that point at themselves', () => {
  it('show themselves as pages through a recursive slot, like any other page', () => {
    const recursive = machineOf({ level: 3, rootEntries: 3 }, [
      [-1, 0, { kind: 1 }, { target: 0 }],
      [0, 1, { kind: 1 }, { target: 0 }], // level 2, and by way of itself level 1, where it means nothing
      [0, 2, { kind: 2, pa: 0x7000 }],
    ]);
    const mappings = list(spaceOf(recursive).mappings(0, 2 ** 52));
    checkListing(recursive, 0, 2 ** 52, mappings);
    expect(mappings.map(({ outcome, level }) => [outcome, level])).toEqual([
      [UNSUPPORTED_ENTRY, 1],
      [MAPPED, 1],
      [MAPPED, 2],
    ]);
  });

  /** Six levels of 16 entries, all of which name the table that they are in; the last level maps nothing. */
  const deep: RadixFormat = {
    name: 'deep',
    entryBytes: 4,
    decode: (level, low, _high, out, shift) => {
      if (level > 1) out.setTable(low & ~0xfff, shift - 4, 16, 0x0f);
      else out.setInvalid();
    },
  };

  it('end a walk that would not end, with one TABLE_LOOP', () => {
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 16; i++) view.setUint32(i * 4, 0x5001, false);
    const memory = new ToyMemory(new BlockCache(new MemorySource(bytes)), new Map([[5, [whole(0)]]]));
    const region = {
      fromPage: 0,
      toPage: 2 ** 24,
      basePage: 0,
      level: 6,
      shift: 32,
      entries: 16,
      root: 0x5000,
    };
    const behind = {
      ...region,
      fromPage: 2 ** 24,
      toPage: 2 ** 24 + 16,
      basePage: 2 ** 24,
      level: 2,
      shift: 16,
    };
    const space = new RadixSpace(memory, deep, 'big', [region, behind]);
    const mappings = list(space.mappings(0, 2 ** 52));
    expect(mappings.map(({ outcome, level, length }) => [outcome, level, length])).toEqual([
      [TABLE_LOOP, 2, 0x10000],
    ]);
    expect(entryOf(mappings[0])).toBe(0x5001n);
    // It was stopped in the middle; what lies behind can be walked anew.
    const { page } = mappings[0];
    expect(page).toBeGreaterThan(0);
    expect(page).toBeLessThan(2 ** 24);
    expect(list(space.mappings(page, page + 16))).toEqual([]);
    expect(space.translate(page, 0, new Translation())).toBe(UNMAPPED);
  });

  it('end a walk with more rows than two full tables for each page of the core, and a million', () => {
    // 20000 times the same fine table of 64 KB-pages, which lies in the one page of the core.
    const tables = 20_000;
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    const leaf = { kind: 2, flags: 7, repeated: false, fine: false, software: false } as const;
    // No two go on in each other: every entry is a row.
    for (let i = 0; i < 64; i++)
      view.setBigUint64(i * 8, encodeToy({ ...leaf, pa: (i * 7 + 1) << 12 }), true);
    const roots = new Uint8Array(8 * tables);
    for (let i = 0; i < tables; i++) new DataView(roots.buffer).setBigUint64(i * 8, 0x1011dn, true);
    const memory = new ToyMemory(new BlockCache(new MemorySource(page)), new Map([[0x10, [whole(0)]]]));
    const region = {
      ...{ fromPage: 0, toPage: tables * 16, basePage: 0, level: 2, shift: shiftOf(2), entries: tables },
      ...{ root: 0, section: new BlockCache(new MemorySource(roots)) },
    };
    const cursor = new RadixSpace(memory, toyFormat(8), 'little', [region]).mappings(0, tables * 16);
    const mapping = new Mapping();
    let rows = 0;
    while (cursor.next(mapping) && mapping.outcome === MAPPED) rows++;
    expect([rows, mapping.outcome]).toEqual([2 ** 20 + (2 * 4096) / 8, TABLE_LOOP]);
    expect(cursor.next(mapping)).toBe(false);
  });

  it('are told from tables that are only many', () => {
    const dumped = 3;
    const most = 65536 + 16 * dumped;
    for (const tables of [most, most + 1]) {
      const bytes = new Uint8Array(8 * tables);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < tables; i++) view.setBigUint64(i * 8, BigInt(TABLES[0] + 1), true);
      const memory = new ToyMemory(
        new BlockCache(new MemorySource(new Uint8Array(3 * 4096))),
        new Map([
          [TABLES[0] / 4096, [whole(0)]],
          [1, [whole(1)]],
          [2, [whole(2)]],
        ]),
      );
      const section = new BlockCache(new MemorySource(bytes));
      const region = {
        fromPage: 0,
        toPage: tables * 16,
        basePage: 0,
        level: 2,
        shift: shiftOf(2),
        entries: tables,
        root: 0,
        section,
      };
      const found = list(new RadixSpace(memory, toyFormat(8), 'little', [region]).mappings(0, tables * 16));
      expect(found.map(brief)).toEqual(
        tables === most ? [] : [[TABLE_LOOP, BigInt(most) * 0x10000n, 0, 0x10000]],
      );
    }
  });
});

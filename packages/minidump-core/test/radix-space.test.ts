import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  entryOf,
  EXECUTE,
  GLOBAL,
  MAPPED,
  MemorySource,
  NOT_CANONICAL,
  RadixSpace,
  READ,
  TABLE_ABSENT,
  TABLE_TRUNCATED,
  Translation,
  UNMAPPED,
  UNSUPPORTED_ENTRY,
  USER,
  WRITE,
  type RadixRegion,
} from '../src/index.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { FlakySource, PlainSource, type Misdeed } from './sources.js';
import { toyDescriptions, toyFormat, ToyMachine, ToyMemory, type Found } from './toy-machine.js';

const OUTCOMES = {
  mapped: MAPPED,
  unmapped: UNMAPPED,
  absent: TABLE_ABSENT,
  truncated: TABLE_TRUNCATED,
  unsupported: UNSUPPORTED_ENTRY,
};

/** One translation against the test's own walk, its length too. */
function check(machine: ToyMachine, space: RadixSpace, page: number, offset: number): void {
  const out = new Translation();
  const kva = BigInt(page) * 4096n + BigInt(offset);
  const found = machine.find(kva);
  same(space.translate(page, offset, out), OUTCOMES[found.outcome], 'outcome', kva);
  same(out.outcome, OUTCOMES[found.outcome], 'stored outcome', kva);
  same(out.pa, found.pa, 'pa', kva);
  same(out.flags, found.flags, 'flags', kva);
  same(out.pageSize, found.pageSize, 'pageSize', kva);
  same(out.level, found.level, 'level', kva);
  same(entryOf(out), found.entry, 'entry', kva);
  same(out.entryBits, found.entry === undefined ? 0 : machine.description.entryBytes * 8, 'entryBits', kva);
  // To the end of the slot or of the region: the answer holds so long, and there is no reason for less.
  const rest = found.span - Number(kva % BigInt(found.span));
  const room = (machine.region.toPage - page) * 4096 - offset;
  if (found.entriesLeft === undefined) same(out.length, Math.min(rest, room), 'length', kva);
  else checkMissing(machine, found, kva, Math.min(rest, room), out.length);
}

/** Entries that are missing as the first one is make one hole, of as much of the table as lies in that page. */
function checkMissing(machine: ToyMachine, found: Found, kva: bigint, rest: number, length: number): void {
  const { span, outcome, pa, entriesLeft = 1 } = found;
  same(length >= rest, true, 'a hole of', length, 'is shorter than', rest);
  for (let at = rest; at < length; at += span) {
    const next = machine.find(kva + BigInt(at));
    same([next.outcome, next.pa].join(), [outcome, pa].join(), 'behind', kva, at);
  }
  // A table in one page that is absent is absent whole.
  const absent = outcome === 'absent' && !machine.pieces.has(Math.floor(pa / 4096));
  if (!absent || pa === machine.region.root || (pa % 4096) + 64 * machine.description.entryBytes > 4096)
    return;
  const room = Number(BigInt(machine.region.toPage) * 4096n - kva);
  same(length, Math.min(rest + (entriesLeft - 1) * span, room), 'hole', kva);
}

/** Every KB of a region, at uneven bytes. */
function eachKilobyte(machine: ToyMachine, visit: (page: number, offset: number) => void): void {
  const { fromPage, toPage } = machine.region;
  const step = machine.description.level === 1 ? 4 : 1;
  for (let kb = 0; kb < (toPage - fromPage) * 4; kb += step) {
    visit(fromPage + Math.floor(kb / 4), (kb % 4) * 1024 + ((kb * 7) % 1024));
  }
}

describe('RadixSpace.translate', () => {
  it('walks any tables as the slow model does', () => {
    fc.assert(
      fc.property(toyDescriptions, (description) => {
        const machine = new ToyMachine(description);
        const space = new RadixSpace(machine.memory(), machine.format, description.order, [machine.region]);
        eachKilobyte(machine, (page, offset) => check(machine, space, page, offset));
      }),
      runs(50),
    );
  });

  it('gives the same answer when it is asked again after the source threw', () => {
    const deeds = fc.array(fc.constantFrom<Misdeed>('none', 'throw', 'garbage then throw'), { minLength: 5 });
    const stumbles = fc.array(fc.boolean(), { minLength: 5 });
    fc.assert(
      fc.property(toyDescriptions, deeds, stumbles, (description, deeds, stumbles) => {
        const flaky: FlakySource[] = [];
        const make = (bytes: Uint8Array): FlakySource => {
          const source = new FlakySource(new PlainSource(bytes));
          source.deeds = [...deeds];
          flaky.push(source);
          return source;
        };
        const machine = new ToyMachine(description, make);
        const memory = machine.memory(make(machine.file));
        const plan = [...stumbles];
        memory.stumble = () => {
          if (plan.shift()) throw new Error('flaky');
        };
        const space = new RadixSpace(memory, machine.format, description.order, [machine.region]);
        eachKilobyte(machine, (page, offset) => {
          for (let patience = 300; ; patience--) {
            try {
              return check(machine, space, page, offset);
            } catch (error) {
              if ((error as Error).message !== 'flaky' || patience === 0) throw error;
            }
          }
        });
      }),
      runs(30),
    );
  });

  it('keeps many tables apart, in any order of questions', () => {
    const entry = { flags: 0x0f, repeated: false, fine: false, software: false };
    const order = fc.array(fc.tuple(fc.nat(15), fc.nat(29)), { minLength: 50, maxLength: 200 });
    fc.assert(
      fc.property(
        fc.constantFrom<4 | 8>(4, 8),
        fc.constantFrom(0, 0x340, 2 ** 40),
        order,
        (entryBytes, basePage, pages) => {
          // 480 tables, some of which are one and the same, some with fewer rights, some not there.
          const machine = new ToyMachine({
            ...{
              entryBytes,
              order: 'little',
              level: 2,
              rootEntries: 480,
              section: true,
              basePage,
              skip: [0, 0],
            },
            ...{ absent: [4], tears: [], cut: 0, sectionCut: 0 },
            entries: [
              ...Array.from({ length: 480 }, (_, slot) => ({
                ...{ table: -1, slot, copies: 1, target: (slot * 7) >> 3 },
                entry: {
                  ...entry,
                  kind: slot % 11 === 0 ? (2 as const) : (1 as const),
                  pa: slot * 0x10000,
                  flags: slot & 15,
                },
              })),
              ...Array.from({ length: 90 }, (_, i) => ({
                ...{ table: i % 6, slot: Math.floor(i / 6), copies: 1, target: 0 },
                entry: { ...entry, kind: 2 as const, pa: (i + 1) * 0x1000 },
              })),
            ],
          });
          const space = new RadixSpace(machine.memory(), machine.format, 'little', [machine.region]);
          // Tables 16 apart, or 128: those compete for a place wherever there are so many.
          for (const [page, group] of pages) {
            check(machine, space, basePage + group * 256 + page, page * 7);
            check(machine, space, basePage + ((group * 2048 + page) % 7680), page);
          }
        },
      ),
      runs(10),
    );
  });

  it.each([4, 8] as const)(
    'reads tables of %i-byte entries that are torn or cut at any byte',
    (entryBytes) => {
      const entry = { flags: 0x0f, repeated: false, fine: false, software: false };
      const parts = {
        ...{
          entryBytes,
          order: 'little' as const,
          level: 2 as const,
          rootEntries: 1,
          section: true,
          basePage: 0,
        },
        ...{ skip: [0, 0] as [number, number], absent: [], sectionCut: 0 },
        entries: [
          { table: -1, slot: 0, copies: 1, target: 0, entry: { ...entry, kind: 1 as const, pa: 0 } },
          ...Array.from({ length: 16 }, (_, slot) => ({
            ...{ table: 0, slot, copies: 1, target: 0 },
            entry: { ...entry, kind: 2 as const, pa: 0x1234_5000 + slot * 0x0110_0000 },
          })),
        ],
      };
      // The table lies at the start of a page, the third one in the file.
      for (let at = 1; at <= 16 * entryBytes; at++) {
        for (const damage of [
          { tears: [{ page: 2, at, lost: false }], cut: 0 },
          { tears: [{ page: 2, at, lost: true }], cut: 0 },
          { tears: [], cut: 4 * 4096 - at },
        ]) {
          const machine = new ToyMachine({ ...parts, ...damage });
          const space = new RadixSpace(machine.memory(), machine.format, 'little', [machine.region]);
          for (const page of [0, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
            check(machine, space, page, 9);
        }
      }
    },
  );

  it('takes away rights on the way down, and nothing but rights', () => {
    const all = READ | WRITE | EXECUTE | USER | GLOBAL;
    const entry = { fine: false, repeated: false, software: false };
    const build = (top: number, middle: number, leaf: number): Found => {
      const machine = new ToyMachine({
        ...{
          entryBytes: 8,
          order: 'big',
          level: 3,
          rootEntries: 1,
          section: false,
          basePage: 0,
          skip: [0, 0],
        },
        ...{ absent: [], tears: [], cut: 0, sectionCut: 0 },
        entries: [
          { table: -1, slot: 0, copies: 1, target: 0, entry: { ...entry, kind: 1, pa: 0, flags: top } },
          { table: 0, slot: 0, copies: 1, target: 2, entry: { ...entry, kind: 1, pa: 0, flags: middle } },
          { table: 2, slot: 0, copies: 1, target: 0, entry: { ...entry, kind: 2, pa: 4096, flags: leaf } },
        ],
      });
      const space = new RadixSpace(machine.memory(), machine.format, 'big', [machine.region]);
      check(machine, space, 0, 5);
      const out = new Translation();
      space.translate(0, 5, out);
      return { ...machine.find(5n), flags: out.flags };
    };
    expect(build(all, all, all).flags).toBe(all);
    expect(build(all & ~WRITE, all & ~USER, all & ~EXECUTE).flags).toBe(READ | GLOBAL);
    expect(build(0, 0, all).flags).toBe(GLOBAL);
    expect(build(all, all, 0).flags).toBe(0);
  });
});

describe('regions', () => {
  /** A flat table of 8 leaves, for pages 0 to 7 of wherever it is put: page i is at PA i * 4 MB. */
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 8; i++) view.setUint32(i * 8, i * 0x40_0000 + 2 + 4 * READ, true);
  const section = new BlockCache(new MemorySource(bytes));
  const flat = (fromPage: number, toPage: number, basePage = fromPage): RadixRegion => ({
    ...{ fromPage, toPage, basePage, level: 1, shift: 12, entries: 8, root: 0, section },
  });
  const memory = new ToyMemory(new BlockCache(new PlainSource(new Uint8Array(0))), new Map());
  const space = (
    ...args: [RadixRegion[], (0 | 1 | 2 | 3 | 4 | 5 | 6)?, { fromPage: number; toPage: number }?]
  ) => new RadixSpace(memory, toyFormat(8), 'little', ...args);
  const ask = (of: RadixSpace, page: number, offset = 0): [number, number, number] => {
    const out = new Translation();
    out.setEntry(9, 9, 9, 32);
    const outcome = of.translate(page, offset, out);
    if (out.outcome !== outcome) expect.fail('the outcome was not stored');
    if (outcome !== MAPPED) expect([out.flags, out.pageSize, entryOf(out)]).toEqual([0, 0, undefined]);
    expect(out.level).toBe(outcome === MAPPED || outcome === TABLE_TRUNCATED ? 1 : 0);
    return [outcome, out.length, out.pa];
  };

  it('answer for themselves; between them is nothing, up to the next one', () => {
    const two = space([flat(4, 8), flat(16, 24)]);
    expect(ask(two, 0, 5)).toEqual([UNMAPPED, 4 * 4096 - 5, 0]);
    expect(ask(two, 4, 5)).toEqual([MAPPED, 4091, 5]);
    expect(ask(two, 7)).toEqual([MAPPED, 4096, 3 * 0x40_0000]);
    expect(ask(two, 8)).toEqual([UNMAPPED, 8 * 4096, 0]);
    expect(ask(two, 15, 4095)).toEqual([UNMAPPED, 1, 0]);
    expect(ask(two, 23, 1)).toEqual([MAPPED, 4095, 7 * 0x40_0000 + 1]);
    const [outcome, length] = ask(two, 24, 1);
    expect([outcome, Number.isSafeInteger(length), length > 2 ** 51]).toEqual([UNMAPPED, true, true]);
    expect(ask(two, 2 ** 52 - 1, 4000)).toEqual([UNMAPPED, 96, 0]);
  });

  it('may start in the middle of their root table', () => {
    const middle = space([flat(100, 103, 97)]);
    expect(ask(middle, 99)).toEqual([UNMAPPED, 4096, 0]);
    expect(ask(middle, 100, 7)).toEqual([MAPPED, 4089, 3 * 0x40_0000 + 7]);
    expect(ask(middle, 102)).toEqual([MAPPED, 4096, 5 * 0x40_0000]);
  });

  it('say what an address outside of them is', () => {
    const one = space([flat(4, 8)], NOT_CANONICAL);
    expect(ask(one, 3, 1)).toEqual([NOT_CANONICAL, 4095, 0]);
    expect(ask(one, 8)[0]).toBe(NOT_CANONICAL);
    expect(ask(one, 4)[0]).toBe(MAPPED);
    expect(ask(space([], NOT_CANONICAL), 5)[0]).toBe(NOT_CANONICAL);
  });

  it('leave holes that no machine has, which end where they end', () => {
    const holed = space([flat(4, 8), flat(100, 108)], UNMAPPED, { fromPage: 20, toPage: 90 });
    expect(ask(holed, 8)).toEqual([UNMAPPED, 12 * 4096, 0]);
    expect(ask(holed, 19, 4)).toEqual([UNMAPPED, 4092, 0]);
    expect(ask(holed, 20)).toEqual([NOT_CANONICAL, 70 * 4096, 0]);
    expect(ask(holed, 89, 4095)).toEqual([NOT_CANONICAL, 1, 0]);
    expect(ask(holed, 90)).toEqual([UNMAPPED, 10 * 4096, 0]);
    expect(ask(holed, 0)).toEqual([UNMAPPED, 4 * 4096, 0]);
    expect(ask(holed, 108)[0]).toBe(UNMAPPED);
  });

  it('fit the 64-bit space, its halves and its top', () => {
    const top = 2 ** 52;
    const halves = space([flat(0, 8), flat(top - 4, top, top - 8)], UNMAPPED, {
      fromPage: 2 ** 35,
      toPage: top - 2 ** 35,
    });
    expect(ask(halves, top - 1, 4095)).toEqual([MAPPED, 1, 7 * 0x40_0000 + 4095]);
    expect(ask(halves, top - 4)).toEqual([MAPPED, 4096, 4 * 0x40_0000]);
    const [outcome, length] = ask(halves, 2 ** 35);
    expect([outcome, Number.isSafeInteger(length)]).toEqual([NOT_CANONICAL, true]);
    expect(ask(halves, top - 2 ** 35)).toEqual([UNMAPPED, (2 ** 35 - 4) * 4096, 0]);
  });

  it('never read entries behind the end of their root, where they claim more pages than it has', () => {
    const greedy = space([{ ...flat(0, 20), entries: 5 }]);
    expect(ask(greedy, 4)[0]).toBe(MAPPED);
    expect(ask(greedy, 5)).toEqual([UNMAPPED, 15 * 4096, 0]);
    expect(ask(greedy, 19, 1)).toEqual([UNMAPPED, 4095, 0]);
  });

  it('whose section is cut say so, entry by entry', () => {
    const cut = (size: number): RadixSpace => {
      const part = new BlockCache(new PlainSource(bytes.slice(0, size)));
      return space([{ ...flat(0, 8), section: part }]);
    };
    for (let size = 0; size <= 64; size++) {
      for (let page = 0; page < 8; page++) {
        const there = (page + 1) * 8 <= size;
        expect(ask(cut(size), page)[0]).toBe(there ? MAPPED : TABLE_TRUNCATED);
        if (!there) expect(ask(cut(size), page)[1]).toBe((8 - page) * 4096);
      }
    }
    expect(ask(cut(12), 1, 100)).toEqual([TABLE_TRUNCATED, 7 * 4096 - 100, 0]);
  });
});

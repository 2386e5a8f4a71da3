import { describe, expect, it } from 'vitest';
import {
  dumpToBytes,
  literalAddressSpace,
  literalMemory,
  MAPPED,
  MemorySource,
  PageRanges,
  planPortable,
  TABLE_ABSENT,
  TABLE_LOOP,
  TABLE_TRUNCATED,
  UNSUPPORTED_ENTRY,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
  type Mapping,
  type Outcome,
  type PlanOptions,
} from '../src/index.js';
import { expectCode } from './expect-code.js';
import { ModelDump } from './portable-model.js';

const machine: MachineFacts = {
  ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'amd64',
};
const KVA = 0xffffffff80000000n;
const ram = [{ start: 0x1000, end: 0x41000 }];

function sourceOf(mappings: readonly LiteralMapping[], extra: Partial<DumpSource> = {}): DumpSource {
  return { machine, memory: literalMemory([], ram), addressSpace: literalAddressSpace(mappings), ...extra };
}

const one: LiteralMapping = { kva: KVA, pa: 0x1000, length: 0x1000 };

function planned(source: DumpSource, options?: PlanOptions): ModelDump {
  return new ModelDump(dumpToBytes(planPortable(source, options)));
}

/** An address space that gives these outcomes, one after the other, and then a sound mapping of each page. */
function damaged(outcomes: readonly Outcome[], mappings: number): DumpSource['addressSpace'] {
  return {
    mappings(fromPage) {
      let i = 0;
      return {
        next(out: Mapping): boolean {
          if (i >= outcomes.length + mappings) return false;
          out.setEntry(0, 0, 0, 0);
          out.page = fromPage + i;
          out.offset = 0;
          out.pa = 0x1000 * (1 + i - outcomes.length);
          out.length = 4096;
          out.pageSize = 4096;
          out.flags = 1;
          out.outcome = outcomes[i] ?? MAPPED;
          i++;
          return true;
        },
      };
    },
  };
}

describe('damaged page tables', () => {
  it.each([
    ['nothing mapped', [], 0],
    ['only missing tables', [TABLE_ABSENT, TABLE_TRUNCATED], 0],
    ['more missing tables than mappings', [TABLE_ABSENT, TABLE_ABSENT, TABLE_TRUNCATED], 2],
    ['a walk given up', [TABLE_LOOP], 30],
  ] as const)('%s: refused, with the counts', (_name, outcomes, mappings) => {
    const source = sourceOf([], { addressSpace: damaged(outcomes, mappings) });
    const error = expectCode('CORRUPT', () => planPortable(source));
    expect(error.message).toContain('too damaged');
    expect(error.message).toContain(`${mappings} mappings to ${mappings} pages`);
    const missing = outcomes.filter((one) => one === TABLE_ABSENT || one === TABLE_TRUNCATED).length;
    expect(error.message).toContain(`${missing} tables missing`);
    expect(error.hint).toMatch(/full dump.*needs no page tables.*--tolerate-damage/);
    expect(error.field).toBe('registers');
    const plan = planPortable(source, { tolerateDamage: true });
    expect(plan.report.pages).toBe(mappings);
    expect(new ModelDump(dumpToBytes(plan)).pages.size).toBe(mappings);
  });

  it('is tolerated where most of it is there, and counted', () => {
    const outcomes = [TABLE_ABSENT, TABLE_TRUNCATED, UNSUPPORTED_ENTRY, UNSUPPORTED_ENTRY] as const;
    const { report } = planPortable(sourceOf([], { addressSpace: damaged(outcomes, 5) }));
    expect(report.damage).toEqual({ tablesAbsent: 1, tablesTruncated: 1, loops: 0, unsupportedEntries: 2 });
    expect(report).toMatchObject({ mappings: 5, pages: 5, mappedBytes: 0x5000 });
  });

  it('is refused when a mapping reaches no page that is there', () => {
    expectCode('CORRUPT', () => planPortable(sourceOf([{ ...one, pa: 0xfe000000 }])));
    const { report } = planPortable(sourceOf([{ ...one, pa: 0xfe000000 }]), { addPages: [0x1000] });
    expect(report).toMatchObject({ pages: 1, added: 1, mappings: 1 });
    expect(report.dropped).toEqual({ outsideRam: 1, absent: 0, byHand: 0, truncated: 0 });
  });
});

describe('the pages of a plan', () => {
  const RAM_PAGES = 0x40;

  it('are those that a mapping touches, with all of them', () => {
    const dump = planned(sourceOf([{ kva: KVA + 0x400n, pa: 0x2400, length: 0x1000 }]));
    expect([...dump.pages.keys()]).toEqual([0x2000n, 0x3000n]);
  });

  it('are there once, however often they are mapped', () => {
    const aliases = [0, 1, 2].map((i) => ({ ...one, kva: KVA + BigInt(i * 0x1000) }));
    const { report } = planPortable(sourceOf(aliases));
    expect(report).toMatchObject({ mappings: 3, mappedBytes: 0x3000, pages: 1 });
  });

  it('of a superpage are those that are RAM', () => {
    const big = { kva: KVA, pa: 0, length: 0x200000, pageSize: 0x200000 };
    const { report } = planPortable(sourceOf([big]));
    expect(report).toMatchObject({ pages: RAM_PAGES, mappings: 1 });
    expect(report.dropped.outsideRam).toBe(512 - RAM_PAGES);
  });

  it('of the direct map are those added by hand; its mappings are left to the header', () => {
    const base = 0xfffff80000000000n;
    const directMap = { base, end: base + (1n << 30n), phys: 0 };
    const mappings = [
      { kva: base - 0x1000n, pa: 0x5000, length: 0x1000 },
      { kva: base, pa: 0, length: 0x200000 },
      { kva: base + (1n << 30n), pa: 0x6000, length: 0x1000 },
    ];
    const source = sourceOf(mappings, { machine: { ...machine, directMap } });
    const dump = planned(source, { addPages: [0x9234, 0x7000, 0x9000] });
    expect([...dump.pages.keys()]).toEqual([0x5000n, 0x6000n, 0x7000n, 0x9000n]);
    expect(dump.segments.map(({ kva }) => kva)).toEqual([base - 0x1000n, base + (1n << 30n)]);
    expect([dump.header.flags, dump.header.dmapBase, dump.header.dmapEnd]).toEqual([
      ...[2, base, directMap.end],
    ]);
  });

  it('that share a frame between two ranges are there once', () => {
    const memory = literalMemory([], [{ start: 0, end: 0x4000 }]);
    const ranges = new PageRanges(
      [
        { start: 0x100, end: 0x1800 },
        { start: 0x1c00, end: 0x2400 },
        { start: 0x2400, end: 0x3000 },
      ],
      4096,
    );
    const dump = planned(sourceOf([{ ...one, pa: 0, length: 0x3000 }], { memory: { ...memory, ranges } }));
    expect(dump.ranges).toEqual([{ start: 0x100n, end: 0x3000n }]);
    expect([...dump.pages.keys()]).toEqual([0n, 0x1000n, 0x2000n]);
  });

  it('are not asked for one by one where a long stretch is absent', () => {
    const terabyte = 2 ** 40;
    let asked = 0;
    const memory = {
      ranges: new PageRanges([{ start: 0, end: 64 * terabyte }], 4096),
      available: (pa: number, limit: number) => (asked++, pa < 0x3000 ? Math.min(limit, 0x3000 - pa) : 0),
      hole: (_pa: number, limit: number) => limit,
      readSync: () => undefined,
    };
    const mappings = [{ kva: 0n, pa: 0x1000, length: 32 * terabyte, pageSize: 0x40000000 }];
    const { report } = planPortable(sourceOf(mappings, { memory }));
    expect(asked).toBeLessThan(10);
    expect(report).toMatchObject({ pages: 2, dropped: { absent: (32 * terabyte) / 4096 - 2 } });
  });

  it('end at the end of a range where the next one is absent too', () => {
    const memory = {
      ranges: new PageRanges(
        [
          { start: 0, end: 0x4000 },
          { start: 0x8000, end: 0xc000 },
        ],
        4096,
      ),
      available: (pa: number, limit: number) =>
        pa >= 0xb000 && pa < 0xc000 ? Math.min(limit, 0xc000 - pa) : 0,
      hole: (pa: number, limit: number) => Math.min(limit, 0xb000 - pa),
      readSync: () => undefined,
    };
    const { report } = planPortable(sourceOf([{ kva: 0n, pa: 0, length: 0xd000 }], { memory }));
    expect(report.dropped).toEqual({ absent: 7, outsideRam: 5, byHand: 0, truncated: 0 });
    expect(report.pages).toBe(1);
  });
});

describe('the window', () => {
  const three = [0, 1, 2].map((i) => ({ ...one, kva: KVA + BigInt(i * 0x1000), pa: 0x1000 * (i + 1) }));

  it('counts pages at its edges whole', () => {
    const dump = planned(sourceOf(three), { from: KVA + 0xfffn, to: KVA + 0x1001n });
    expect(dump.segments).toMatchObject([{ kva: KVA, count: 2n }]);
    expect([...dump.pages.keys()]).toEqual([0x1000n, 0x2000n]);
  });

  it('may end where the address space does', () => {
    for (const to of [1n << 64n, undefined]) {
      expect(planned(sourceOf(three), { ...(to && { to }) }).pages.size).toBe(3);
    }
    const machine32: MachineFacts = { ...machine, bits: 32 };
    const last = { kva: 0xfffff000n, pa: 0x1000, length: 0x1000 };
    const source = { ...sourceOf([]), machine: machine32, addressSpace: literalAddressSpace([last], 32) };
    for (const to of [2 ** 32, 1n << 32n, undefined]) {
      expect(planned(source, { from: 0xffffe000, ...(to && { to }) }).pages.size).toBe(1);
    }
  });

  it('is refused when it ends before it starts', () => {
    expectCode('INVALID_ARGUMENT', () => planPortable(sourceOf(three), { from: KVA + 0x2000n, to: KVA }));
  });
});

describe('a source that no dump can hold', () => {
  const fails = (source: DumpSource, field: string, options?: PlanOptions): void => {
    expect(expectCode('INVALID_ARGUMENT', () => planPortable(source, options)).field).toBe(field);
  };
  const withMachine = (facts: Partial<MachineFacts>): DumpSource =>
    sourceOf([one], { machine: { ...machine, ...facts } });

  it('is refused by the name of the fact', () => {
    fails(withMachine({ pageSize: 3000 }), 'pageSize');
    fails(withMachine({ pageSize: 1024 }), 'pageSize');
    fails(withMachine({ architecture: 'more than sixteen' }), 'portableHeader.architecture');
    fails(withMachine({ architecture: 'amd\u2026' }), 'portableHeader.architecture');
    fails(withMachine({ pteFormat: 'a name of more than 24 bytes' }), 'portableHeader.pteFormat');
    fails(withMachine({ elfMachine: 65536 }), 'portableHeader.elfMachine');
    fails(withMachine({ kernbase: -1n }), 'portableHeader.kernbase');
    fails(withMachine({ directMap: { base: 0x1001n, end: 0x3000n, phys: 0 } }), 'directMap.base');
    fails(withMachine({ directMap: { base: 0x1000n, end: 0x1000n, phys: 0 } }), 'directMap.end');
    fails(withMachine({ directMap: { base: 0x1000n, end: 0x3000n, phys: 1 } }), 'directMap.phys');
    fails(withMachine({ directMap: { base: 0x1000n, end: 0x3000n, phys: 2 ** 52 } }), 'directMap.phys');
    fails(withMachine({ directMap: { base: 0n, end: (1n << 53n) + 0x1000n, phys: 0 } }), 'directMap.end');
    fails(withMachine({ bits: 32, directMap: { base: 0n, end: 1n << 33n, phys: 0 } }), 'directMap.end');
    const messageBuffer = { ring: new MemorySource(new Uint8Array(10)), start: 10 };
    fails(sourceOf([one], { messageBuffer }), 'messageBuffer.start');
    const memoryAt = (end: number, pageSize = 4096): DumpSource =>
      sourceOf([one], {
        memory: { ...literalMemory([]), ranges: new PageRanges([{ start: 0, end }], pageSize) },
      });
    fails(memoryAt(2 ** 52 + 1), 'ranges');
    fails(memoryAt(4096, 512), 'ranges.pageSize');
    const many = Array.from({ length: 65537 }, (_, i) => ({ start: i * 8192, end: i * 8192 + 1 }));
    fails(
      sourceOf([one], { memory: { ...literalMemory([]), ranges: new PageRanges(many, 4096) } }),
      'ranges.length',
    );
    for (const addPages of [[-1], [0.5], [2 ** 53]]) fails(sourceOf([one]), 'page', { addPages });
    fails(sourceOf([one]), 'page', { dropPages: [Number.NaN] });
  });

  it.each<[string, Partial<Mapping>]>([
    ['out of order', { page: 0 }],
    ['beyond the window', { page: 2 ** 52 }],
    ['in two', { length: 1.5 * 1024 }],
    ['of no bytes', { length: 0 }],
    ['of negative bytes', { length: -4096 }],
    ['inside a unit', { offset: 512 }],
    ['past its page', { offset: 4096 }],
    ['to an address that is none', { pa: -4096 }],
    ['to an address inside a unit', { pa: 100 }],
    ['to addresses that no machine has', { pa: 2 ** 52 - 4096, length: 8192 }],
    ['of pages that are no power of two', { pageSize: 3000 }],
    ['of pages of no size', { pageSize: 0 }],
    ['of pages smaller than any', { pageSize: 512 }],
  ])('is told of a mapping %s', (_name, wrong) => {
    const good = literalAddressSpace([{ kva: 0x10000, pa: 0x1000, length: 0x1000 }]);
    let mapped = 0;
    const addressSpace: DumpSource['addressSpace'] = {
      mappings(from, to) {
        const cursor = good.mappings(from, to);
        return {
          next(out) {
            if (cursor.next(out)) return true;
            out.page = 0x20;
            Object.assign(out, wrong);
            return mapped++ === 0;
          },
        };
      },
    };
    const error = expectCode('INVALID_ARGUMENT', () => planPortable(sourceOf([], { addressSpace })));
    expect(error.message).toContain('unsound mapping');
    expect(error.address).toBeTypeOf('bigint');
  });
});

describe('what a dump cannot hold', () => {
  it('is said', () => {
    const notes = { panic: 'page fault', vmcoreinfo: 'x', time: '\u00fc'.repeat(600_000) };
    const plan = planPortable(sourceOf([one], { notes }), { exact: true });
    expect(plan.report.losses).toEqual([
      'exact entries were asked for; the source has none',
      'the note vmcoreinfo is left out: the format has no section for it',
      'the note time is left out: it has 1200000 bytes',
    ]);
    const dump = new ModelDump(dumpToBytes(plan));
    expect(dump.note('panic')).toBe('page fault');
    expect(dump.sections.map(({ name }) => name)).toEqual([
      ...['msgbuf', 'ranges', 'bitmap', 'segments', 'leaves', 'panic', 'pages'],
    ]);
  });
});

describe('the tables', () => {
  const page = (i: number, pa: number): LiteralMapping => ({
    kva: KVA + BigInt(i * 4096),
    pa,
    length: 4096,
  });
  const tablesOf = (mappings: readonly LiteralMapping[], options?: PlanOptions): string[] =>
    planned(sourceOf(mappings), options).segments.map(
      ({ kva, count, kind, granuleShift }) =>
        `${kind === 2 ? 'RUN' : 'FLAT'} ${Number(kva - KVA) / 1024}+${count}<<${granuleShift}`,
    );

  it('make a run of 16 granules one leaf, and of fewer as many as there are', () => {
    const run = (count: number): LiteralMapping[] =>
      Array.from({ length: count }, (_, i) => page(i, 0x1000 * (i + 1)));
    expect(tablesOf(run(15))).toEqual(['FLAT 0+15<<12']);
    expect(tablesOf(run(16))).toEqual(['RUN 0+16<<12']);
    expect(tablesOf(run(16), { run: false })).toEqual(['FLAT 0+16<<12']);
    // The hardware has 16 entries: kept apart, each has its own leaf.
    expect(tablesOf(run(16), { exact: true })).toEqual(['FLAT 0+16<<12']);
  });

  it('bridge holes of up to four granules', () => {
    expect(tablesOf([page(0, 0x1000), page(5, 0x1000)])).toEqual(['FLAT 0+6<<12']);
    expect(tablesOf([page(0, 0x1000), page(6, 0x1000)])).toEqual(['FLAT 0+1<<12', 'FLAT 24+1<<12']);
  });

  it('use granules of 1 KB only where they are needed', () => {
    const quarter = { kva: KVA + 0x3400n, pa: 0x2000, length: 1024, pageSize: 4096 };
    expect(tablesOf([page(0, 0x1000), page(1, 0x5000), quarter, page(8, 0x1000)])).toEqual([
      ...['FLAT 0+2<<12', 'FLAT 13+1<<10', 'FLAT 32+1<<12'],
    ]);
  });

  it('cost one leaf for a superpage, and are counted both ways', () => {
    const big = { kva: KVA, pa: 0, length: 0x40000000, pageSize: 0x200000 };
    const { tables } = planPortable(sourceOf([big])).report;
    expect(tables).toEqual({ segments: 1, leaves: 1, bytes: 40, flatBytes: 32 + 262144 * 8 });
    const flat = planPortable(sourceOf([big]), { run: false }).report.tables;
    expect(flat).toEqual({ segments: 1, leaves: 262144, bytes: 2097184, flatBytes: 2097184 });
  });
});

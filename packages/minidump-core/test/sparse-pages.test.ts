import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockCache } from '../src/block-cache.js';
import { MemorySource } from '../src/byte-source.js';
import { PageRanges, type ByteRange } from '../src/page-ranges.js';
import { ABSENT, TRUNCATED } from '../src/physical-memory.js';
import { SparsePages } from '../src/sparse-pages.js';
import { StoredBitmap } from '../src/stored-bitmap.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { PatternSource, PlainSource } from './sources.js';

/** Offset of the first page: nothing that is aligned. */
const PAGES_AT = 100;

interface Dump {
  pageSize: number;
  ranges: ByteRange[];
  /** Bits of the bitmap, those that a range shares with its forerunner included. */
  bits: boolean[];
  fileSize: number;
}

/** Where a page is in the file, by the rule of freebsd-dumps.md 1.3, and which range owns it. */
interface Page {
  range: number;
  index: number;
}

function naivePages({ pageSize, ranges, bits }: Dump): Map<number, Page> {
  const pages = new Map<number, Page>();
  let bit = 0;
  let index = 0;
  ranges.forEach(({ start, end }, range) => {
    for (let pfn = Math.floor(start / pageSize); pfn * pageSize < end; pfn++) {
      const set = bits[bit++];
      if (!pages.has(pfn)) pages.set(pfn, { range, index: set ? index : -1 });
      if (set) index++;
    }
  });
  return pages;
}

function open(dump: Dump): SparsePages {
  const ranges = new PageRanges(dump.ranges, dump.pageSize);
  const section = new Uint8Array(Math.ceil(ranges.pages / 8));
  dump.bits.forEach((set, bit) => {
    if (set && bit < ranges.pages) section[bit >> 3] |= 1 << (bit & 7);
  });
  const bitmap = new StoredBitmap(new MemorySource(section), ranges.pages, 'little');
  const cache = new BlockCache(new PlainSource(new Uint8Array(dump.fileSize)), 0);
  return new SparsePages(cache, PAGES_AT, ranges, bitmap, dump.pageSize);
}

class Model {
  private readonly pages: Map<number, Page>;

  constructor(private readonly dump: Dump) {
    this.pages = naivePages(dump);
  }

  get lastPage(): number {
    return Math.max(0, ...this.pages.keys());
  }

  page(pa: number): Page | undefined {
    return this.pages.get(Math.floor(pa / this.dump.pageSize));
  }

  dumped(pa: number): boolean {
    return (this.page(pa)?.index ?? -1) >= 0;
  }

  locate(pa: number): number {
    const { pageSize, fileSize } = this.dump;
    if (!this.dumped(pa)) return ABSENT;
    const offset = PAGES_AT + this.page(pa)!.index * pageSize + (pa % pageSize);
    return offset < fileSize ? offset : TRUNCATED;
  }

  /** Whether a run of pages may stop between two bytes: one range of the machine ends and another begins. */
  rangeEnds(before: number, behind: number): boolean {
    return this.page(before)?.range !== this.page(behind)?.range;
  }

  check(memory: SparsePages, pa: number, limit: number): void {
    const at = this.locate(pa);
    same(memory.locate(pa), at, 'locate', pa);
    same(memory.pageIndex(pa), this.page(pa)?.index ?? -1, 'pageIndex', pa);
    if (at >= 0) this.checkRun(memory, pa, limit);
    else this.checkHole(memory, pa, limit);
    this.checkNext(memory, pa);
    this.checkLimits(memory, pa, pa + limit);
  }

  /** With a limit, what lies below it is told exactly, and the rest is anything from it on. */
  private checkLimits(memory: SparsePages, pa: number, limit: number): void {
    const next = memory.nextDumped(pa);
    const found = memory.nextDumped(pa, limit);
    if (next >= 0 && next < limit) same(found, next, 'nextDumped', pa, limit);
    else same(found === -1 || found >= limit, true, 'nextDumped', pa, limit, found);
    if (!this.dumped(pa)) return;
    const end = memory.dumpedEnd(pa);
    if (end < limit) same(memory.dumpedEnd(pa, limit), end, 'dumpedEnd', pa, limit);
    else same(memory.dumpedEnd(pa, limit) >= limit, true, 'dumpedEnd', pa, limit);
  }

  private checkRun(memory: SparsePages, pa: number, limit: number): void {
    const run = memory.run(pa, limit);
    same(run >= 1 && run <= limit, true, 'run', pa, run, limit);
    for (let i = 0; i < run; i++) same(this.locate(pa) + i, this.locate(pa + i), 'run', pa, run, 'at', i);
    const more = this.locate(pa + run) === this.locate(pa) + run;
    if (run < limit && more) same(this.rangeEnds(pa, pa + run), true, 'run', pa, run);
  }

  private checkHole(memory: SparsePages, pa: number, limit: number): void {
    const status = this.locate(pa);
    const hole = memory.hole(pa, limit);
    same(hole >= 1 && hole <= limit, true, 'hole', pa, hole, limit);
    for (let i = 0; i < hole; i++) same(status, this.locate(pa + i), 'hole', pa, hole, 'at', i);
    if (hole === limit) return;
    if (status === ABSENT) same(this.dumped(pa + hole), true, 'hole', pa, hole);
    else same((pa + hole) % this.dump.pageSize, 0, 'hole', pa, hole);
  }

  private checkNext(memory: SparsePages, pa: number): void {
    const { pageSize } = this.dump;
    let next = pa - (pa % pageSize);
    while (next <= this.lastPage * pageSize && !this.dumped(next)) next += pageSize;
    same(memory.nextDumped(pa), this.dumped(next) ? next : -1, 'nextDumped', pa);
    if (!this.dumped(pa)) return;
    const end = memory.dumpedEnd(pa);
    same(end > pa && end % pageSize === 0, true, 'dumpedEnd', pa, end);
    for (let page = pa; page < end; page += pageSize)
      same(this.dumped(page), true, 'dumpedEnd', pa, end, page);
    if (this.dumped(end)) same(this.rangeEnds(end - 1, end), true, 'dumpedEnd', pa, end);
  }

  counts(): { dumped: number; missing: number; partial: number } {
    const { pageSize, bits, fileSize } = this.dump;
    const count = { dumped: 0, missing: 0, partial: 0 };
    const pages = new PageRanges(this.dump.ranges, pageSize).pages;
    for (const set of bits.slice(0, pages)) {
      if (!set) continue;
      const start = PAGES_AT + count.dumped++ * pageSize;
      if (start >= fileSize) count.missing++;
      else if (start + pageSize > fileSize) count.partial++;
    }
    return count;
  }
}

const PAGE_SIZES = [16, 64];

/** Up to six ranges with shared pages, holes and neighbours; all bits random, or all set. */
const dumps: fc.Arbitrary<Dump> = fc.constantFrom(...PAGE_SIZES).chain((pageSize) => {
  const step = fc.oneof(
    fc.nat(6 * pageSize),
    fc.nat(5).map((pages) => pages * pageSize),
    fc.constant(0),
  );
  return fc
    .record({
      steps: fc.array(fc.tuple(step, step), { maxLength: 6 }),
      bits: fc.oneof(
        fc.array(fc.boolean(), { minLength: 80, maxLength: 80 }),
        fc.constant(new Array<boolean>(80).fill(true)),
      ),
      cut: fc.oneof(fc.constant(0), fc.nat(12 * pageSize)),
    })
    .map(({ steps, bits, cut }) => {
      let at = 0;
      const ranges = steps.map(([gap, length]) => {
        const start = at + gap;
        at = start + Math.max(1, length);
        return { start, end: at };
      });
      const { pages } = new PageRanges(ranges, pageSize);
      const set = bits.slice(0, pages).filter(Boolean).length;
      return { pageSize, ranges, bits, fileSize: Math.max(0, PAGES_AT + set * pageSize - cut) };
    });
});

describe('SparsePages', () => {
  it('knows every byte, run and hole as the naive model does', () => {
    fc.assert(
      fc.property(dumps, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 400 }))), (dump, queries) => {
        const memory = open(dump);
        const model = new Model(dump);
        expect(memory.pages).toEqual(model.counts());
        const end = (model.lastPage + 3) * dump.pageSize;
        for (let pa = 0; pa < end; pa += dump.pageSize / 2) model.check(memory, pa, dump.pageSize * 3);
        for (const [pa, limit] of queries) model.check(memory, pa % end, limit);
      }),
      runs(100),
    );
  });

  it('is right for a file cut at any byte', () => {
    const ranges = [
      { start: 0x10, end: 0x48 },
      { start: 0x48, end: 0x70 }, // shares a page
      { start: 0x100, end: 0x130 },
    ];
    const bits = [true, true, false, true, false, true, true, true, false, true, true];
    const whole = PAGES_AT + 8 * 16;
    for (let fileSize = 0; fileSize <= whole + 20; fileSize++) {
      const dump = { pageSize: 16, ranges, bits, fileSize };
      const memory = open(dump);
      const model = new Model(dump);
      expect(memory.pages).toEqual(model.counts());
      for (let pa = 0; pa < 0x150; pa += 5) model.check(memory, pa, 40);
    }
  });

  it('has the offsets of freebsd-dumps.md 7.1', () => {
    const ranges = new PageRanges(
      [
        { start: 0x1000, end: 0xa0000 },
        { start: 0x100000, end: 0x40000000 },
      ],
      4096,
    );
    const section = new Uint8Array(0x8000);
    const add = (bit: number): void => void (section[bit >> 3] |= 1 << (bit & 7));
    for (const pa of [0x2000, 0x9f000]) add(pa / 4096 - 1);
    for (const pa of [0x100000, 0x2345000, 0x3456000]) add(pa / 4096 - 0x100 + 159);
    for (let i = 0; i < 512; i++) add(0x1e00 + i - 0x100 + 159);
    const bitmap = new StoredBitmap(new MemorySource(section), ranges.pages, 'little');
    const memory = new SparsePages(
      new BlockCache(new PatternSource(0xa26000), 0),
      0x821000,
      ranges,
      bitmap,
      4096,
    );
    expect(memory.pages).toEqual({ dumped: 517, missing: 0, partial: 0 });
    expect([0x2010, 0x1e34567, 0x2345000, 0x3456678].map((pa) => memory.locate(pa))).toEqual([
      ...[0x821010, 0x858567, 0xa24000, 0xa25678],
    ]);
    expect([0xb0000, 0, 0x1000, 0x40000000, 0x2346000].map((pa) => memory.locate(pa))).toEqual(
      new Array(5).fill(ABSENT),
    );
    expect(memory.run(0x1e34567, 2 ** 40)).toBe(0x2000000 - 0x1e34567);
    expect(memory.hole(0xb0000, 2 ** 40)).toBe(0x100000 - 0xb0000);
    expect(memory.hole(0x40000000, 2 ** 40)).toBe(2 ** 40);
    expect(memory.nextDumped(0x101000)).toBe(0x1e00000);
    expect(memory.dumpedEnd(0x1e00000)).toBe(0x2000000);
    expect(memory.nextDumped(0x3457000)).toBe(-1);
  });

  it('is exact for physical addresses and files beyond 2^32', () => {
    const base = 2 ** 44;
    const ranges = new PageRanges([{ start: base, end: base + 2 ** 31 }], 4096);
    const section = new Uint8Array(2 ** 16).fill(255);
    const bitmap = new StoredBitmap(new MemorySource(section), ranges.pages, 'little');
    const at = 2 ** 40;
    const memory = new SparsePages(
      new BlockCache(new PatternSource(at + 2 ** 31 - 7), 0),
      at,
      ranges,
      bitmap,
      4096,
    );
    expect(memory.pages).toEqual({ dumped: 2 ** 19, missing: 0, partial: 1 });
    expect(memory.locate(base + 2 ** 30 + 123)).toBe(at + 2 ** 30 + 123);
    expect(memory.run(base + 5, 2 ** 50)).toBe(2 ** 31 - 7 - 5);
    expect(memory.locate(base + 2 ** 31 - 8)).toBe(at + 2 ** 31 - 8);
    expect(memory.locate(base + 2 ** 31 - 7)).toBe(TRUNCATED);
    expect(memory.hole(base + 2 ** 31 - 7, 2 ** 50)).toBe(7);
    expect(memory.locate(base + 2 ** 31)).toBe(ABSENT);
    expect(memory.nextDumped(0)).toBe(base);
  });

  it('may hold nothing', () => {
    const dump = { pageSize: 16, ranges: [], bits: [], fileSize: 10 };
    const memory = open(dump);
    expect(memory.pages).toEqual({ dumped: 0, missing: 0, partial: 0 });
    expect([memory.locate(0), memory.nextDumped(0), memory.hole(0, 50)]).toEqual([ABSENT, -1, 50]);
  });
});

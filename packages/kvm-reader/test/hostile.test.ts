import { amd64 } from '@libkvm/arch-amd64';
import type { KvmErrorCode } from '@libkvm/minidump-core';
import { describe, expect, it, vi } from 'vitest';
import type { Kvm } from '../src/kvm.js';
import { openKvm } from '../src/open.js';
import { checkAgreement } from './support/agree.js';
import { caught } from './support/faults.js';
import { LONG } from './support/long.js';
import { openAmd64, sparseSource } from './support/open.js';
import { SlowMinidump } from './support/slow-minidump.js';
import { SMALL, smallDump } from './support/small-machine.js';

/** Damage of every kind, one by one: right answers, or a KvmError with a code, a place and a reason. */

type Bytes = Uint8Array<ArrayBuffer>;
type Header = Partial<Record<keyof typeof FIELDS, number | bigint>>;

/** Offsets of the header's fields (freebsd-dumps.md 2.1.1). */
const FIELDS = {
  version: 24,
  msgbufsize: 28,
  bitmapsize: 32,
  pmapsize: 36,
  kernbase: 40,
  dmapbase: 48,
  dmapend: 56,
  dumpavailsize: 64,
} as const;

const versions = [1, 2, 3] as const;
const { sections } = smallDump(3).expected;
const open = (bytes: Uint8Array): Kvm => openKvm(bytes, { architectures: [amd64] });

/** The small core with other values in its header. */
function withHeader(header: Header, version: 1 | 2 | 3 = 3): Bytes {
  const bytes = smallDump(version).file.bytes();
  const view = new DataView(bytes.buffer);
  for (const [name, value] of Object.entries(header)) {
    const at = FIELDS[name as keyof typeof FIELDS];
    if (at >= 40 && at < 64) view.setBigUint64(at, BigInt(value), true);
    else view.setUint32(at, Number(value), true);
  }
  return bytes;
}

/** The small version 3 core with other physical ranges. */
function withRanges(...pairs: readonly (number | bigint)[]): Bytes {
  const bytes = smallDump(3).file.bytes();
  const { offset, length } = sections.dumpAvail;
  bytes.fill(0, offset, offset + length);
  const view = new DataView(bytes.buffer);
  pairs.forEach((value, i) => view.setBigUint64(offset + i * 8, BigInt(value), true));
  return bytes;
}

/** The small version 3 core with other entries: `pde` 0 covers kernbase, 1 the 2 MB behind. */
function withEntries(
  entries: Readonly<Record<number, bigint>>,
  bytes: Bytes = smallDump(3).file.bytes(),
): Bytes {
  const view = new DataView(bytes.buffer);
  for (const [i, entry] of Object.entries(entries)) {
    view.setBigUint64(sections.table.offset + Number(i) * 8, entry, true);
  }
  return bytes;
}

describe('a file that ends early', () => {
  it.each(versions)('says so at every length of the header page of version %i', (version) => {
    const bytes = smallDump(version).file.bytes();
    for (let length = 0; length <= 4096; length++) {
      const { code, message, hint } = caught(() => open(bytes.subarray(0, length)));
      const wanted =
        length === 0 ? ['NOT_A_CORE'] : length < 22 ? ['NOT_A_CORE', 'UNSUPPORTED'] : ['TRUNCATED'];
      if (!wanted.includes(code)) expect(`${length}: ${code}`).toBe(`${length}: ${wanted.join()}`);
      if (length >= 22 && !/cut|short/.test(`${message} ${hint}`)) expect(message).toContain('cut');
    }
  });

  it.each(versions)('gives what is there at every other length of version %i', (version) => {
    const dump = smallDump(version);
    const bytes = dump.file.bytes();
    const { header: _, ...rest } = dump.expected.sections;
    const edges = Object.values(rest).flatMap(({ offset, length }) => [offset, offset + length]);
    for (let length = 4097; length <= bytes.length; length += LONG ? 13 : 4999) edges.push(length);
    const pages = dump.expected.sections.pages.offset;
    for (const length of edges.flatMap((edge) => [edge - 1, edge, edge + 9])) {
      const outcome = checkAgreement(bytes.subarray(0, length));
      if (length < pages - 4096 && outcome === undefined) expect.fail(`${length} bytes open`);
      if (length >= pages && outcome !== undefined) expect.fail(`${length} bytes: ${outcome}`);
    }
  });

  it('names the section that is missing', () => {
    const bytes = smallDump(3).file.bytes();
    for (const name of ['msgbuf', 'dumpAvail', 'bitmap', 'table'] as const) {
      const { offset, length } = sections[name];
      const error = caught(() => open(bytes.subarray(0, offset + 1)), 'TRUNCATED');
      expect(error).toMatchObject({ field: name, offset });
      expect(error.length).toBeGreaterThan(length - 4096);
    }
    const cut = open(bytes.subarray(0, sections.pages.offset + 4096 + 100));
    expect(cut.core.warnings.join()).toMatch(/cut short/);
  });

  it('is no reason to refuse one that is longer than it needs to be', () => {
    const bytes = smallDump(3).file.bytes();
    const longer = new Uint8Array(bytes.length + 5000).fill(0xff);
    longer.set(bytes);
    expect(checkAgreement(longer)).toBeUndefined();
    expect(open(longer).core.warnings).toEqual([]);
  });

  it('may hold no page at all', () => {
    const bytes = smallDump(3).file.bytes();
    bytes.fill(0, sections.bitmap.offset, sections.bitmap.offset + sections.bitmap.length);
    const empty = bytes.subarray(0, sections.pages.offset);
    expect(checkAgreement(empty)).toBeUndefined();
    const kvm = open(empty);
    expect(kvm.core.memory.pages).toEqual({ dumped: 0, missing: 0, partial: 0 });
    caught(() => kvm.readU8(SMALL.dmap.base + 0x2000n), 'NOT_DUMPED');
    expect([...kvm.pages()].every(({ offset }) => offset === undefined)).toBe(true);
    expect([...kvm.search('a')]).toEqual([]);
  });
});

describe('a header', () => {
  it('of an unknown version is UNSUPPORTED', () => {
    for (const version of [0, 4, 5, 0x01000000, 0x7fffffff, 0xffffffff]) {
      const error = caught(() => open(withHeader({ version })), 'UNSUPPORTED');
      expect(error).toMatchObject({ field: 'version', offset: 24 });
      expect(error.message).toContain(String(version));
    }
  });

  it('with sizes near 2^32 is TRUNCATED, and takes no memory', () => {
    const before = process.memoryUsage().arrayBuffers;
    const fields = {
      msgbufsize: 'msgbuf',
      bitmapsize: 'bitmap',
      pmapsize: 'table',
      dumpavailsize: 'dumpAvail',
    };
    for (const [field, name] of Object.entries(fields)) {
      for (const size of [0xffffffff, 0xfffff000, 0x80000000, 0x7fffffff]) {
        for (const version of versions) {
          if (field === 'dumpavailsize' && version < 3) continue;
          expect(caught(() => open(withHeader({ [field]: size }, version)), 'TRUNCATED').field).toBe(name);
        }
      }
    }
    const all = {
      msgbufsize: 0xffffffff,
      bitmapsize: 0xffffffff,
      pmapsize: 0xffffffff,
      dumpavailsize: 0xffffffff,
    };
    caught(() => open(withHeader(all)), 'TRUNCATED');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 26);
  });

  it('with sizes near 2^32 in a file that has them is read on demand', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (const field of ['msgbufsize', 'pmapsize', 'dumpavailsize'] as const) {
      const head = withHeader({ [field]: 0xfffff000 }).subarray(0, 4096);
      // The sections that follow move up by 4 GB.
      const small = smallDump(3).file.bytes();
      const moved =
        field === 'msgbufsize' ? sections.dumpAvail : field === 'pmapsize' ? sections.pages : sections.bitmap;
      const shift =
        0xfffff000 -
        (moved.offset -
          (field === 'msgbufsize'
            ? 4096
            : field === 'pmapsize'
              ? sections.table.offset
              : sections.dumpAvail.offset));
      const source = sparseSource(2 ** 34, [
        [0, small.slice(0, moved.offset)],
        [moved.offset + shift, small.slice(moved.offset)],
        [0, head],
      ]);
      // The zeros of the longer section overlay nothing: pieces are in order, and the last one wins.
      const kvm = openAmd64(source);
      const wanted = open(small);
      expect(kvm.readU64(SMALL.pages)).toBe(wanted.readU64(SMALL.pages));
      expect(kvm.readU64(SMALL.big + 0x3008n)).toBe(wanted.readU64(SMALL.big + 0x3008n));
      if (field === 'msgbufsize') expect(kvm.messageBuffer()).toBeUndefined();
      if (field === 'pmapsize') caught(() => kvm.readU8(SMALL.kernbase + (1n << 40n)), 'NOT_MAPPED');
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 28);
  });

  it('with a kernbase that is not aligned is CORRUPT', () => {
    for (const [version, kernbase] of [
      [1, SMALL.kernbase + 1n],
      [1, SMALL.kernbase + 0x800n],
      [2, SMALL.kernbase + 0x1000n],
      [3, SMALL.kernbase + 0x100000n],
      [3, 0xffffffffffffffffn],
    ] as const) {
      const error = caught(() => open(withHeader({ kernbase }, version)), 'CORRUPT');
      expect(error).toMatchObject({ field: 'kernbase', offset: 40 });
    }
    expect(checkAgreement(withHeader({ kernbase: SMALL.kernbase + 0x3000n }, 1))).toBeUndefined();
  });

  it('with a kernbase so high that its table wraps loses the entries behind the wrap', () => {
    const at = (kernbase: bigint, version: 1 | 2 | 3): Kvm => {
      const bytes = withHeader({ kernbase }, version);
      const probes = [0n, 1n, 0x1000n, 0x1ff8n, 0x200000n, 0x203000n, 0x3000n];
      expect(checkAgreement(bytes, probes)).toBeUndefined();
      return open(bytes);
    };
    for (const version of [2, 3] as const) {
      const kvm = at(0xffffffffffe00000n, version); // room for one of its entries
      expect(kvm.resolve(0xffffffffffe01000n).physicalAddress).toBe(0x2000);
      caught(() => kvm.resolve(0x1000n), 'NOT_MAPPED');
      caught(() => kvm.resolve(0n), 'NOT_MAPPED');
      expect(at(0xffffffffffc00000n, version).resolve(0xffffffffffe02000n).physicalAddress).toBe(0x2000);
    }
    const kvm = at(0xfffffffffffff000n, 1);
    caught(() => kvm.resolve(0n), 'NOT_MAPPED');
    expect(at(0xffffffffffffe000n, 1).resolve(0xfffffffffffff000n).physicalAddress).toBe(0x2000);
  });

  it('with a direct map that ends before it begins, or is wider than any memory, has none and says so', () => {
    for (const [dmapbase, dmapend] of [
      [SMALL.dmap.end, SMALL.dmap.base],
      [0xfffffffffffff000n, 0n],
      [0x1000n, 0n],
      [0n, 0xfffffffffffff000n],
      [SMALL.dmap.base, SMALL.dmap.base + (1n << 53n) + 0x1000n],
    ] as const) {
      const bytes = withHeader({ dmapbase, dmapend });
      expect(checkAgreement(bytes, [0x2000n, 0xfffffffffffff000n])).toBeUndefined();
      const kvm = open(bytes);
      expect(kvm.core.directMap).toBeUndefined();
      expect(kvm.core.warnings.join()).toMatch(/direct map/);
      caught(() => kvm.readU8(SMALL.dmap.base + 0x2000n), 'NOT_MAPPED');
      expect([...kvm.pages()].every(({ dmap }) => dmap === undefined)).toBe(true);
    }
    // As wide as exact PAs allow, which is wider than physical memory, it is one.
    const widest = withHeader({ dmapbase: 0n, dmapend: 1n << 53n });
    expect(checkAgreement(widest, [0x2000n, (1n << 53n) - 1n])).toBeUndefined();
    expect(open(widest).core.directMap?.end).toBe(1n << 53n);
    for (const at of [SMALL.dmap.base, 0n, 5n]) {
      const none = open(withHeader({ dmapbase: at, dmapend: at }));
      expect(none.core.directMap).toBeUndefined();
      expect(none.core.warnings).toEqual([]);
    }
  });

  it('with a direct map over the tables reads through the direct map first', () => {
    for (const [dmapbase, dmapend] of [
      [0xfff0000000000000n, 0xffffffffff000000n],
      [SMALL.kernbase + 0x2000n, SMALL.kernbase + 0x9000n],
      [SMALL.big + 0x2000n, SMALL.big + 0x9000n],
      [SMALL.big - 0x2000n, SMALL.big + 0x9000n],
    ] as const) {
      const bytes = withHeader({ dmapbase, dmapend });
      expect(checkAgreement(bytes)).toBeUndefined();
      const slow = new SlowMinidump(bytes);
      const kvm = open(bytes);
      // Reads that go into it and out of it, page by page.
      for (const from of [
        dmapbase - 0x3000n,
        dmapbase + 0x1800n,
        dmapend - 0x1800n,
        SMALL.kernbase,
        SMALL.big,
      ]) {
        const found = kvm.read(from, 0x20000, { pad: true });
        for (let at = 0; at < found.length; at += 0x800) {
          const { code, offset = 0 } = slow.resolve(from + BigInt(at));
          const wanted = code === undefined ? bytes.subarray(offset, offset + 8) : new Uint8Array(8);
          if (Buffer.compare(found.subarray(at, at + 8), wanted) !== 0)
            expect.fail(`${from.toString(16)}+${at}`);
        }
      }
    }
  });

  it('with a direct map that does not begin and end at a page is CORRUPT', () => {
    for (const [dmapbase, dmapend, field] of [
      [SMALL.dmap.base + 8n, SMALL.dmap.end, 'dmapbase'],
      [SMALL.dmap.base + 0x1800n, SMALL.dmap.end, 'dmapbase'],
      [SMALL.dmap.base, SMALL.dmap.end - 1n, 'dmapend'],
    ] as const) {
      const bytes = withHeader({ dmapbase, dmapend });
      expect(checkAgreement(bytes)).toBe('CORRUPT');
      expect(caught(() => open(bytes), 'CORRUPT').field).toBe(field);
    }
  });
});

describe('physical ranges', () => {
  const bad: readonly (readonly [string, readonly (number | bigint)[]])[] = [
    ['reversed', [0x9000, 0x1000]],
    ['empty', [0x1000, 0x1000]],
    ['overlapping', [0x1000, 0x9000, 0x8000, 0x10000]],
    ['out of order', [0x10000, 0x18000, 0x1000, 0x9000]],
    ['nested', [0x1000, 0x10000, 0x2000, 0x3000]],
    ['above 2^52', [0x1000, 0x9000, 1n << 52n, (1n << 52n) + 0x1000n]],
    ['above 2^53', [0x1000, (1n << 53n) + 1n]],
    ['near 2^64', [0x1000, 0xffffffffffffffffn]],
    ['with a start near 2^64', [0xfffffffffffff000n, 0x1000]],
    ['of more pages than the bitmap has', [0x1000, 0x9000, 0x10000, 0x10000000000]],
    ['of one page more than the bitmap has', [0, 4096 * 8 * 4096 + 1]],
  ];
  it.each(bad)('%s are CORRUPT', (_, pairs) => {
    const bytes = withRanges(...pairs);
    expect(checkAgreement(bytes)).toBe('CORRUPT');
    expect(caught(() => open(bytes), 'CORRUPT').hint).toMatch(/damaged/);
  });

  it.each([
    ['none', []],
    ['as many pages as the bitmap has', [0, 4096 * 8 * 4096]],
    ['that share a page', [0x1800, 0x4800, 0x4800, 0x9000, 0x10000, 0x18000]],
    ['that share a page and touch', [0x1800, 0x4801, 0x4fff, 0x6000, 0x6000, 0x18000]],
    ['of one byte', [0x1fff, 0x2000, 0x2fff, 0x3000, 0x10000, 0x10001]],
    ['up to 2^52', [0x1000, 0xa800, (1n << 52n) - 0x1000n, 1n << 52n]],
  ] as const)('%s are fine', (_, pairs: readonly (number | bigint)[]) => {
    expect(checkAgreement(withRanges(...pairs))).toBeUndefined();
  });

  it('without an end stop with their section', () => {
    const { offset, length } = sections.dumpAvail;
    const bytes = smallDump(3).file.bytes();
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < length / 16; i++) {
      view.setBigUint64(offset + i * 16, BigInt(i * 0x2000 + 0x1000), true);
      view.setBigUint64(offset + i * 16 + 8, BigInt(i * 0x2000 + 0x2000), true);
    }
    expect(checkAgreement(bytes)).toBeUndefined();
    expect(open(bytes).core.memory.ranges.ranges.length).toBe(256);
    for (const size of [1, 15, 16, 17, 31, 32, 33]) {
      new DataView(bytes.buffer).setUint32(FIELDS.dumpavailsize, size, true);
      expect(checkAgreement(bytes)).toBeUndefined();
      expect(open(bytes).core.memory.ranges.ranges.length).toBe(Math.floor(size / 16));
    }
  });

  it('a bitmap that is too small for them is CORRUPT', () => {
    for (const bitmapsize of [0, 1, 2]) {
      const error = caught(() => open(withHeader({ bitmapsize })), 'CORRUPT');
      expect(error.field).toBe('bitmapsize');
      expect(checkAgreement(withHeader({ bitmapsize }))).toBe('CORRUPT');
    }
    expect(checkAgreement(withHeader({ bitmapsize: 3 }))).toBeUndefined(); // 18 pages
  });

  it('bits behind the last page are ignored, with a warning', () => {
    const bytes = smallDump(3).file.bytes();
    const { offset, length } = sections.bitmap;
    bytes[offset + 2] |= 0xfc; // bits 18 to 23
    bytes[offset + length - 1] = 0x80;
    expect(checkAgreement(bytes)).toBeUndefined();
    const kvm = open(bytes);
    expect(kvm.core.warnings.join()).toMatch(/7 bits are set behind the last page/);
    expect([...kvm.pages()]).toEqual([...open(smallDump(3).file.bytes()).pages()]);
  });

  it('version 2 takes no notice of a dumpavailsize', () => {
    for (const version of [1, 2] as const) {
      const bytes = withHeader({ dumpavailsize: 0x1000 }, version);
      expect(checkAgreement(bytes)).toBeUndefined();
      expect(open(bytes).core.sections.some(({ name }) => name === 'dumpAvail')).toBe(false);
    }
  });
});

describe('page tables', () => {
  const P = 0x63n;

  /** The PA of the page table of the small machine: the frame of its first PDE. */
  const tablePa =
    new DataView(smallDump(3).file.bytes().buffer).getBigUint64(sections.table.offset, true) & ~0xfffn;

  it('that point at themselves map themselves, and no more', () => {
    const bytes = smallDump(3).file.bytes();
    const slot = open(bytes).resolve(SMALL.dmap.base + tablePa).fileOffset!;
    const view = new DataView(bytes.buffer);
    view.setBigUint64(slot, tablePa | P, true);
    expect(checkAgreement(bytes)).toBeUndefined();
    const kvm = open(bytes);
    expect(kvm.readU64(SMALL.kernbase)).toBe(tablePa | P);
    for (let i = 0; i < 512; i++) view.setBigUint64(slot + i * 8, tablePa | P, true);
    withEntries(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, tablePa | P])), bytes);
    expect(checkAgreement(bytes)).toBeUndefined();
    const rows = [...open(bytes).pages()];
    expect(rows.filter(({ kva }) => kva !== undefined).length).toBe(512 * 512);
    expect(rows.filter(({ kva, pa }) => kva !== undefined && pa !== Number(tablePa))).toEqual([]);
  });

  it('that are no page tables are read as if they were', () => {
    for (const frame of [0x2000n, 0x3000n, 0x8000n, 0x11000n]) {
      expect(checkAgreement(withEntries({ 0: frame | P, 1: frame | P }))).toBeUndefined();
    }
  });

  it('that are not there are told from entries that are not', () => {
    const far: readonly (readonly [bigint, KvmErrorCode])[] = [
      [0xd0000000n | P, 'NOT_DUMPED'],
      [0x5000n | P, 'NOT_DUMPED'],
      [0xb000n | P, 'NOT_DUMPED'],
      [((1n << 52n) - 0x1000n) | P, 'NOT_DUMPED'],
      [0xfffffffffffffffen, 'NOT_MAPPED'],
      [0n, 'NOT_MAPPED'],
      [0x80n, 'NOT_MAPPED'],
    ];
    for (const [entry, code] of far) {
      const bytes = withEntries({ 0: entry });
      expect(checkAgreement(bytes)).toBeUndefined();
      const error = caught(() => open(bytes).readU64(SMALL.kernbase + 0x1010n), code);
      expect(error.address).toBe(SMALL.kernbase + 0x1010n);
      expect(0x200000 - 0x1010 - error.holeLength!).toBeGreaterThanOrEqual(0);
      if (code === 'NOT_DUMPED') expect(error.message).toMatch(/page table/);
    }
    const big = withEntries({ 0: ((1n << 52n) - 0x200000n) | P | 0x80n });
    expect(checkAgreement(big)).toBeUndefined();
    expect(caught(() => open(big).readU8(SMALL.kernbase), 'NOT_DUMPED').physicalAddress).toBe(
      2 ** 52 - 0x200000,
    );
  });

  it('with every reserved bit set mask them', () => {
    const bytes = withEntries({ 0: tablePa | 0x7ff0000000000f7fn, 1: 0x7ff00000001fefffn });
    expect(checkAgreement(bytes)).toBeUndefined();
    expect(open(bytes).resolve(SMALL.pages).physicalAddress).toBe(0x2000);
    expect(open(bytes).resolve(SMALL.big + 0x3000n).physicalAddress).toBe(0x3000);
  });

  it('of a megabyte that all name one table are walked in bounded steps', () => {
    const head = withHeader({ pmapsize: 0x800000 });
    const bytes = new Uint8Array(head.length + 0x800000 - 4096);
    const behind = sections.table.offset + 0x800000;
    bytes.set(head.subarray(0, sections.table.offset));
    bytes.set(head.subarray(sections.pages.offset), behind);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 0x100000; i++) view.setBigUint64(sections.table.offset + i * 8, tablePa | P, true);
    const kvm = open(bytes);
    let rows = 0;
    for (const { pa } of kvm.pages()) {
      if (pa % 4096 !== 0 || ++rows === 100_000) break;
    }
    expect(rows).toBe(100_000);
    expect(kvm.resolve(SMALL.kernbase + 0xfffffn * 0x200000n + 0x1000n).physicalAddress).toBe(0x2000);
  });

  it('that map what is not dumped cost no look at all the ranges, row by row', () => {
    // Ranges of one page each with holes between them, and tables that map a hole over and over.
    const ranges = 4096;
    const bytes = rangesAndTables(ranges, 8);
    const kvm = open(bytes);
    const { ranges: pageRanges } = kvm.core.memory;
    const asked = vi.spyOn(pageRanges, 'nextPage');
    let rows = 0;
    for (const { offset } of kvm.pages()) if (offset !== undefined || ++rows === 1000) break;
    expect(rows).toBe(1000);
    const padded = kvm.read(SMALL.kernbase, 500 * 4096, { pad: true });
    expect(padded.every((byte) => byte === 0)).toBe(true);
    expect(asked.mock.calls.length).toBeLessThan(20_000);
  });

  it('whose size is no multiple of an entry lose the rest', () => {
    for (const pmapsize of [0, 1, 7, 8, 9, 15, 16, 4095]) {
      expect(checkAgreement(withHeader({ pmapsize }), [SMALL.big, SMALL.pages])).toBe(
        pmapsize === 0 ? checkAgreement(withHeader({ pmapsize })) : undefined,
      );
    }
    const kvm = open(withHeader({ pmapsize: 15 }));
    expect(kvm.resolve(SMALL.pages).physicalAddress).toBe(0x2000);
    caught(() => kvm.resolve(SMALL.big), 'NOT_MAPPED');
  });
});

/** A version 3 core of many physical ranges, one dumped page, and 2 MB pieces of KVA that all map one absent page. */
function rangesAndTables(ranges: number, tables: number): Bytes {
  const [avail, bitmap] = [(ranges + 1) * 16, Math.ceil(ranges / 8)].map(
    (size) => Math.ceil(size / 4096) * 4096,
  );
  const at = { avail: 4096, bitmap: 4096 + avail, table: 4096 + avail + bitmap, page: 8192 + avail + bitmap };
  const bytes = new Uint8Array(at.page + 4096);
  bytes.set(smallDump(3).file.bytes().subarray(0, 4096));
  const view = new DataView(bytes.buffer);
  const sizes = { msgbufsize: 0, bitmapsize: bitmap, pmapsize: 4096, dumpavailsize: avail };
  for (const [name, size] of Object.entries(sizes))
    view.setUint32(FIELDS[name as keyof typeof sizes], size, true);
  for (let i = 0; i < ranges; i++) {
    view.setBigUint64(at.avail + i * 16, BigInt(0x1000 + i * 0x2000), true);
    view.setBigUint64(at.avail + i * 16 + 8, BigInt(0x2000 + i * 0x2000), true);
  }
  bytes[at.bitmap] = 1;
  for (let i = 0; i < tables; i++) view.setBigUint64(at.table + i * 8, 0x1063n, true);
  for (let i = 0; i < 512; i++) view.setBigUint64(at.page + i * 8, 0x3063n, true);
  return bytes;
}

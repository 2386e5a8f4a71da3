import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import {
  flatTable,
  Losses,
  tableWindow,
  type ByteOrder,
  type EncodedLeaf,
  type LeafEncoder,
  type LiteralMapping,
  type LossKind,
  type PageMapping,
} from '../src/index.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { literalTable, type LiteralTable } from './table-source.js';
import { encodeToy, toyFormat } from './toy-machine.js';

/** Table sections with an entry for each 4 KB, against a model that makes them page by page with bigints. */

const FOUR_GB = 2 ** 32;
const REPEATED = 0x4000;
/** Rights and GLOBAL: what an entry of the toy machine has. */
const TOY_FLAGS = 0x1f;
const RIGHTS = ['r--', 'rw-', 'r-x', 'rwx'];

interface ToyEncoderOptions {
  readonly entryBytes: 4 | 8;
  readonly byteOrder: ByteOrder;
  /** Flags that entries lose. */
  readonly loses?: number;
  /** A right that the second half of each page has not. */
  readonly half?: number;
}

/** Entries of the toy machine; pages of 16 KB and more by four entries that are the same. */
function toyEncoder({ entryBytes, byteOrder, loses = 0, half = 0 }: ToyEncoderOptions): LeafEncoder {
  return {
    format: toyFormat(entryBytes),
    byteOrder,
    repeated: REPEATED,
    encode(mapping: PageMapping, out: EncodedLeaf): string | undefined {
      if (entryBytes === 4 && mapping.pa + mapping.length > FOUR_GB) return 'its PA is above 4 GB';
      const entry = entryFor(mapping.pa, mapping.flags & ~loses, isLarge(mapping));
      out.low = Number(entry & 0xffff_ffffn);
      out.high = Number(entry >> 32n);
      out.step = isLarge(mapping) ? 0 : 4096;
      return undefined;
    },
    ...(half > 0 && {
      flagsAt: ({ low }: EncodedLeaf, pa: number) =>
        (low >>> 2) & TOY_FLAGS & (pa % 4096 < 2048 ? -1 : ~half),
    }),
  };
}

function isLarge({ page, pa, pageSize }: Pick<PageMapping, 'page' | 'pa' | 'pageSize'>): boolean {
  return pageSize === REPEATED && (page * 4096 - pa) % REPEATED === 0;
}

function entryFor(pa: number, flags: number, large: boolean): bigint {
  const start = large ? pa - (pa % REPEATED) : pa;
  const fields = { fine: false, software: false, kind: 2 as const };
  return encodeToy({ ...fields, pa: start, flags: flags & TOY_FLAGS, repeated: large });
}

function bytesOf(plan: ReturnType<typeof flatTable>): Buffer {
  const pieces: Buffer[] = [];
  for (const piece of plan.produce()) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

const mappingLists = fc
  .array(
    fc.record({
      gap: fc.oneof(fc.constant(0), fc.nat(40), fc.constant(20_000)),
      pages: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })),
      pa: fc.oneof(fc.nat(0xf_0000), fc.nat(2 ** 38)),
      aligned: fc.boolean(),
      size: fc.constantFrom(4096, REPEATED, 0x20_0000),
      right: fc.nat(3),
      user: fc.boolean(),
      global: fc.boolean(),
    }),
    { maxLength: 12 },
  )
  .map((list) => {
    let page = 0x10_0000;
    return list.map(({ gap, pages, pa, aligned, size, right, user, global }): LiteralMapping => {
      page += gap;
      const pfn = aligned ? pa - (pa % 4) + (page % 4) : pa;
      const kva = page * 4096;
      page += pages;
      const place = { kva, pa: pfn * 4096, length: pages * 4096, pageSize: size };
      return { ...place, protection: RIGHTS[right], user, global };
    });
  });

const flagsOf = ({ protection, user, global }: LiteralMapping): number =>
  [1, 3, 5, 7][RIGHTS.indexOf(protection ?? '')] + (user ? 8 : 0) + (global ? 16 : 0);

describe('a flat table', () => {
  const encoders = fc.record({
    entryBytes: fc.constantFrom<4 | 8>(4, 8),
    byteOrder: fc.constantFrom<ByteOrder>('little', 'big'),
    loses: fc.constantFrom(0, 2, 8, 16),
  });

  test.prop([mappingLists, encoders, fc.nat(3)], runs(100))(
    'has the entry of each page at its place, and says what is lost',
    (mappings, options, unitShift) => {
      const { entryBytes, byteOrder, loses } = options;
      const losses = new Losses(true);
      const source = literalTable(mappings, {}, losses);
      const window = tableWindow(source, {}, 2 ** unitShift);
      const plan = flatTable(source, window, toyEncoder(options));
      const found = bytesOf(plan);
      const pages = window.toPage - window.fromPage;
      const wanted = Buffer.alloc(Math.ceil((pages * entryBytes) / 4096) * 4096);
      const counts: Partial<Record<LossKind, number>> = {};
      const count = (kind: LossKind, lost: boolean): void => {
        if (lost) counts[kind] = (counts[kind] ?? 0) + 4096;
      };
      for (const mapping of mappings) {
        const { kva, pa, length, pageSize = 0 } = mapping;
        const flags = flagsOf(mapping);
        const leftOut = (at: number): boolean => {
          if (entryBytes === 8) return false;
          // What is encoded at a time is left out at a time.
          const start = pageSize < REPEATED ? pa : Math.max(pa, at - (at % REPEATED));
          const end =
            pageSize < REPEATED ? pa + length : Math.min(pa + length, at - (at % REPEATED) + REPEATED);
          return start < end && end > FOUR_GB;
        };
        for (let done = 0; done < length; done += 4096) {
          const page = (Number(kva) + done) / 4096;
          const at = (page - window.fromPage) * entryBytes;
          const large = isLarge({ page, pa: pa + done, pageSize });
          count('mapping', leftOut(pa + done));
          if (leftOut(pa + done)) continue;
          const entry = entryFor(pa + done, flags & ~loses, large);
          if (entryBytes === 4)
            wanted[`writeUInt32${byteOrder === 'little' ? 'LE' : 'BE'}`](Number(entry), at);
          else wanted[`writeBigUInt64${byteOrder === 'little' ? 'LE' : 'BE'}`](entry, at);
          count('protection', (flags & loses & 7) > 0);
          count('user', (flags & loses & 8) > 0);
          count('global', (flags & loses & 16) > 0);
          count('pageSize', pageSize !== (large ? REPEATED : 4096));
        }
      }
      expect(found.length).toBe(plan.length);
      expect(found.equals(wanted)).toBe(true);
      const summed: Partial<Record<LossKind, number>> = {};
      for (const { kind, bytes } of losses.list) summed[kind] = (summed[kind] ?? 0) + bytes;
      expect(summed).toEqual(counts);
      // Writing it again counts nothing again.
      expect(bytesOf(plan).equals(found)).toBe(true);
      expect(losses.list.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(
        Object.values(counts).reduce((sum, bytes) => sum + bytes, 0),
      );
    },
  );

  it('counts exact entries that are made anew, by value and by width', () => {
    const losses = new Losses();
    const entry = (kva: number, value: bigint, entryBits: 32 | 64): LiteralMapping => ({
      ...{ kva, pa: 0x7000, length: 4096, entry: value, entryBits },
    });
    const made = entryFor(0x7000, 3, false);
    const mappings = [entry(0, made, 64), entry(0x1000, made, 32), entry(0x2000, made | 0x200n, 64)];
    const source = literalTable(mappings, {}, losses);
    flatTable(source, { fromPage: 0, toPage: 3 }, toyEncoder({ entryBytes: 8, byteOrder: 'little' }));
    expect(losses.list).toEqual([
      { kind: 'entry', reason: 'exact entries: they are made anew', bytes: 8192 },
    ]);
  });

  it('compares quarters of a page with what a reader finds there', () => {
    const losses = new Losses();
    const quarters = ['rw-', 'rw-', 'r--', 'rw-'].map((protection, i) => ({
      ...{ kva: i * 1024, pa: 0x7000 + i * 1024, length: 1024, protection },
    }));
    const source = literalTable(quarters, {}, losses);
    const encoder = toyEncoder({ entryBytes: 8, byteOrder: 'little', half: 2 });
    flatTable(
      source,
      { fromPage: 0, toPage: 1 },
      {
        ...encoder,
        encode: ({ pa }, out) => ((out.low = Number(entryFor(pa, 3, false))), undefined),
      },
    );
    // The third quarter cannot be written, as it should be; the fourth cannot, and should be.
    expect(losses.list).toEqual([
      { kind: 'protection', reason: 'protections read back otherwise of 4 KB pages', bytes: 1024 },
    ]);
  });

  it('counts parts that make up no page once, however often it is written', () => {
    const losses = new Losses(true);
    const source = literalTable([{ kva: 0x400, pa: 0x5400, length: 0x800 }], {}, losses);
    const encoder = toyEncoder({ entryBytes: 8, byteOrder: 'little' });
    const plan = flatTable(source, { fromPage: 0, toPage: 1 }, encoder);
    for (let i = 0; i < 2; i++) expect(bytesOf(plan).every((byte) => byte === 0)).toBe(true);
    expect(losses.list).toMatchObject([{ kind: 'mapping', bytes: 0x800 }]);
  });

  it('refuses a mapping that cannot be held when it is planned', () => {
    const source = literalTable([{ kva: 0xc000_0000, pa: FOUR_GB - 4096, length: 8192 }]);
    const encoder = toyEncoder({ entryBytes: 4, byteOrder: 'little' });
    const error = expectCode('UNSUPPORTED', () =>
      flatTable(source, { fromPage: 0xc_0000, toPage: 0xc_0002 }, encoder),
    );
    expect(error).toMatchObject({ address: 0xc000_0000n, physicalAddress: FOUR_GB - 4096 });
  });

  it('ends with IO where the source is another one when it is written', () => {
    const page = (kva: number, pa = 0x1000): LiteralMapping => ({ kva, pa, length: 4096 });
    const before = [page(0x1000), page(0x4000)];
    const changes = [
      [page(0x1000)],
      [page(0x1000), page(0x3000), page(0x4000)],
      [page(0x1000), page(0x80_0000)],
      [page(0), page(0x4000)],
      [page(0x1000), page(0x4000, 2 ** 33)],
    ];
    for (const after of changes) {
      const source: LiteralTable = literalTable(before);
      const window = { fromPage: 1, toPage: 5 };
      const plan = flatTable(source, window, toyEncoder({ entryBytes: 4, byteOrder: 'little' }));
      source.change(after);
      let bytes = 0;
      let code: unknown;
      try {
        for (const piece of plan.produce()) bytes += piece.length;
      } catch (error) {
        ({ code } = error as { code?: unknown });
      }
      // A section of another length is told by whoever puts sections together.
      expect(code === 'IO' || bytes !== plan.length, JSON.stringify(after)).toBe(true);
    }
  });

  it('of terabytes is planned at once and made in small pieces', () => {
    const pages = 2 ** 41 / 4096;
    const mappings = [0, pages - 1].map((page) => ({ kva: page * 4096, pa: 0x1000, length: 4096 }));
    const source = literalTable(mappings);
    const window = tableWindow(source, {}, 512);
    const plan = flatTable(source, window, toyEncoder({ entryBytes: 8, byteOrder: 'little' }));
    expect(plan.length).toBe(2 ** 32);
    let pieces = 0;
    for (const piece of plan.produce()) {
      expect(piece.length).toBeLessThanOrEqual(0x1_0000);
      expect(piece.some((byte) => byte !== 0)).toBe(pieces === 0);
      if (++pieces === 100) break;
    }
  });
});

describe('the window of a table', () => {
  const page = (kva: number): LiteralMapping => ({ kva, pa: 0, length: 4096 });
  const windowOf = (
    mappings: readonly LiteralMapping[],
    { kernbase, own }: { kernbase?: bigint; own?: bigint } = {},
    bits: 32 | 64 = 32,
  ): [number, number] => {
    const source = literalTable(mappings, { bits, ...(own !== undefined && { kernbase: own }) });
    const { fromPage, toPage } = tableWindow(source, kernbase === undefined ? {} : { kernbase }, 1024);
    return [fromPage, toPage];
  };

  it('goes from the first mapping to the last, in units', () => {
    expect(windowOf([page(0xc012_3000), page(0xc080_0000)])).toEqual([0xc_0000, 0xc_0c00]);
    expect(windowOf([page(0xffff_f000)])).toEqual([0xf_fc00, 0x10_0000]);
    expect(windowOf([page(0)])).toEqual([0, 0x400]);
  });

  it('starts at the kernbase of the source where nothing is mapped below', () => {
    expect(windowOf([page(0xc080_0000)], { own: 0xc000_0000n })).toEqual([0xc_0000, 0xc_0c00]);
    expect(windowOf([page(0x1000), page(0xc080_0000)], { own: 0xc000_0000n })).toEqual([0, 0xc_0c00]);
  });

  it('starts where it was asked to, rounded down', () => {
    expect(windowOf([page(0xc080_0000)], { kernbase: 0xc012_3456n, own: 0n })).toEqual([0xc_0000, 0xc_0c00]);
    expect(windowOf([page(0xc080_0000)], { kernbase: 0xffff_ffff_c000_0000n })).toEqual([0xc_0000, 0xc_0c00]);
  });

  it('does not start above what is mapped', () => {
    const error = expectCode('INVALID_ARGUMENT', () =>
      windowOf([page(0xbfff_f000)], { kernbase: 0xc000_0000n }),
    );
    expect(error).toMatchObject({ address: 0xbfff_f000n, field: 'kernbase' });
    expect(error.hint).toMatch(/lower kernbase.*--kva/);
    // Not the address of 32 bits that is left when it is cut.
    expectCode('NOT_CANONICAL', () => windowOf([page(0xc080_0000)], { kernbase: 0xffff_ffff_0000_0000n }));
  });

  it('of nothing is empty', () => {
    expect(windowOf([])).toEqual([0, 0]);
    expect(windowOf([], { own: 0xc000_0000n })).toEqual([0xc_0000, 0xc_0000]);
    expect(windowOf([], { kernbase: 0xc000_0000n })).toEqual([0xc_0000, 0xc_0000]);
  });
});

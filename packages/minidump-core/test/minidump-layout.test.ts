import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { placeSections, roundUp, type MinidumpLayout, type SectionSizes } from '../src/minidump-layout.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';

function layout(sizes: SectionSizes, pageSize = 4096, tableLength?: number): MinidumpLayout {
  return {
    ...{ format: 'freebsd', architecture: 'toy', byteOrder: 'little', bits: 64, pageSize, sizes },
    ...{ bitOrder: 'little', physicalLimit: 2 ** 52 },
    ...(tableLength !== undefined && { tableLength }),
  };
}

const HUGE = 2 ** 50;

describe('placeSections', () => {
  it('places the sections of freebsd-dumps.md 7.1', () => {
    const sizes = { msgbuf: 0x17f70, dumpAvail: 0x1000, bitmap: 0x8000, table: 0x7ff000 };
    expect(placeSections(layout(sizes), 0xa26000)).toEqual({
      header: { name: 'header', offset: 0, length: 0x1000 },
      msgbuf: { name: 'msgbuf', offset: 0x1000, length: 0x17f70 },
      dumpAvail: { name: 'dumpAvail', offset: 0x19000, length: 0x1000 },
      bitmap: { name: 'bitmap', offset: 0x1a000, length: 0x8000 },
      table: { name: 'table', offset: 0x22000, length: 0x7ff000 },
      pagesOffset: 0x821000,
    });
  });

  it('places those of 7.2, which has no dump_avail', () => {
    const sizes = { msgbuf: 0xffe0, dumpAvail: 0, bitmap: 0x8000, table: 0x400000 };
    const placed = placeSections(layout(sizes), 0x41b000);
    expect('dumpAvail' in placed).toBe(false);
    expect([placed.bitmap.offset, placed.table.offset, placed.pagesOffset]).toEqual([
      ...[0x11000, 0x19000, 0x419000],
    ]);
  });

  it('rounds each size by itself, for any page size', () => {
    const size = fc.oneof(fc.nat(5), fc.nat(100_000), fc.integer({ min: 2 ** 32 - 5, max: 2 ** 32 - 1 }));
    const sizes = fc.record({ msgbuf: size, dumpAvail: size, bitmap: size, table: size });
    fc.assert(
      fc.property(sizes, fc.constantFrom(4096, 16384, 65536), (sizes, pageSize) => {
        const page = BigInt(pageSize);
        const rounded = (value: number): bigint => ((BigInt(value) + page - 1n) / page) * page;
        const placed = placeSections(layout(sizes, pageSize), HUGE);
        let at = page;
        for (const name of ['msgbuf', 'dumpAvail', 'bitmap', 'table'] as const) {
          if (name === 'dumpAvail' && sizes.dumpAvail === 0) continue;
          expect(placed[name]).toEqual({ name, offset: Number(at), length: sizes[name] });
          at += rounded(sizes[name]);
        }
        expect(placed.pagesOffset).toBe(Number(at));
      }),
      runs(300),
    );
  });

  it('has no 32-bit sums', () => {
    const size = 2 ** 32 - 1;
    const placed = placeSections(
      layout({ msgbuf: size, dumpAvail: size, bitmap: size, table: size }),
      4096 + 4 * 2 ** 32,
    );
    expect(placed.pagesOffset).toBe(4096 + 4 * 2 ** 32);
    expect(placed.table.offset).toBe(4096 + 3 * 2 ** 32);
  });

  it('takes the stored length of the table where a kernel did not round it', () => {
    const sizes = { msgbuf: 0, dumpAvail: 0, bitmap: 1, table: 0x1004 };
    const placed = placeSections(layout(sizes, 4096, 0x1004), HUGE);
    expect(placed.table).toEqual({ name: 'table', offset: 0x2000, length: 0x1004 });
    expect(placed.pagesOffset).toBe(0x3004);
    expect(placeSections(layout(sizes), HUGE).pagesOffset).toBe(0x4000);
  });

  it('says TRUNCATED, and which section, for a file of any length that ends before its pages', () => {
    const sizes = { msgbuf: 0x17f70, dumpAvail: 0x1000, bitmap: 0x7ff9, table: 0x1ff8 };
    const ends = { msgbuf: 0x18f70, dumpAvail: 0x1a000, bitmap: 0x21ff9, table: 0x23ff8 };
    for (const [name, end] of Object.entries(ends)) {
      const error = expectCode('TRUNCATED', () => placeSections(layout(sizes), end - 1));
      expect(error.field).toBe(name);
      expect((error.offset ?? 0) + (error.length ?? 0)).toBe(end);
      expect(error.message).toContain(String(end - 1));
      if (name === 'table') placeSections(layout(sizes), end);
      else expect(expectCode('TRUNCATED', () => placeSections(layout(sizes), end)).field).not.toBe(name);
    }
    for (const size of [0, 1, 4095]) expectCode('TRUNCATED', () => placeSections(layout(sizes), size));
  });

  it('says TRUNCATED for a file shorter than its header page, though all sections are empty', () => {
    const none = { msgbuf: 0, dumpAvail: 0, bitmap: 0, table: 0 };
    expectCode('TRUNCATED', () => placeSections(layout(none), 4095));
    expect(placeSections(layout(none), 4096).pagesOffset).toBe(4096);
  });
});

it('roundUp is exact', () => {
  expect([0, 1, 4096, 4097, 2 ** 32 - 1, 2 ** 52 + 1].map((value) => roundUp(value, 4096))).toEqual([
    ...[0, 4096, 4096, 8192, 2 ** 32, 2 ** 52 + 4096],
  ]);
});

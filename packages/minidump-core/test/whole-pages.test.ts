import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { Losses, wholePages, type LiteralMapping, type PageMapping } from '../src/index.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';
import { literalTable } from './table-source.js';

/** Mappings as entries of 4 KB can hold them, against a model that knows each KB by itself. */

const KB = 1024;
const RIGHTS = ['r--', 'rw-', 'r-x', 'rwx'];
const FLAGS: Record<string, number> = { 'r--': 1, 'rw-': 3, 'r-x': 5, rwx: 7 };

/** Pieces one behind the other: a gap, a length, and whether PA goes on where the last one ended. */
const pieces = fc.array(
  fc.record({
    gap: fc.oneof(fc.constant(0), fc.nat(9)),
    length: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 14 })),
    goesOn: fc.boolean(),
    pa: fc.nat(60),
    right: fc.nat(3),
    user: fc.boolean(),
  }),
  { minLength: 1, maxLength: 24 },
);

interface Unit {
  readonly pa: number;
  readonly flags: number;
}

/** The mappings, and the same KB by KB: KVA / 1024 to PA and flags. */
function laidOut(
  list: readonly { gap: number; length: number; goesOn: boolean; pa: number; right: number; user: boolean }[],
): {
  mappings: LiteralMapping[];
  units: Map<number, Unit>;
} {
  const units = new Map<number, Unit>();
  const mappings: LiteralMapping[] = [];
  let kva = 0;
  let next = 0;
  for (const { gap, length, goesOn, pa, right, user } of list) {
    kva += gap;
    const start = goesOn ? next + gap : pa;
    const protection = RIGHTS[right];
    mappings.push({ kva: kva * KB, pa: start * KB, length: length * KB, protection, user });
    for (let i = 0; i < length; i++)
      units.set(kva + i, { pa: (start + i) * KB, flags: FLAGS[protection] + (user ? 8 : 0) });
    kva += length;
    next = start + length;
  }
  return { mappings, units };
}

/** The units of a page where they are one page of physical memory. */
function pageOf(units: ReadonlyMap<number, Unit>, page: number): Unit[] | undefined {
  const four = [0, 1, 2, 3].map((i) => units.get(page * 4 + i));
  const first = four[0]?.pa ?? -1;
  const whole = first % 4096 === 0 && four.every((unit, i) => unit?.pa === first + i * KB);
  return whole ? (four as Unit[]) : undefined;
}

function joined(mappings: readonly LiteralMapping[], losses = new Losses(true)): PageMapping[] {
  const pages: PageMapping[] = [];
  for (const page of wholePages(literalTable(mappings).mappings(), losses)) {
    const { quarters } = page;
    pages.push({ ...page, quarters: quarters && [...quarters] } as PageMapping);
  }
  return pages;
}

describe('mappings as whole pages', () => {
  test.prop([pieces], runs(150))('are those whose four KB lie one behind the other', (list) => {
    const { mappings, units } = laidOut(list);
    const losses = new Losses(true);
    const found = new Map<number, { pa: number; flags: number[] }>();
    for (const { page, offset, pa, length, flags, quarters } of joined(mappings, losses)) {
      expect([offset, length % 4096, length > 0]).toEqual([0, 0, true]);
      if (quarters !== undefined) {
        expect(length).toBe(4096);
        // As one page it allows what all of its quarters do.
        expect(flags).toBe(quarters.reduce((all, own) => all & own));
      }
      for (let i = 0; i < length / 4096; i++) {
        expect(found.has(page + i)).toBe(false);
        found.set(page + i, { pa: pa + i * 4096, flags: [...(quarters ?? [flags, flags, flags, flags])] });
      }
    }
    const pages = new Set([...units.keys()].map((unit) => Math.floor(unit / 4)));
    let left = 0;
    for (const page of pages) {
      const whole = pageOf(units, page);
      expect(found.get(page)).toEqual(whole && { pa: whole[0].pa, flags: whole.map(({ flags }) => flags) });
      if (whole === undefined) left += [0, 1, 2, 3].filter((i) => units.has(page * 4 + i)).length * KB;
    }
    expect(losses.list.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(left);
    expect(losses.list.every(({ kind }) => kind === 'mapping')).toBe(true);
  });

  it('refuse a part that makes up no page, with its KVA', () => {
    const parts = [
      { kva: 0x1000, pa: 0x5000, length: 0x1000 },
      { kva: 0x2000, pa: 0x6000, length: 0x800 },
      { kva: 0x2800, pa: 0x7800, length: 0x800 },
    ];
    const error = expectCode('UNSUPPORTED', () => joined(parts, new Losses()));
    expect(error.address).toBe(0x2000n);
    expect(error.message).toContain('1 KB pages that do not make up a page of 4 KB');
  });

  it('keep an exact entry that all parts share, and no other', () => {
    const quarter = (i: number, entry: bigint): LiteralMapping => ({
      ...{ kva: i * KB, pa: 0x8000 + i * KB, length: KB, protection: i === 2 ? 'r--' : 'rw-' },
      ...{ entry, entryBits: 32 },
    });
    const [shared] = joined([0, 1, 2, 3].map((i) => quarter(i, 0x8552n)));
    expect(shared).toMatchObject({ entryBits: 32, entryLow: 0x8552, flags: 1, quarters: [3, 3, 1, 3] });
    const [own] = joined([0, 1, 2, 3].map((i) => quarter(i, BigInt(0x8003 + i * KB))));
    expect(own.entryBits).toBe(0);
  });
});

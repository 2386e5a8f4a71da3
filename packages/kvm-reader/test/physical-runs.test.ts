import {
  MAPPED,
  Mapping,
  READ,
  TABLE_ABSENT,
  UNMAPPED,
  type AddressSpace,
  type Core,
  type Outcome,
  type Translation,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalRuns } from '../src/physical-runs.js';
import { Translator } from '../src/translator.js';
import { runs } from './support/long.js';

/** The pieces of a bulk read against one translation a kilobyte: an address space of 1 KB pieces, some without a table. */

const PIECE = 1024;
const PIECES = 64;

type Piece = number | 'unmapped' | 'absent';

/** Piece i lies at KVA i * 1024: mapped to a PA in kilobytes, unmapped, or with a page table that is missing. */
class PieceSpace implements AddressSpace {
  readonly pteFormat = 'test';

  constructor(private readonly pieces: readonly Piece[]) {}

  translate(page: number, offset: number, out: Translation): Outcome {
    return this.answer(Math.floor((page * 4096 + offset) / PIECE), offset % PIECE, out);
  }

  mappings(fromPage: number, toPage: number): { next(out: Mapping): boolean } {
    let next = fromPage * 4;
    const end = Math.min(toPage * 4, this.pieces.length);
    return {
      next: (out) => {
        while (next < end && this.pieces[next] === 'unmapped') next++;
        if (next >= end) return false;
        out.page = Math.floor(next / 4);
        out.offset = (next % 4) * PIECE;
        this.answer(next++, 0, out);
        return true;
      },
    };
  }

  private answer(index: number, offset: number, out: Translation): Outcome {
    const piece = this.pieces[index] ?? 'unmapped';
    if (typeof piece === 'string')
      return out.miss(piece === 'absent' ? TABLE_ABSENT : UNMAPPED, PIECE - offset);
    out.outcome = MAPPED;
    out.pa = piece * PIECE + offset;
    out.length = PIECE - offset;
    out.flags = READ;
    out.pageSize = PIECE;
    return MAPPED;
  }
}

const piece = fc.oneof(
  { weight: 6, arbitrary: fc.nat(5) },
  { weight: 1, arbitrary: fc.constantFrom<Piece>('unmapped', 'absent') },
);
/** Runs that go on by one, as neighbours in memory do. */
const pieces = fc
  .array(fc.tuple(piece, fc.integer({ min: 1, max: 12 })), { minLength: 1 })
  .map((list) =>
    list
      .flatMap(([first, count]) =>
        Array.from({ length: count }, (_, i) => (typeof first === 'number' ? first * 100 + i : first)),
      )
      .slice(0, PIECES),
  );

describe('the pieces of a bulk read', () => {
  it('are what one translation after the other says, joined, up to the first that says no', () => {
    const window = fc.record({ base: fc.nat(12), pages: fc.nat(6) });
    const property = fc.property(
      pieces,
      window,
      fc.nat(PIECES * PIECE),
      fc.nat(PIECES * PIECE),
      (space, { base, pages }, from, length) => {
        const directMap = { base: BigInt(base * 4096), end: BigInt((base + pages) * 4096), phys: 0x70_0000 };
        const core = { bits: 32, pageSize: 4096, addressSpace: new PieceSpace(space) };
        const translator = new Translator({ ...core, ...(pages > 0 && { directMap }) } as unknown as Core);
        const wanted: { pa: number; length: number }[] = [];
        for (let at = from; at < from + length;) {
          if (translator.translate(Math.floor(at / 4096), at % 4096) !== MAPPED) break;
          const { pa, length: there } = translator.translation;
          const count = Math.min(there, from + length - at);
          const last = wanted.at(-1);
          if (last && last.pa + last.length === pa) last.length += count;
          else wanted.push({ pa, length: count });
          at += count;
        }
        const found = new PhysicalRuns(translator, Math.floor(from / 4096), from % 4096, length);
        for (const run of wanted) {
          expect(found.next()).toBe(true);
          expect({ pa: found.pa, length: found.length }).toEqual(run);
        }
        expect([found.next(), found.next()]).toEqual([false, false]);
      },
    );
    fc.assert(property, runs(500));
  });

  it('end with the address space', () => {
    const core = {
      bits: 32,
      pageSize: 4096,
      directMap: { base: 0xffff_f000n, end: 0x1_0000_0000n, phys: 0 },
    };
    const found = new PhysicalRuns(new Translator(core as unknown as Core), 2 ** 20 - 1, 4000, 200);
    expect([found.next(), found.pa, found.length, found.next()]).toEqual([true, 4000, 96, false]);
  });
});

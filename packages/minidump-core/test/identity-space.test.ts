import { describe, expect, it } from 'vitest';
import {
  EXECUTE,
  IdentitySpace,
  MAPPED,
  Mapping,
  NOT_CANONICAL,
  READ,
  Translation,
  WRITE,
  type AddressSpace,
} from '../src/index.js';

const RWX = READ | WRITE | EXECUTE;

function ask(space: AddressSpace, page: number, offset: number): unknown[] {
  const out = new Translation();
  out.setEntry(3, 3, 3, 32);
  const outcome = space.translate(page, offset, out);
  expect([out.outcome, out.entryBits, out.level]).toEqual([outcome, 0, 0]);
  return [outcome, out.pa, out.length, out.flags];
}

function list(space: AddressSpace, from: number, to: number): unknown[][] {
  const cursor = space.mappings(from, to);
  const all: unknown[][] = [];
  const out = new Mapping();
  out.setEntry(3, 3, 3, 32);
  while (cursor.next(out)) all.push([out.outcome, out.page, out.offset, out.pa, out.length, out.flags]);
  expect(cursor.next(out)).toBe(false);
  if (all.length > 0) expect([out.entryBits, out.level, out.pageSize]).toEqual([0, 0, 4096]);
  return all;
}

describe('IdentitySpace', () => {
  it('maps 4 GB to themselves', () => {
    const space = new IdentitySpace();
    expect(ask(space, 0, 0)).toEqual([MAPPED, 0, 2 ** 32, RWX]);
    expect(ask(space, 0xc0123, 0x456)).toEqual([MAPPED, 0xc0123456, 2 ** 32 - 0xc0123456, RWX]);
    expect(ask(space, 0xfffff, 0xfff)).toEqual([MAPPED, 0xffffffff, 1, RWX]);
  });

  it('has nothing behind its end', () => {
    const space = new IdentitySpace(16);
    expect(ask(space, 15, 4000)).toEqual([MAPPED, 15 * 4096 + 4000, 96, RWX]);
    expect(ask(space, 2 ** 52 - 1, 4000)).toEqual([NOT_CANONICAL, 0, 96, 0]);
    const [outcome, , length] = ask(space, 16, 1);
    expect(outcome).toBe(NOT_CANONICAL);
    expect(Number.isSafeInteger(length)).toBe(true);
    expect(length).toBeGreaterThan(2 ** 51);
  });

  it('lists one run, cut to the window', () => {
    const space = new IdentitySpace(16);
    expect(list(space, 0, 2 ** 52)).toEqual([[MAPPED, 0, 0, 0, 65536, RWX]]);
    expect(list(space, 3, 5)).toEqual([[MAPPED, 3, 0, 3 * 4096, 8192, RWX]]);
    expect(list(space, 15, 17)).toEqual([[MAPPED, 15, 0, 15 * 4096, 4096, RWX]]);
    for (const [from, to] of [
      [16, 20],
      [5, 5],
      [6, 5],
    ]) {
      expect(list(space, from, to)).toEqual([]);
    }
  });
});

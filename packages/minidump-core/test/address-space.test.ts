import { expect, it } from 'vitest';
import {
  entryOf,
  EXECUTE,
  GLOBAL,
  MAPPED,
  protectionOf,
  READ,
  TABLE_ABSENT,
  Translation,
  UNMAPPED,
  USER,
  WRITE,
} from '../src/address-space.js';

it('entryOf joins the halves, unsigned, and knows when there is no entry', () => {
  const out = new Translation();
  expect(entryOf(out)).toBe(undefined);
  out.setEntry(1, 0x80000001, 0xffffffff, 64);
  expect(entryOf(out)).toBe(0xffffffff80000001n);
  out.setEntry(1, 0x80000001 | 0, -1, 64); // as `|` leaves them
  expect(entryOf(out)).toBe(0xffffffff80000001n);
  out.setEntry(2, 0, 0, 32); // an entry of zeros is one
  expect(entryOf(out)).toBe(0n);
  expect(out.level).toBe(2);
  out.setEntry(2, 5, 5, 0);
  expect(entryOf(out)).toBe(undefined);
});

it('a miss leaves nothing of the mapping before it', () => {
  const out = new Translation();
  Object.assign(out, { outcome: MAPPED, pa: 0x1000, length: 5, flags: READ, pageSize: 4096 });
  expect(out.miss(TABLE_ABSENT, 77, 0x2000)).toBe(TABLE_ABSENT);
  expect(out).toMatchObject({ outcome: TABLE_ABSENT, pa: 0x2000, length: 77, flags: 0, pageSize: 0 });
  out.miss(UNMAPPED, 1);
  expect(out.pa).toBe(0);
});

it('protectionOf prints three letters', () => {
  expect([0, READ, READ | WRITE, READ | EXECUTE, READ | WRITE | EXECUTE, WRITE].map(protectionOf)).toEqual([
    ...['---', 'r--', 'rw-', 'r-x', 'rwx', '-w-'],
  ]);
  expect(protectionOf(READ | USER | GLOBAL | 0x1f00)).toBe('r--');
});

import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import type { MachineFacts } from '../src/index.js';
import { Losses, MemorySource } from '../src/index.js';
import { ringTailSection } from '../src/ring-tail.js';
import { runs } from './runs.js';

/** The message buffer and the struct msgbuf behind it (freebsd-dumps.md 1.2). */

const PAGE = 4096;
/** sizeof(struct msgbuf) in kernels of 13 and 14. */
const SIZE = { 32: 56, 64: 72 };

function made(
  bits: 32 | 64,
  byteOrder: 'little' | 'big',
  ring: Uint8Array,
  start: number,
): { bytes: Buffer; losses: Losses } {
  const machine = { bits, byteOrder } as MachineFacts;
  const losses = new Losses();
  const section = ringTailSection(machine, { ring: new MemorySource(ring), start }, losses);
  const bytes = Buffer.concat([...section.produce()].map((piece) => piece.slice()));
  expect([section.name, section.length]).toEqual(['msgbuf', bytes.length]);
  return { bytes, losses };
}

const ringOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + 1) & 0xff);

describe('the message buffer section', () => {
  it('is empty where there is none', () => {
    const section = ringTailSection(
      { bits: 64, byteOrder: 'little' } as MachineFacts,
      undefined,
      new Losses(),
    );
    expect([section.length, [...section.produce()]]).toEqual([0, []]);
  });

  it('is the ring alone where it starts at 0, or nobody knows where', () => {
    const { bytes, losses } = made(64, 'little', ringOf(1000), 0);
    expect(Buffer.compare(bytes, ringOf(1000))).toBe(0);
    expect(losses.list).toEqual([]);
  });

  it('has the structure that a 64-bit kernel keeps behind the ring', () => {
    const { bytes } = made(64, 'little', ringOf(PAGE - 72), 0x123);
    expect(bytes.length).toBe(PAGE);
    expect(Buffer.compare(bytes.subarray(0, PAGE - 72), ringOf(PAGE - 72))).toBe(0);
    const at = PAGE - 72;
    expect(bytes.readBigUInt64LE(at)).toBe(0n); // msg_ptr
    expect([8, 12, 16, 20].map((field) => bytes.readUInt32LE(at + field))).toEqual([
      0x063062,
      at,
      0x123,
      0x123,
    ]);
    expect(bytes.subarray(at + 24).every((byte) => byte === 0)).toBe(true);
  });

  it('has that of a 32-bit kernel, in its byte order', () => {
    const { bytes } = made(32, 'big', ringOf(2 * PAGE - 56), 9);
    const at = 2 * PAGE - 56;
    expect([0, 4, 8, 12, 16].map((field) => bytes.readUInt32BE(at + field))).toEqual([0, 0x063062, at, 9, 9]);
  });

  it('says so where there is no room for it', () => {
    for (const length of [PAGE, PAGE - 71, 2 * PAGE - 8]) {
      const { bytes, losses } = made(64, 'little', ringOf(length), 5);
      expect(bytes.length).toBe(length);
      expect(losses.list.map(({ kind, bytes: lost }) => [kind, lost])).toEqual([['note', 0]]);
    }
  });

  const machines = fc.constantFrom(
    ...([32, 64] as const).flatMap((bits) =>
      (['little', 'big'] as const).map((order) => [bits, order] as const),
    ),
  );
  test.prop([machines, fc.integer({ min: 2, max: 9000 }), fc.nat()], runs(100))(
    'ends in the page that the ring ends in, with an aligned structure or none',
    ([bits, order], length, pick) => {
      const start = 1 + (pick % (length - 1));
      const { bytes, losses } = made(bits, order, ringOf(length), start);
      expect(Math.ceil(bytes.length / PAGE)).toBe(Math.ceil(length / PAGE));
      expect(Buffer.compare(bytes.subarray(0, length), ringOf(length))).toBe(0);
      const at = Math.ceil(length / (bits / 8)) * (bits / 8);
      const fits = at + SIZE[bits] <= Math.ceil(length / PAGE) * PAGE;
      expect(losses.list.length).toBe(fits ? 0 : 1);
      expect(bytes.length).toBe(fits ? at + SIZE[bits] : length);
      if (!fits) return;
      const word = (field: number): number =>
        order === 'little'
          ? bytes.readUInt32LE(at + bits / 8 + field)
          : bytes.readUInt32BE(at + bits / 8 + field);
      expect([0, 4, 8].map(word)).toEqual([0x063062, length, start]);
    },
  );
});

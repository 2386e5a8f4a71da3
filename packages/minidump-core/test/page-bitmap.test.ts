import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { PageBitmap, PageRanges } from '../src/index.js';
import { runs } from './runs.js';

const PAGE = 4096;

/** The bits of ranges as a plain array of page frames: index is the bit. A page of two ranges stands there twice. */
function framesOf(ranges: readonly { start: number; end: number }[]): number[] {
  return ranges.flatMap(({ start, end }) => {
    const frames = [];
    for (let pfn = Math.floor(start / PAGE); pfn * PAGE < end; pfn++) frames.push(pfn);
    return frames;
  });
}

/** Some ranges near 0 and above 4 GB, aligned or not, holes between them; some larger than a chunk of the bitmap. */
const someRanges = fc
  .array(
    fc.tuple(
      fc.constantFrom(0, 1, 100, PAGE, 3 * PAGE, 70 * PAGE, 2 ** 33),
      fc.constantFrom(1, 300, PAGE, 5 * PAGE, 33 * PAGE, 32768 * PAGE, 40000 * PAGE + 5),
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((parts) => {
    let end = 0;
    return parts.map(([gap, length]) => {
      // Pages are not shared here: planning joins such ranges.
      const start = Math.ceil(end / PAGE) * PAGE + gap;
      end = start + length;
      return { start, end };
    });
  });

type Step = readonly ['add' | 'drop' | 'run', number, number];
const someSteps = fc.array(
  fc.tuple(
    fc.constantFrom('add', 'drop', 'run', 'run'),
    fc.nat(2 ** 20),
    fc.constantFrom(1, PAGE, PAGE + 1, 31 * PAGE, 32 * PAGE, 700 * PAGE, 33000 * PAGE),
  ),
  { maxLength: 25 },
) as fc.Arbitrary<Step[]>;

/** Does the same to a bitmap and to a set of frames; every result has to agree. */
function apply(bitmap: PageBitmap, model: Set<number>, frames: readonly number[], steps: Step[]): void {
  const there = new Set(frames);
  for (const [what, pick, length] of steps) {
    // Mostly pages of the ranges, sometimes one beside them.
    const pfn = pick % 9 === 0 ? pick : frames[pick % frames.length];
    const pa = pfn * PAGE + (pick % PAGE);
    if (what === 'add') {
      expect(bitmap.addPage(pa)).toBe(there.has(pfn) && !model.has(pfn));
      if (there.has(pfn)) model.add(pfn);
    } else if (what === 'drop') expect(bitmap.dropPage(pa)).toBe(model.delete(pfn));
    else {
      const before = model.size;
      for (let at = pfn; at * PAGE < pa + length; at++) if (there.has(at)) model.add(at);
      expect(bitmap.addRun(pa, length)).toBe(model.size - before);
    }
  }
}

function join(pieces: Iterable<Uint8Array>): Uint8Array {
  // A piece is only good until the next one is asked for.
  const bytes: number[] = [];
  for (const piece of pieces) for (const byte of piece) bytes.push(byte);
  return Uint8Array.from(bytes);
}

describe('page bitmap', () => {
  test.prop([someRanges, someSteps], runs(40))('is a set of pages', (parts, steps) => {
    const ranges = new PageRanges(parts, PAGE);
    const frames = framesOf(parts);
    expect(ranges.pages).toBe(frames.length);
    const bitmap = new PageBitmap(ranges);
    const model = new Set<number>();
    apply(bitmap, model, frames, steps);
    expect(bitmap.count).toBe(model.size);
    const found: number[] = [];
    for (const { pa, length } of bitmap.runs()) {
      for (let at = pa; at < pa + length; at += PAGE) found.push(at / PAGE);
    }
    expect(found).toEqual([...model].sort((a, b) => a - b));
    for (const [, pick] of steps) {
      const pfn = frames[pick % frames.length];
      expect(bitmap.has(pfn * PAGE + 5)).toBe(model.has(pfn));
    }
    const bytes = join(bitmap.bytes(bitmap.byteLength(64), 'little'));
    expect(bytes.length).toBe(Math.ceil(frames.length / 64) * 8);
    let wrong = 0;
    frames.forEach((pfn, bit) => {
      if (((bytes[bit >> 3] >> (bit & 7)) & 1) !== Number(model.has(pfn))) wrong++;
    });
    expect(wrong).toBe(0);
  });

  it('writes words of a kernel in its byte order', () => {
    const bitmap = new PageBitmap(new PageRanges([{ start: 0, end: 70 * PAGE }], PAGE));
    for (const page of [0, 9, 33, 64]) bitmap.addPage(page * PAGE);
    const hex = (order: 'little' | 'big32' | 'big64', length: number): string =>
      Buffer.from(join(bitmap.bytes(length, order))).toString('hex');
    expect([bitmap.byteLength(8), bitmap.byteLength(32), bitmap.byteLength(64)]).toEqual([9, 12, 16]);
    expect(hex('little', 9)).toBe('010200000200000001');
    expect(hex('big32', 12)).toBe('000002010000000200000001');
    expect(hex('big64', 16)).toBe('00000002000002010000000000000001');
  });

  it('costs little on a machine with a petabyte of addresses', () => {
    const bitmap = new PageBitmap(new PageRanges([{ start: 0, end: 2 ** 50 }], PAGE));
    for (let i = 0; i < 20; i++) bitmap.addRun(i * 2 ** 45 + 123, 10 * PAGE);
    expect(bitmap.count).toBe(220);
    expect([...bitmap.runs()].length).toBe(20);
  });

  it('passes over what is there already', () => {
    const bitmap = new PageBitmap(new PageRanges([{ start: 0, end: 2 ** 33 }], PAGE));
    expect(bitmap.addRun(0, 2 ** 33)).toBe(2 ** 21);
    for (let i = 0; i < 100_000; i++) if (bitmap.addRun(0, 2 ** 33) !== 0) throw new Error('added twice');
    expect(bitmap.dropPage(2 ** 32)).toBe(true);
    expect(bitmap.addRun(0, 2 ** 33)).toBe(1);
  });
});

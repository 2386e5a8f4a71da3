import { MAPPED, TABLE_ABSENT, UNMAPPED } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { armPteFormat, armWalker } from '../src/index.js';
import {
  haveImage,
  imageMemory,
  imageRanges,
  imageReads,
  imageRegisters,
  imageTranslations,
  type ImageRange,
} from './images.js';
import { ask, runsOf } from './support.js';

/** Walkers against QEMU's MMU, on memory of real kernels and of hand-written guests. */

const IMAGES = [
  ['arm-lpae-t0', 'lpae'],
  ['arm-lpae-t2-t2', 'lpae'],
  ['arm-short-n0', 'v6'],
  ['arm-short-n2', 'v6'],
  ['armmp', 'v6'],
  ['armmp-lpae', 'lpae'],
] as const;

const KINDS: Readonly<Record<number, string>> = {
  0x1000: '4K',
  0x10000: '64K',
  0x100000: '1M',
  0x200000: '2M',
  0x1000000: 'supersection',
  0x40000000: '1G',
};

/** Neighbours in KVA and PA as one, as the oracle lists them. */
function merged(ranges: readonly ImageRange[]): ImageRange[] {
  const result: ImageRange[] = [];
  for (const range of ranges) {
    const last = result.at(-1);
    const joins =
      last?.kind === range.kind && last.kva + last.length === range.kva && last.pa + last.length === range.pa;
    if (joins) result[result.length - 1] = { ...last, length: last.length + range.length };
    else result.push(range);
  }
  return result;
}

for (const [name, format] of IMAGES) {
  describe(name, () => {
    if (!haveImage(name)) {
      it.skip('needs the images of ../shared or VMCORE_FIXTURES', () => {});
      return;
    }
    const registers = imageRegisters(name);
    const memory = imageMemory(name);
    const space = armWalker(memory, { registers });

    it('has the format that the registers tell', () => {
      expect(armPteFormat(registers)).toBe(format);
    });

    it('translates as QEMU does', () => {
      const wrong: unknown[] = [];
      const rows = imageTranslations(name);
      for (const row of rows) {
        const { outcome, pa, pageSize } = ask(space, Number(row.va));
        const wanted = row.fault === 'domain' ? row.walk : row.pa;
        const kind = row.page === undefined || row.page === KINDS[pageSize];
        // A table outside RAM reads as zeros in QEMU; in a core it is a table that nobody can read.
        const nothing = outcome === UNMAPPED || (outcome === TABLE_ABSENT && !memory.ranges.has(pa));
        const right = wanted ? outcome === MAPPED && pa === Number(wanted) && kind : nothing;
        if (!right) wrong.push({ ...row, outcome, found: pa.toString(16), pageSize });
      }
      expect(wrong).toEqual([]);
      expect(rows.length).toBeGreaterThan(3000);
    });

    it('leads to the bytes that the guest sees', () => {
      const [page, wrong]: [Uint8Array, unknown[]] = [new Uint8Array(16), []];
      for (const { va, pa, bytes } of imageReads(name)) {
        const found = ask(space, Number(va));
        const offset = memory.locate(found.pa);
        memory.cache.readSync(offset, page, 0, 16);
        const hex = Buffer.from(page).toString('hex');
        if (found.pa !== Number(pa) || hex !== bytes) wrong.push({ va, pa, bytes, hex });
      }
      expect(wrong).toEqual([]);
    });

    it('enumerates every mapping', () => {
      const runs = runsOf(space)
        .filter(({ outcome }) => outcome !== TABLE_ABSENT)
        .map(({ kva, length, pa, pageSize }) => ({ kva, length, pa, kind: KINDS[pageSize] ?? '' }));
      expect(merged(runs)).toEqual(merged(imageRanges(name)));
    });
  });
}

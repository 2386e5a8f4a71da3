import { KvaParts, MAPPED, NOT_CANONICAL, Translation } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { amd64Walker } from '../src/index.js';
import { haveImage, loadImage, rangesOf } from './real-image.js';

/** Leaves of each page table, as counted when the image was made (regs.json). */
const IMAGES = [
  { name: 'amd64-nokaslr', leaves: 78 + 74936 },
  { name: 'x86-64-bare', leaves: 4 + 23 + 376 },
];

describe.each(IMAGES)('$name', ({ name, leaves }) => {
  it.skipIf(!haveImage(name))(
    'agrees with QEMU in every translation and every mapping',
    { timeout: 120_000 },
    () => {
      const { memory, registers, translations, ranges, close } = loadImage(name);
      const space = amd64Walker(memory, { registers });
      const parts = new KvaParts(64);
      const out = new Translation();
      const wrong = translations.filter(({ va, pa }) => {
        parts.set(BigInt(va));
        const outcome = space.translate(parts.page, parts.offset, out);
        const canonical = BigInt.asUintN(64, BigInt.asIntN(48, BigInt(va))) === BigInt(va);
        if ((outcome === NOT_CANONICAL) === canonical) return true;
        return (outcome === MAPPED ? out.pa : null) !== (pa === null ? null : Number(pa));
      });
      expect(wrong).toEqual([]);
      expect(translations.length).toBeGreaterThan(4000);
      const found = rangesOf(space, 2 ** 52);
      expect(found.mappings).toBe(leaves);
      // A difference in 65000 lines is better told by its first line.
      const first = found.ranges.findIndex((line, i) => line !== ranges[i]);
      expect([first, found.ranges[first], ranges[first]]).toEqual([-1, undefined, undefined]);
      expect(found.ranges.length).toBe(ranges.length);
      close();
    },
  );
});

import { MAPPED, Translation } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { i386Walker } from '../src/index.js';
import { haveImage, loadImage, rangesOf } from './real-image.js';

/** Leaves of each page table, as counted when the image was made (regs.json). */
const IMAGES = [
  { name: 'i686-pae', leaves: 51 + 2968 },
  { name: 'x86-pae', leaves: 7 + 320 },
  { name: 'x86-32-pse36', leaves: 11 + 629 },
];

describe.each(IMAGES)('$name', ({ name, leaves }) => {
  it.skipIf(!haveImage(name))(
    'agrees with QEMU in every translation and every mapping',
    { timeout: 120_000 },
    () => {
      const { memory, registers, translations, ranges, close } = loadImage(name);
      const space = i386Walker(memory, { registers });
      const out = new Translation();
      const wrong = translations.filter(({ va, pa }) => {
        const kva = Number(va);
        const outcome = space.translate(Math.floor(kva / 4096), kva % 4096, out);
        return (outcome === MAPPED ? out.pa : null) !== (pa === null ? null : Number(pa));
      });
      expect(wrong).toEqual([]);
      expect(translations.length).toBeGreaterThan(2000);
      const found = rangesOf(space, 2 ** 20);
      expect(found.mappings).toBe(leaves);
      expect(found.ranges).toEqual(ranges);
      close();
    },
  );
});

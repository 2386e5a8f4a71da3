import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  BlockCache,
  entryOf,
  MemorySource,
  RadixSpace,
  Translation,
  type RadixFormat,
  type RadixRegion,
} from '../src/index.js';
import { runs } from './runs.js';
import { same } from './same.js';
import { mix } from './sources.js';
import { ToyMemory, whole } from './toy-machine.js';

/** Tables of 16 or of 8 entries, as the entry above says; a last-level entry maps the page of its own value. */
const uneven: RadixFormat = {
  name: 'uneven',
  entryBytes: 4,
  decode(level, low, _high, out) {
    if (level === 2) out.setTable(low & ~0x3f, 12, (low & 1) !== 0 ? 8 : 16, (low >>> 1) & 15);
    else out.setLeaf((low & 0xffff) * 4096, 4096, 15);
  },
};

/** Four pages of tables full of distinct entries, page 3 absent; a root of 300 entries that name them. */
const file = new Uint8Array(Uint32Array.from({ length: 3 * 1024 }, (_, i) => i + 1).buffer);
const root = new Uint8Array(
  Uint32Array.from({ length: 300 }, (_, i) => (((mix(i) % 256) * 64) | (mix(i + 999) & 0x1f)) >>> 0).buffer,
);
const memory = new ToyMemory(
  new BlockCache(new MemorySource(file)),
  new Map([0, 1, 2].map((page) => [page, [whole(page)]])),
);
const section = new BlockCache(new MemorySource(root));

function open(basePages: readonly number[]): RadixSpace {
  const regions = basePages.map((basePage): RadixRegion => {
    const pages = { fromPage: basePage, toPage: basePage + 300 * 16, basePage };
    return { ...pages, level: 2, shift: 16, entries: 300, root: 0, section };
  });
  return new RadixSpace(memory, uneven, 'little', regions);
}

const answer = (space: RadixSpace, page: number): string => {
  const out = new Translation();
  const outcome = space.translate(page, 5, out);
  return [outcome, out.pa, out.length, out.flags, out.level, entryOf(out)].join(' ');
};

it('a space answers the same when it knows tables as when it is new', () => {
  // Two regions that do not split the address space at the same places; the second not even at whole tables.
  const bases = fc.constantFrom([0, 4800], [16, 4832], [0x1000, 0x1000 + 4808], [3, 4808]);
  fc.assert(
    fc.property(bases, fc.array(fc.nat(2 * 4800 + 40), { minLength: 30, maxLength: 150 }), (bases, pages) => {
      const used = open(bases);
      for (const at of pages) {
        for (const page of [bases[0] + at, bases[0] + (at ^ 8), bases[0] + (at % 64)]) {
          same(answer(used, page), answer(open(bases), page), bases.join(), page);
        }
      }
    }),
    runs(20),
  );
});

it('a space names the format of its entries', () => {
  expect(open([0]).pteFormat).toBe('uneven');
});

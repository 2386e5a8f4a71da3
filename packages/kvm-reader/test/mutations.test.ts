import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkAgreement } from './support/agree.js';
import { caseOf, dumps } from './support/cases.js';
import { LONG, runs } from './support/long.js';
import { smallDump } from './support/small-machine.js';

/**
 * Damaged cores: whatever is done to a valid one, it opens or fails with a KvmError, and what it then answers is what a
 * slow reader of the format document answers, which trusts nothing but the damaged file.
 */

type Bytes = Uint8Array<ArrayBuffer>;
type Edit = (bytes: Bytes) => Bytes;

const U32_FIELDS = [24, 28, 32, 36, 64];
const U64_FIELDS = [40, 48, 56];

const sizes = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 32, 4095, 4096, 4097, 8192, 0x10000),
  fc.constantFrom(0x7fffffff, 0x80000000, 0xfffff000, 0xfffff001, 0xfffffff8, 0xffffffff, 0x01000000),
  fc.nat(0x20000),
);
const words = fc.oneof(
  fc.constantFrom(
    0n,
    1n,
    0x1000n,
    0x1001n,
    0x1fffffn,
    0x200000n,
    0x40000000n,
    (1n << 47n) - 0x200000n,
    1n << 47n,
  ),
  fc.constantFrom(...[1n << 52n, (1n << 52n) - 0x1000n, (1n << 52n) + 1n, (1n << 53n) + 1n, 1n << 63n]),
  fc.constantFrom(...[1n << 12n, 1n << 21n, 1n << 30n, 1n, 5n].map((size) => (1n << 64n) - size)),
  fc.constantFrom(0xfffffe0000000000n, 0xfffffe0000200000n, 0xfffff80000000000n, 0xfffffc0000000000n),
  fc.nat(0x3f).map((page) => BigInt(page) * 0x1000n),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);
/** Entries that lead to pages of the dump (page tables among them), next to them, and nowhere. */
const entries = fc
  .record({
    frame: fc.oneof(
      fc.nat(0x1f).map((page) => BigInt(page) << 12n),
      fc.constantFrom(0xd0000000n, (1n << 52n) - 0x1000n, (1n << 52n) - 0x200000n, 0x200000n),
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    ),
    bits: fc.constantFrom(0n, 1n, 3n, 0x63n, 0x83n, 0xe3n, 0x80n, 0x1e1n, (1n << 63n) | 0x63n, 0x7fn << 52n),
  })
  .map(({ frame, bits }) => (frame & ~0xfffn) | bits);

/** Where a section lies in the undamaged file. */
function editsOf(
  bytes: Bytes,
  sections: Readonly<Record<string, { offset: number; length: number }>>,
): fc.Arbitrary<Edit> {
  const set64 =
    (at: number, value: bigint): Edit =>
    (edited) => {
      if (at + 8 <= edited.length) new DataView(edited.buffer).setBigUint64(at, value, true);
      return edited;
    };
  const wordIn = (name: string, from = 0, count = Infinity): fc.Arbitrary<number> => {
    const { offset, length } = sections[name];
    return fc.nat(Math.max(0, Math.min(count, Math.floor(length / 8)) - 1)).map((i) => offset + from + i * 8);
  };
  const used = [...usedWords(bytes, sections.table), ...usedWords(bytes, sections.pages).slice(0, 4000)];
  return fc.oneof(
    fc.tuple(fc.constantFrom(...U32_FIELDS), sizes).map(([at, value]) => (edited: Bytes) => {
      if (at + 4 <= edited.length) new DataView(edited.buffer).setUint32(at, value, true);
      return edited;
    }),
    fc.tuple(fc.constantFrom(...U64_FIELDS), words).map(([at, value]) => set64(at, value)),
    fc
      .tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }))
      .map(([at, bits]) => (edited: Bytes) => {
        if (at < edited.length) edited[at] ^= bits;
        return edited;
      }),
    fc.tuple(wordIn('dumpAvail', 0, 8), words).map(([at, value]) => set64(at, value)),
    fc.tuple(fc.nat(20), fc.nat(255)).map(([i, byte]) => (edited: Bytes) => {
      const at = sections.bitmap.offset + i;
      if (at < edited.length) edited[at] = byte;
      return edited;
    }),
    fc.tuple(wordIn('table'), entries).map(([at, value]) => set64(at, value)),
    fc.tuple(wordIn('pages'), entries).map(([at, value]) => set64(at, value)),
    fc.tuple(fc.constantFrom(...used), entries).map(([at, value]) => set64(at, value)),
    fc.nat(bytes.length).map((length) => (edited: Bytes) => edited.slice(0, length)),
  );
}

/** Offsets of the 64-bit words of a section that are valid entries: present, and with a frame as of small RAM. */
function usedWords(bytes: Bytes, { offset, length }: { offset: number; length: number }): number[] {
  const view = new DataView(bytes.buffer);
  const used: number[] = [];
  for (let at = offset; at + 8 <= offset + length; at += 8) {
    if (view.getUint8(at) & 1 && (view.getUint32(at + 4, true) & 0x7fff_ffff) === 0) used.push(at);
  }
  return used;
}

describe('a damaged core', () => {
  for (const version of [1, 2, 3] as const) {
    it(`of version ${version} opens or fails, and never answers with another page`, () => {
      const dump = smallDump(version);
      const bytes = dump.file.bytes();
      expect(checkAgreement(bytes)).toBeUndefined();
      const edits = fc.array(editsOf(bytes, dump.expected.sections), { minLength: 1, maxLength: 4 });
      const outcomes = new Map<string | undefined, number>();
      const property = fc.property(edits, (list) => {
        const outcome = checkAgreement(list.reduce((edited, edit) => edit(edited), bytes.slice()));
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      });
      fc.assert(property, runs(150));
      // Most damage leaves something to read: otherwise this would test refusals alone.
      expect(outcomes.get(undefined)).toBeGreaterThan(30);
    });
  }

  it('with every single bit of its header, ranges and first entries turned', () => {
    const dump = smallDump(3);
    const bytes = dump.file.bytes();
    const { dumpAvail, bitmap, table } = dump.expected.sections;
    const spots = [
      ...(LONG ? range(0, 72) : range(20, 48)),
      ...range(dumpAvail.offset, LONG ? 64 : 36),
      ...range(bitmap.offset, LONG ? 8 : 3),
      ...range(table.offset, LONG ? 24 : 16),
    ];
    for (const at of spots) {
      for (let bit = 0; bit < 8; bit++) {
        bytes[at] ^= 1 << bit;
        checkAgreement(bytes);
        bytes[at] ^= 1 << bit;
      }
    }
  });

  it('that was a larger machine', () => {
    const property = fc.property(
      dumps,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      (choice, edits) => {
        const { bytes, random, model } = caseOf(choice);
        const { table, pages } = model.dump.expected.sections;
        for (const [i, byte] of edits) {
          const places = [
            i % 72,
            model.dump.expected.sections.dumpAvail.offset + (i % 64),
            table.offset + (i % table.length),
          ];
          places.push(pages.offset + (i % Math.max(1, pages.length)));
          bytes[places[i % 4] % bytes.length] = byte;
        }
        checkAgreement(bytes, random.probes.slice(0, 100));
      },
    );
    fc.assert(property, runs(20));
  });
});

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

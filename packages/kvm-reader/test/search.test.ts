import { Amd64Machine, amd64Minidump, pagesOf } from '@libkvm/fixtures';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import { caseOf, dumps } from './support/cases.js';
import { caughtLater, FACES, listOf, openAmd64On, runsOf, type Face } from './support/faces.js';
import { Model } from './support/model.js';

/** Search against Buffer.indexOf over what the description says is contiguous. */

const PIECE = 256 * 1024;

/** A contiguous stretch of addresses with its bytes. */
interface Stretch<A> {
  readonly start: A;
  readonly bytes: Uint8Array;
}

describe.each(FACES)('search, $name', (face) => {
  it('finds what a naive search over the description finds', async () => {
    const lengths = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 9000 }));
    const property = fc.asyncProperty(
      dumps,
      fc.nat(0xffff),
      fc.nat(4095),
      lengths,
      async (choice, where, inPage, length) => {
        const { model, bytes } = caseOf(choice, true);
        fc.pre(model.readable.length > 0);
        const kvm = await openAmd64On(face, bytes);
        const kva = model.readable[where % model.readable.length] + BigInt(inPage);
        const needle = model.read(kva, length).bytes;
        const wanted = virtualStretches(model).flatMap((stretch) => matches(stretch, needle));
        expect(await listOf(kvm.search(needle))).toEqual(wanted);
        expect(wanted.includes(kva)).toBe(true);
        const physical = physicalStretches(model).flatMap((stretch) => matches(stretch, needle));
        expect(await listOf(kvm.searchPhysical(needle))).toEqual(physical.map(Number));
      },
    );
    await fc.assert(property, runsOf(face, 6));
  });

  it('keeps to its window, to the byte', async () => {
    const lengths = fc.integer({ min: 1, max: 3 });
    const spans = fc.integer({ min: -20_000, max: 20_000 });
    const property = fc.asyncProperty(
      dumps,
      fc.nat(0xffff),
      fc.nat(4095),
      lengths,
      spans,
      async (choice, where, inPage, length, span) => {
        const { model, bytes } = caseOf(choice, true);
        fc.pre(model.readable.length > 0);
        const start = model.readable[where % model.readable.length] + BigInt(inPage);
        const [from, to] = span > 0 ? [start, start + BigInt(span)] : [start + BigInt(span), start];
        const needle = model.read(start, length).bytes;
        const all = virtualStretches(model).flatMap((stretch) => matches(stretch, needle));
        const wanted = all.filter((kva) => kva >= from && kva + BigInt(needle.length) <= to);
        const kvm = await openAmd64On(face, bytes);
        expect(await listOf(kvm.search(needle, { from, to }))).toEqual(wanted);
      },
    );
    await fc.assert(property, runsOf(face, 6));
  });

  it('finds nothing that begins at the end of the tables and ends at the start of the direct map', async () => {
    const dmap = { base: 0xfffff80000000000n, end: 0xfffffc0000000000n };
    const kernbase = 0xfffffe0000000000n;
    const machine = new Amd64Machine({
      ram: [{ start: 0, end: 0x20000 }],
      patternSeed: 5,
      ...{ kernbase, kvaEnd: kernbase + 0x200000n, dmap },
      mappings: [
        { kva: kernbase, pa: 0x3000, pageSize: 0x1000, pages: 1, writable: true, executable: false },
      ],
      tablePool: pagesOf(0x10000, 0x20000),
      extraPages: [0],
    });
    const kvm = await openAmd64On(face, amd64Minidump(machine).file.bytes());
    const [tail, head] = [machine.ram.readBytes(0x3ffc, 4), machine.ram.readBytes(0, 4)];
    expect(await listOf(kvm.search(tail))).toContain(kernbase + 0xffcn);
    expect(await listOf(kvm.search(head))).toContain(dmap.base);
    expect(await listOf(kvm.search(Uint8Array.from([...tail, ...head])))).toEqual([]);
    expect(await listOf(kvm.searchPhysical(Uint8Array.from([...tail, ...head])))).toEqual([]);
  });

  describe('over megabytes', () => {
    const machine = bulkMachine(2);
    // One byte over and over at the edge of two pieces: matches that overlap, and the longest needle.
    const repeats = 0x200000 + PIECE - 100;
    machine.ram.writeBytes(repeats, new Uint8Array(200).fill(0x61));
    const dump = amd64Minidump(machine);
    const bytes = dump.file.bytes();
    const model = new Model(machine, dump);
    let kvm: Face;
    beforeAll(async () => {
      kvm = await openAmd64On(face, bytes);
    });
    const physical = physicalStretches(model);

    it('finds matches over the edges of pieces', async () => {
      const [{ start, bytes: long }] = physical.filter(({ bytes }) => bytes.length > 3 * PIECE);
      const [from, to] = [BULK.dmap.base + start, BULK.dmap.base + start + BigInt(3 * PIECE)];
      for (const length of [7, 100, 4096, PIECE]) {
        for (const before of new Set([1, Math.ceil(length / 2), length])) {
          const at = 2 * PIECE - before;
          const needle = long.slice(at, at + length);
          const wanted = matches({ start: from, bytes: long.subarray(0, 3 * PIECE) }, needle);
          expect(wanted.includes(from + BigInt(at))).toBe(true);
          expect(await listOf(kvm.search(needle, { from, to }))).toEqual(wanted);
          if (length < 4096) continue;
          expect((await listOf(kvm.searchPhysical(needle))).includes(Number(start) + at)).toBe(true);
        }
      }
    });

    it('finds matches that overlap', async () => {
      const needle = 'a'.repeat(7);
      const found = await listOf(kvm.searchPhysical(needle));
      expect(found).toEqual(Array.from({ length: 194 }, (_, i) => repeats + i));
      const inDirectMap = await listOf(kvm.search(needle));
      expect(inDirectMap).toEqual(found.map((pa) => BULK.dmap.base + BigInt(pa)));
    });

    it('finds matches that go on in a frame elsewhere', async () => {
      const { kva, pages } = BULK.scattered;
      for (let page = 1; page < pages; page += 50) {
        const at = kva + BigInt(page * 4096 - 11);
        const window = { from: at - 0x8000n, to: at + 0x8000n };
        expect(await listOf(kvm.search(model.read(at, 23).bytes, window))).toEqual([at]);
      }
      // From the small pages into the superpage behind them, and over the two superpages.
      for (const edge of [BULK.big.kva, BULK.big.kva + 0x200000n]) {
        const needle = model.read(edge - 5n, 5000).bytes;
        expect(await listOf(kvm.search(needle))).toEqual([edge - 5n]);
      }
    });

    it('finds nothing over a page that is not there', async () => {
      const before = model.read(BULK.gap.kva + 4096n - 8n, 8).bytes;
      const behind = model.read(BULK.gap.kva + 8192n, 8).bytes;
      expect(await listOf(kvm.search(before))).toContain(BULK.gap.kva + 4096n - 8n);
      expect(await listOf(kvm.search(Uint8Array.from([...before, ...behind])))).toEqual([]);
      expect(await listOf(kvm.searchPhysical(Uint8Array.from([...before, ...behind])))).toEqual([]);
      const zeros = Uint8Array.from([...before, ...new Uint8Array(8)]);
      expect(await listOf(kvm.search(zeros))).toEqual([]);
    });

    it('can be left and begun again', async () => {
      const all = await listOf(kvm.searchPhysical('aaa'));
      const first = kvm.searchPhysical('aaa');
      expect([(await first.next()).value, (await first.next()).value]).toEqual(all.slice(0, 2));
      expect(await listOf(kvm.searchPhysical('aaa'))).toEqual(all);
      expect(await listOf(first)).toEqual(all.slice(2));
    });

    it('takes needles of 1 to 256 KB', async () => {
      for (const bad of ['', new Uint8Array(0), new Uint8Array(PIECE + 1)]) {
        expect((await caughtLater(() => listOf(kvm.search(bad)), 'INVALID_ARGUMENT')).field).toBe('needle');
        expect((await caughtLater(() => listOf(kvm.searchPhysical(bad)), 'INVALID_ARGUMENT')).field).toBe(
          'needle',
        );
      }
    });
  });
});

/** KVAs of the page tables first, then those of the direct map. */
function virtualStretches(model: Model): Stretch<bigint>[] {
  const { base, end } = model.machine.description.dmap;
  const isDirect = (kva: bigint): boolean => kva >= base && kva < end;
  const pages = model.readable.map((kva) => ({ at: kva, bytes: model.read(kva, 4096).bytes }));
  return [...join(pages.filter(({ at }) => !isDirect(at))), ...join(pages.filter(({ at }) => isDirect(at)))];
}

function physicalStretches({ machine, dump }: Model): Stretch<bigint>[] {
  const pages = dump.expected.pages.toArray();
  return join(pages.map((pa) => ({ at: BigInt(pa), bytes: machine.ram.readBytes(pa, 4096) })));
}

function join(pages: readonly { readonly at: bigint; readonly bytes: Uint8Array }[]): Stretch<bigint>[] {
  const stretches: { start: bigint; pieces: Uint8Array[] }[] = [];
  let end = -1n;
  for (const { at, bytes } of pages) {
    if (at === end) stretches.at(-1)!.pieces.push(bytes);
    else stretches.push({ start: at, pieces: [bytes] });
    end = at + BigInt(bytes.length);
  }
  return stretches.map(({ start, pieces }) => ({ start, bytes: Buffer.concat(pieces) }));
}

function matches({ start, bytes }: Stretch<bigint>, needle: Uint8Array): bigint[] {
  const found: bigint[] = [];
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, at + 1)) {
    found.push(start + BigInt(at));
  }
  return found;
}

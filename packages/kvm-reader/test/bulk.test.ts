import { amd64Minidump, pagesOf } from '@libkvm/fixtures';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import { caughtLater, FACES, openAmd64On, runsOf, type Face } from './support/faces.js';
import { Model } from './support/model.js';

/** Reads of kilobytes and megabytes: the paths that go by runs and past the cache. */

const machine = bulkMachine();
const dump = amd64Minidump(machine);
const bytes = dump.file.bytes();
const model = new Model(machine, dump);

const MB = 0x100000;
const starts = Object.values(BULK).flatMap((place) =>
  typeof place === 'object' && 'kva' in place ? [place.kva] : [],
);
const addresses = fc
  .record({
    start: fc.constantFrom(...starts, BULK.dmap.base + 0x200000n, BULK.dmap.base + 0x1400000n),
    delta: fc.oneof(fc.integer({ min: -9000, max: 9000 }), fc.integer({ min: 0, max: 0x400000 })),
  })
  .map(({ start, delta }) => start + BigInt(delta))
  .filter((kva) => kva < 1n << 64n);
const lengths = fc.oneof(
  fc.integer({ min: 32_000, max: 34_000 }),
  fc.integer({ min: 0, max: 3 * MB }),
  fc.constantFrom(MB - 1, MB, MB + 1, 2 * MB, 3 * MB),
);

describe.each(FACES)('reads of up to 3 MB, $name', (face) => {
  let kvm: Face;
  beforeAll(async () => {
    kvm = await openAmd64On(face, bytes);
  });

  it('are equal to the machine, byte for byte', async () => {
    const property = fc.asyncProperty(addresses, lengths, async (kva, length) => {
      const { bytes: wanted, code } = model.read(kva, length);
      const { bytes: found, fault } = await kvm.readPartial(kva, length);
      expect(Buffer.compare(found, wanted)).toBe(0);
      expect(fault?.code).toBe(code);
      if (code === undefined) {
        expect(Buffer.compare(await kvm.read(kva, length), wanted)).toBe(0);
        return;
      }
      const error = await caughtLater(() => kvm.read(kva, length), code);
      expect(error).toMatchObject({ address: kva + BigInt(wanted.length), bytesDone: wanted.length, length });
      const target = new Uint8Array(length);
      await caughtLater(() => kvm.readInto(kva, target), code);
      expect(Buffer.compare(target.subarray(0, wanted.length), wanted)).toBe(0);
    });
    await fc.assert(property, runsOf(face, 60));
  });

  it('have zeros for what is not there when asked for', async () => {
    const property = fc.asyncProperty(addresses, lengths, async (kva, length) => {
      const wanted = kva + BigInt(length) > 1n << 64n ? undefined : model.readPadded(kva, length);
      if (wanted) expect(Buffer.compare(await kvm.read(kva, length, { pad: true }), wanted)).toBe(0);
      else await caughtLater(() => kvm.read(kva, length, { pad: true }), 'NOT_CANONICAL');
    });
    await fc.assert(property, runsOf(face, 40));
  });

  it('go through physical memory too', async () => {
    const places = fc.integer({ min: 0x1f0000, max: 0x1610000 });
    const property = fc.asyncProperty(places, lengths, async (pa, length) => {
      const wanted = model.readPhysical(pa, length);
      if (wanted.length === length) {
        expect(Buffer.compare(await kvm.readPhysical(pa, length), wanted)).toBe(0);
        return;
      }
      const error = await caughtLater(() => kvm.readPhysical(pa, length), 'NOT_DUMPED');
      expect(error).toMatchObject({ address: BigInt(pa + wanted.length), bytesDone: wanted.length, length });
      const target = new Uint8Array(length);
      await caughtLater(() => kvm.readPhysicalInto(pa, target), 'NOT_DUMPED');
      expect(Buffer.compare(target.subarray(0, wanted.length), wanted)).toBe(0);
    });
    await fc.assert(property, runsOf(face, 40));
  });

  it('end at the top of the address space', async () => {
    const { kva, pa } = BULK.top;
    const wanted = machine.ram.readBytes(pa, 2 * MB);
    for (const length of [1, 8, 4096, 4097, 0x10000, 2 * MB]) {
      const from = (1n << 64n) - BigInt(length);
      expect(Buffer.compare(await kvm.read(from, length), wanted.subarray(2 * MB - length))).toBe(0);
      for (const options of [{}, { pad: true }]) {
        const error = await caughtLater(() => kvm.read(from, length + 7, options), 'NOT_CANONICAL');
        expect(error).toMatchObject({ address: 1n << 64n, bytesDone: length, length: length + 7 });
      }
      expect((await kvm.readPartial(from, length + 1)).bytes.length).toBe(length);
    }
    await caughtLater(() => kvm.readU64(0xfffffffffffffff9n), 'NOT_CANONICAL');
    expect((await kvm.resolve(kva)).contiguous).toBe(2 * MB);
    expect((await kvm.read(0xffffffffffffffffn, 0)).length).toBe(0);
  });

  it('of a superpage that is torn in the file have each page from its place', async () => {
    const { kva, pa } = BULK.torn;
    const absent = new Set([0x1403000, 0x1405000, ...pagesOf(0x1480000, 0x14c0000), 0x15ff000]);
    for (let page = 0; page < 512; page++) {
      const at = kva + BigInt(page * 4096);
      if (absent.has(pa + page * 4096)) {
        expect((await caughtLater(() => kvm.readU32(at), 'NOT_DUMPED')).physicalAddress).toBe(
          pa + page * 4096,
        );
      } else {
        expect(await kvm.readU32(at)).toBe(machine.ram.readU32(pa + page * 4096));
      }
    }
    const hole = await caughtLater(() => kvm.read(kva + 0x80000n, MB), 'NOT_DUMPED');
    expect(hole.holeLength).toBe(0x40000);
  });

  it('take no memory for lengths that cannot be read', async () => {
    const before = process.memoryUsage().arrayBuffers;
    for (const length of [2 ** 32, 2 ** 32 - 1, 2 ** 31]) {
      await caughtLater(() => kvm.read(BULK.scattered.kva, length), 'NOT_DUMPED');
      expect((await kvm.readPartial(BULK.scattered.kva, length)).bytes.length).toBe(0x801000);
      await caughtLater(() => kvm.readPhysical(0x800000, length), 'NOT_DUMPED');
      await caughtLater(() => kvm.read(0n, length), 'NOT_MAPPED');
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 28);
  });
});

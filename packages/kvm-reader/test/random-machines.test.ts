import type { KvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryReader } from '../src/memory-reader.js';
import type { Case as DumpCase, DumpChoice } from './support/cases.js';
import { caseOf, dumps } from './support/cases.js';
import { caughtLater, FACES, openAmd64On, runsOf, type Face, type FaceKind } from './support/faces.js';
import { openAmd64 } from './support/open.js';
import { SlowMinidump } from './support/slow-minidump.js';

/** Reads of random machines against their literal description, and against a slow reader of the file's bytes. */

const TOP = 1n << 64n;
const UNREADABLE = ['NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL'] as const;

interface Case extends DumpCase {
  readonly kvm: Face;
}

async function openCase(face: FaceKind, choice: DumpChoice): Promise<Case> {
  const made = caseOf(choice);
  const kvm = await openAmd64On(face, made.bytes);
  return { ...made, kvm };
}

/** An address near one that is worth asking about. */
const places = fc.record({
  probe: fc.nat(0xffff),
  delta: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(0, 1, -1, -7, -4096, 4096, -4095, 0x1ff000, -0x1000) },
    { weight: 2, arbitrary: fc.integer({ min: -5000, max: 5000 }) },
    fc.integer({ min: -0x400000, max: 0x400000 }),
  ),
});
const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 20 }) },
  { weight: 3, arbitrary: fc.integer({ min: 4080, max: 4110 }) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 40_000 }) },
  { weight: 1, arbitrary: fc.constantFrom(32_767, 32_768, 32_769, 65_536, 0x100000, 0x100001) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x300000 }) },
);
type Place = typeof places extends fc.Arbitrary<infer T> ? T : never;

function kvaOf({ random: { probes } }: Case, { probe, delta }: Place): bigint {
  const kva = probes[probe % probes.length] + BigInt(delta);
  return kva < 0n ? 0n : kva >= TOP ? TOP - 1n : kva;
}

/** Runs a check over random machines in all versions. */
function overMachines<T>(
  face: FaceKind,
  name: string,
  count: number,
  commands: fc.Arbitrary<T>,
  check: (c: Case, command: T) => Promise<void>,
): void {
  it(name, async () => {
    const many = fc.array(commands, { minLength: 5, maxLength: 30 });
    const property = fc.asyncProperty(dumps, many, async (choice, list) => {
      const opened = await openCase(face, choice);
      for (const command of list) await check(opened, command);
    });
    await fc.assert(property, runsOf(face, count));
  });
}

describe.each(FACES)('over random machines, $name', (face) => {
  overMachines(face, 'resolve says what the description says', 50, places, async (c, place) => {
    await checkResolve(c, kvaOf(c, place));
  });

  it('resolve says so at all the edges, and the slow reader agrees', async () => {
    const property = fc.asyncProperty(dumps, async (choice) => {
      const c = await openCase(face, choice);
      const slow = new SlowMinidump(c.bytes);
      for (const kva of c.random.probes) {
        await checkResolve(c, kva);
        const { code, offset, entry, level } = slow.resolve(kva);
        const wanted = c.model.at(kva);
        const sameCode = code === wanted.code || (code === 'NOT_MAPPED' && wanted.code === 'NOT_CANONICAL');
        expect({ sameCode, offset }).toEqual({ sameCode: true, offset: wanted.offset });
        if (code === undefined) {
          const { entry: foundEntry, level: foundLevel } = await c.kvm.resolve(kva);
          expect({ entry: foundEntry, level: foundLevel }).toEqual({ entry, level });
        }
      }
    });
    await fc.assert(property, runsOf(face, 12));
  });

  const reads = fc.record({ place: places, length: lengths });
  overMachines(
    face,
    'reads give the bytes up to the first that is not there',
    60,
    reads,
    async (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const { bytes, code } = c.model.read(kva, length);
      const partial = await c.kvm.readPartial(kva, length);
      expectBytes(partial.bytes, bytes, kva);
      expect(partial.fault?.code).toBe(code);
      const reader = new MemoryReader(openAmd64(c.bytes).core);
      const { page, offset } = reader.split(kva);
      expect(reader.extent(page, offset, length)).toBe(bytes.length);
      if (code === undefined) {
        expectBytes(await c.kvm.read(kva, length), bytes, kva);
        const target = new Uint8Array(length + 6).fill(0xa5);
        await c.kvm.readInto(kva, target.subarray(3, 3 + length));
        expectBytes(target.subarray(3, 3 + length), bytes, kva);
        expect([...target.subarray(0, 3), ...target.subarray(3 + length)]).toEqual(Array(6).fill(0xa5));
        return;
      }
      const fault = await caughtLater(() => c.kvm.read(kva, length), code);
      await checkFault(c, kva, length, bytes.length, fault);
      await checkFault(c, kva, length, bytes.length, partial.fault!);
      const target = new Uint8Array(length);
      await checkFault(
        c,
        kva,
        length,
        bytes.length,
        await caughtLater(() => c.kvm.readInto(kva, target), code),
      );
      expectBytes(target.subarray(0, bytes.length), bytes, kva);
    },
  );

  overMachines(
    face,
    'padded reads have zeros where nothing is, and there alone',
    30,
    reads,
    async (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const wanted = c.model.readPadded(kva, length);
      if (wanted) expectBytes(await c.kvm.read(kva, length, { pad: true }), wanted, kva);
      else await caughtLater(() => c.kvm.read(kva, length, { pad: true }), 'NOT_CANONICAL');
    },
  );

  overMachines(face, 'integers are little-endian at any alignment', 30, places, async (c, place) => {
    const kva = kvaOf(c, place);
    const reads: readonly (readonly [number, () => Promise<number | bigint>])[] = [
      [1, () => c.kvm.readU8(kva)],
      [2, () => c.kvm.readU16(kva)],
      [4, () => c.kvm.readU32(kva)],
      [8, () => c.kvm.readU64(kva)],
      [8, () => c.kvm.readPointer(kva)],
    ];
    for (const [length, read] of reads) {
      const { bytes, code } = c.model.read(kva, length);
      if (code === undefined) {
        const value = bytes.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
        expect(BigInt(await read())).toBe(value);
      } else {
        await checkFault(c, kva, length, bytes.length, await caughtLater(read, code));
      }
    }
  });

  const strings = fc.record({ place: places, length: fc.integer({ min: 0, max: 600 }) });
  overMachines(
    face,
    'strings end at a NUL, at their greatest length, or at a fault',
    30,
    strings,
    async (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const { bytes, code } = c.model.read(kva, length);
      const end = bytes.indexOf(0);
      if (end >= 0 || code === undefined) {
        const text = new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
        expect(await c.kvm.readCString(kva, length)).toBe(text);
      } else {
        await checkFault(
          c,
          kva,
          length,
          bytes.length,
          await caughtLater(() => c.kvm.readCString(kva, length), code),
        );
      }
    },
  );

  const frames = fc.record({
    range: fc.nat(20),
    atEnd: fc.boolean(),
    delta: fc.integer({ min: -70_000, max: 70_000 }),
    length: lengths,
  });
  overMachines(
    face,
    'physical reads know ranges, holes and pages',
    40,
    frames,
    async (c, { range, atEnd, delta, length }) => {
      const { ranges } = c.random.machine.ram;
      const { start, end } = ranges[range % ranges.length];
      const pa = Math.max(0, (atEnd ? end : start) + delta);
      const bytes = c.model.readPhysical(pa, length);
      if (bytes.length === length) {
        expectBytes(await c.kvm.readPhysical(pa, length), bytes, BigInt(pa));
        expectBytes(await c.kvm.readPhysical(BigInt(pa), length), bytes, BigInt(pa));
        return;
      }
      const fault = await caughtLater(() => c.kvm.readPhysical(pa, length), 'NOT_DUMPED');
      const { address, addressSpace, bytesDone, holeLength = 0 } = fault;
      expect({ address, addressSpace, bytesDone }).toEqual({
        ...{ address: BigInt(pa + bytes.length), addressSpace: 'physical', bytesDone: bytes.length },
      });
      const first = pa + bytes.length;
      expect(holeLength).toBeGreaterThan(0);
      const nextPage = c.model.dump.expected.pages.toArray().find((page) => page >= first) ?? Infinity;
      expect(first + holeLength).toBeLessThanOrEqual(nextPage);
      await caughtLater(() => c.kvm.readPhysical(first + holeLength - 1, 1), 'NOT_DUMPED');
    },
  );

  it('an address in a hole of dump_avail has no bytes', async () => {
    const property = fc.asyncProperty(dumps, async (choice) => {
      const c = await openCase(face, { ...choice, version: 3 });
      const { ram, description } = c.random.machine;
      let previousEnd = 0;
      for (const { start, end } of ram.ranges) {
        const [from, to] = [Math.ceil(previousEnd / 4096) * 4096, Math.floor(start / 4096) * 4096];
        for (const pa of [from, from + 4095, to - 1, to - 4096, (from + to) / 2]) {
          if (pa < from || pa >= to) continue;
          expect(c.kvm.core.memory.ranges.has(pa)).toBe(false);
          await caughtLater(() => c.kvm.readPhysical(pa, 1), 'NOT_DUMPED');
          const kva = description.dmap.base + BigInt(Math.floor(pa));
          if (kva < description.dmap.end) await caughtLater(() => c.kvm.readU8(kva), 'NOT_DUMPED');
        }
        previousEnd = end;
      }
    });
    await fc.assert(property, runsOf(face, 25));
  });
});

async function checkResolve(c: Case, kva: bigint): Promise<void> {
  const { code, pa, offset, protection, pageSize } = c.model.at(kva);
  if (code !== undefined) {
    const fault = await caughtLater(() => c.kvm.resolve(kva), code);
    expect(fault.address).toBe(kva);
    if (pa !== undefined) expect(fault.physicalAddress).toBe(pa);
    await checkHole(c, fault);
    return;
  }
  const found = await c.kvm.resolve(kva);
  expect(found).toMatchObject({ kva, physicalAddress: pa, fileOffset: offset, protection, pageSize });
  expect(c.bytes[found.fileOffset!]).toBe(c.random.machine.ram.readU8(pa!));
  const { contiguous } = found;
  expect(contiguous).toBeGreaterThan(0);
  const last = c.model.at(kva + BigInt(contiguous - 1));
  expect(last).toEqual({ pa: pa! + contiguous - 1, offset: offset! + contiguous - 1, protection, pageSize });
}

async function checkFault(
  c: Case,
  kva: bigint,
  length: number,
  bytesDone: number,
  fault: KvmError,
): Promise<void> {
  expect(fault).toMatchObject({
    address: kva + BigInt(bytesDone),
    addressSpace: 'virtual',
    length,
    bytesDone,
  });
  const wanted = c.model.at(kva + BigInt(bytesDone));
  if (wanted.pa !== undefined) expect(fault.physicalAddress).toBe(wanted.pa);
  await checkHole(c, fault);
}

/** No byte of a hole is readable, and its last byte is unreadable for the same reason. */
async function checkHole(
  { kvm, model }: Case,
  { code, address = -1n, holeLength = 0 }: KvmError,
): Promise<void> {
  if (address === TOP) return;
  expect(Number.isSafeInteger(holeLength) && holeLength > 0).toBe(true);
  const last = address + BigInt(holeLength) - 1n;
  expect(last).toBeLessThan(TOP);
  expect(model.nextReadable(address), `hole of ${holeLength} at ${address.toString(16)}`).toBeGreaterThan(
    last,
  );
  for (const kva of [last, address + (last - address) / 2n]) {
    expect(model.at(kva).code).toBe(code);
    expect((await caughtLater(() => kvm.resolve(kva), ...UNREADABLE)).code).toBe(code);
  }
}

function expectBytes(found: Uint8Array, wanted: Uint8Array, kva: bigint): void {
  if (Buffer.compare(found, wanted) === 0) return;
  const at = wanted.findIndex((byte, i) => byte !== found[i]);
  expect.fail(
    `${found.length} of ${wanted.length} bytes at 0x${kva.toString(16)}, first difference at ${at}`,
  );
}

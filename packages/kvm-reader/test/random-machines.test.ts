import type { KvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Kvm } from '../src/kvm.js';
import { MemoryReader } from '../src/memory-reader.js';
import type { Case as DumpCase, DumpChoice } from './support/cases.js';
import { caseOf, dumps } from './support/cases.js';
import { caught } from './support/faults.js';
import { runs } from './support/long.js';
import { asSource, openAmd64 } from './support/open.js';
import { SlowMinidump } from './support/slow-minidump.js';

/** Reads of random machines against their literal description, and against a slow reader of the file's bytes. */

const TOP = 1n << 64n;
const UNREADABLE = ['NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL'] as const;

interface Case extends DumpCase {
  readonly kvm: Kvm;
}

function openCase(choice: DumpChoice, inMemory: boolean): Case {
  const made = caseOf(choice);
  const kvm = inMemory ? openAmd64(made.bytes) : openAmd64(asSource(made.bytes), { cacheBytes: 0 });
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

/** Runs a check over random machines in all versions, from memory and through a minimal block cache. */
function overMachines<T>(
  name: string,
  count: number,
  commands: fc.Arbitrary<T>,
  check: (c: Case, command: T) => void,
): void {
  it(name, () => {
    const many = fc.array(commands, { minLength: 5, maxLength: 30 });
    const property = fc.property(dumps, fc.boolean(), many, (choice, inMemory, list) => {
      const opened = openCase(choice, inMemory);
      for (const command of list) check(opened, command);
    });
    fc.assert(property, runs(count));
  });
}

describe('over random machines', () => {
  overMachines('resolve says what the description says', 50, places, (c, place) => {
    checkResolve(c, kvaOf(c, place));
  });

  it('resolve says so at all the edges, and the slow reader agrees', () => {
    const property = fc.property(dumps, (choice) => {
      const c = openCase(choice, true);
      const slow = new SlowMinidump(c.bytes);
      for (const kva of c.random.probes) {
        checkResolve(c, kva);
        const { code, offset, entry, level } = slow.resolve(kva);
        const wanted = c.model.at(kva);
        const sameCode = code === wanted.code || (code === 'NOT_MAPPED' && wanted.code === 'NOT_CANONICAL');
        expect({ sameCode, offset }).toEqual({ sameCode: true, offset: wanted.offset });
        if (code === undefined) {
          const { entry: foundEntry, level: foundLevel } = c.kvm.resolve(kva);
          expect({ entry: foundEntry, level: foundLevel }).toEqual({ entry, level });
        }
      }
    });
    fc.assert(property, runs(12));
  });

  const reads = fc.record({ place: places, length: lengths });
  overMachines(
    'reads give the bytes up to the first that is not there',
    60,
    reads,
    (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const { bytes, code } = c.model.read(kva, length);
      const partial = c.kvm.readPartial(kva, length);
      expectBytes(partial.bytes, bytes, kva);
      expect(partial.fault?.code).toBe(code);
      const reader = new MemoryReader(c.kvm.core);
      const { page, offset } = reader.split(kva);
      expect(reader.extent(page, offset, length)).toBe(bytes.length);
      if (code === undefined) {
        expectBytes(c.kvm.read(kva, length), bytes, kva);
        const target = new Uint8Array(length + 6).fill(0xa5);
        c.kvm.readInto(kva, target.subarray(3, 3 + length));
        expectBytes(target.subarray(3, 3 + length), bytes, kva);
        expect([...target.subarray(0, 3), ...target.subarray(3 + length)]).toEqual(Array(6).fill(0xa5));
        return;
      }
      const fault = caught(() => c.kvm.read(kva, length), code);
      checkFault(c, kva, length, bytes.length, fault);
      checkFault(c, kva, length, bytes.length, partial.fault!);
      const target = new Uint8Array(length);
      checkFault(
        c,
        kva,
        length,
        bytes.length,
        caught(() => c.kvm.readInto(kva, target), code),
      );
      expectBytes(target.subarray(0, bytes.length), bytes, kva);
    },
  );

  overMachines(
    'padded reads have zeros where nothing is, and there alone',
    30,
    reads,
    (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const wanted = c.model.readPadded(kva, length);
      if (wanted) expectBytes(c.kvm.read(kva, length, { pad: true }), wanted, kva);
      else caught(() => c.kvm.read(kva, length, { pad: true }), 'NOT_CANONICAL');
    },
  );

  overMachines('integers are little-endian at any alignment', 30, places, (c, place) => {
    const kva = kvaOf(c, place);
    const reads: readonly (readonly [number, () => number | bigint])[] = [
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
        expect(BigInt(read())).toBe(value);
      } else {
        checkFault(c, kva, length, bytes.length, caught(read, code));
      }
    }
  });

  const strings = fc.record({ place: places, length: fc.integer({ min: 0, max: 600 }) });
  overMachines(
    'strings end at a NUL, at their greatest length, or at a fault',
    30,
    strings,
    (c, { place, length }) => {
      const kva = kvaOf(c, place);
      const { bytes, code } = c.model.read(kva, length);
      const end = bytes.indexOf(0);
      if (end >= 0 || code === undefined) {
        const text = new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
        expect(c.kvm.readCString(kva, length)).toBe(text);
      } else {
        checkFault(
          c,
          kva,
          length,
          bytes.length,
          caught(() => c.kvm.readCString(kva, length), code),
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
    'physical reads know ranges, holes and pages',
    40,
    frames,
    (c, { range, atEnd, delta, length }) => {
      const { ranges } = c.random.machine.ram;
      const { start, end } = ranges[range % ranges.length];
      const pa = Math.max(0, (atEnd ? end : start) + delta);
      const bytes = c.model.readPhysical(pa, length);
      if (bytes.length === length) {
        expectBytes(c.kvm.readPhysical(pa, length), bytes, BigInt(pa));
        expectBytes(c.kvm.readPhysical(BigInt(pa), length), bytes, BigInt(pa));
        return;
      }
      const fault = caught(() => c.kvm.readPhysical(pa, length), 'NOT_DUMPED');
      const { address, addressSpace, bytesDone, holeLength = 0 } = fault;
      expect({ address, addressSpace, bytesDone }).toEqual({
        ...{ address: BigInt(pa + bytes.length), addressSpace: 'physical', bytesDone: bytes.length },
      });
      const first = pa + bytes.length;
      expect(holeLength).toBeGreaterThan(0);
      const nextPage = c.model.dump.expected.pages.toArray().find((page) => page >= first) ?? Infinity;
      expect(first + holeLength).toBeLessThanOrEqual(nextPage);
      caught(() => c.kvm.readPhysical(first + holeLength - 1, 1), 'NOT_DUMPED');
    },
  );

  it('an address in a hole of dump_avail has no bytes', () => {
    const property = fc.property(dumps, (choice) => {
      const c = openCase({ ...choice, version: 3 }, true);
      const { ram, description } = c.random.machine;
      let previousEnd = 0;
      for (const { start, end } of ram.ranges) {
        const [from, to] = [Math.ceil(previousEnd / 4096) * 4096, Math.floor(start / 4096) * 4096];
        for (const pa of [from, from + 4095, to - 1, to - 4096, (from + to) / 2]) {
          if (pa < from || pa >= to) continue;
          expect(c.kvm.core.memory.ranges.has(pa)).toBe(false);
          caught(() => c.kvm.readPhysical(pa, 1), 'NOT_DUMPED');
          const kva = description.dmap.base + BigInt(Math.floor(pa));
          if (kva < description.dmap.end) caught(() => c.kvm.readU8(kva), 'NOT_DUMPED');
        }
        previousEnd = end;
      }
    });
    fc.assert(property, runs(25));
  });
});

function checkResolve(c: Case, kva: bigint): void {
  const { code, pa, offset, protection, pageSize } = c.model.at(kva);
  if (code !== undefined) {
    const fault = caught(() => c.kvm.resolve(kva), code);
    expect(fault.address).toBe(kva);
    if (pa !== undefined) expect(fault.physicalAddress).toBe(pa);
    checkHole(c, fault);
    return;
  }
  const found = c.kvm.resolve(kva);
  expect(found).toMatchObject({ kva, physicalAddress: pa, fileOffset: offset, protection, pageSize });
  expect(c.bytes[found.fileOffset!]).toBe(c.random.machine.ram.readU8(pa!));
  const { contiguous } = found;
  expect(contiguous).toBeGreaterThan(0);
  const last = c.model.at(kva + BigInt(contiguous - 1));
  expect(last).toEqual({ pa: pa! + contiguous - 1, offset: offset! + contiguous - 1, protection, pageSize });
}

function checkFault(c: Case, kva: bigint, length: number, bytesDone: number, fault: KvmError): void {
  expect(fault).toMatchObject({
    address: kva + BigInt(bytesDone),
    addressSpace: 'virtual',
    length,
    bytesDone,
  });
  const wanted = c.model.at(kva + BigInt(bytesDone));
  if (wanted.pa !== undefined) expect(fault.physicalAddress).toBe(wanted.pa);
  checkHole(c, fault);
}

/** No byte of a hole is readable, and its last byte is unreadable for the same reason. */
function checkHole({ kvm, model }: Case, { code, address = -1n, holeLength = 0 }: KvmError): void {
  if (address === TOP) return;
  expect(Number.isSafeInteger(holeLength) && holeLength > 0).toBe(true);
  const last = address + BigInt(holeLength) - 1n;
  expect(last).toBeLessThan(TOP);
  expect(model.nextReadable(address), `hole of ${holeLength} at ${address.toString(16)}`).toBeGreaterThan(
    last,
  );
  for (const kva of [last, address + (last - address) / 2n]) {
    expect(model.at(kva).code).toBe(code);
    expect(caught(() => kvm.resolve(kva), ...UNREADABLE).code).toBe(code);
  }
}

function expectBytes(found: Uint8Array, wanted: Uint8Array, kva: bigint): void {
  if (Buffer.compare(found, wanted) === 0) return;
  const at = wanted.findIndex((byte, i) => byte !== found[i]);
  expect.fail(
    `${found.length} of ${wanted.length} bytes at 0x${kva.toString(16)}, first difference at ${at}`,
  );
}

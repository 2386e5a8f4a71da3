import { amd64Minidump, randomMachine } from '@libkvm/fixtures';
import type { ByteSource } from '@libkvm/minidump-core';
import { isKvmError, KvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Kvm } from '../src/kvm.js';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import type { Case } from './support/cases.js';
import { caseOf, dumps } from './support/cases.js';
import { caught } from './support/faults.js';
import { runs } from './support/long.js';
import { Model } from './support/model.js';
import { asSource, openAmd64, sparseSource } from './support/open.js';

/** Several cores at once, small caches, and sources that fail. */

const commands = fc.array(
  fc.record({
    which: fc.nat(3),
    probe: fc.nat(0xffff),
    delta: fc.integer({ min: -5000, max: 5000 }),
    length: fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 32_000, max: 70_000 })),
  }),
  { minLength: 10, maxLength: 40 },
);

function addressOf({ random: { probes } }: Case, probe: number, delta: number): bigint {
  const kva = probes[probe % probes.length] + BigInt(delta);
  return kva < 0n ? 0n : kva >= 1n << 64n ? (1n << 64n) - 1n : kva;
}

describe('two cores at once', () => {
  it('do not disturb each other', () => {
    const property = fc.property(dumps, dumps, commands, (one, other, list) => {
      const cases = [caseOf(one), caseOf(other)];
      // Two of each, with a large cache and with the smallest.
      const kvms = [0, 1, 2, 3].map((i) =>
        openAmd64(asSource(cases[i % 2].bytes), { cacheBytes: i < 2 ? 1 << 25 : 0 }),
      );
      const walks = kvms.map((kvm) => kvm.pages());
      const walked = kvms.map((): unknown[] => []);
      for (const { which, probe, delta, length } of list) {
        const c = cases[which % 2];
        const kva = addressOf(c, probe, delta);
        const { bytes, fault } = kvms[which].readPartial(kva, length);
        const wanted = c.model.read(kva, length);
        expect(Buffer.compare(bytes, wanted.bytes)).toBe(0);
        expect(fault?.code).toBe(wanted.code);
        // Page walks that go on in between.
        const next = walks[which].next();
        if (next.done !== true) walked[which].push(next.value);
      }
      walked.forEach((rows, i) => {
        const fresh = openAmd64(cases[i % 2].bytes).pages();
        for (const row of rows) expect(row).toEqual(fresh.next().value);
      });
    });
    fc.assert(property, runs(25));
  });

  it('answer alike with any size of cache', () => {
    const machine = bulkMachine(3);
    const dump = amd64Minidump(machine);
    const bytes = dump.file.bytes();
    const sizes = [0, 1, 4096, 300_000, 1 << 20, undefined, 2 ** 31];
    const kvms = sizes.map((cacheBytes) =>
      openAmd64(asSource(bytes), cacheBytes === undefined ? {} : { cacheBytes }),
    );
    const model = new Model(machine, dump);
    const places = fc.record({
      page: fc.nat(1100),
      inPage: fc.nat(4095),
      length: fc.integer({ min: 1, max: 200 }),
    });
    const property = fc.property(fc.array(places, { minLength: 50, maxLength: 300 }), (list) => {
      for (const { page, inPage, length } of list) {
        const kva = BULK.scattered.kva + BigInt(page * 4096 + inPage);
        const wanted = model.read(kva, length).bytes;
        for (const kvm of kvms) expect(Buffer.compare(kvm.readPartial(kva, length).bytes, wanted)).toBe(0);
      }
    });
    fc.assert(property, runs(10));
  });

  it('take only sizes of caches that make sense', () => {
    const bytes = amd64Minidump(randomMachine(1).machine).file.bytes();
    for (const cacheBytes of [-1, NaN, Infinity, 2 ** 31 + 1, 2 ** 40]) {
      expect(caught(() => openAmd64(asSource(bytes), { cacheBytes }), 'INVALID_ARGUMENT').field).toBe(
        'cacheBytes',
      );
    }
  });
});

describe('a source that fails', () => {
  it('surfaces as it is, and leaves nothing wrong behind', () => {
    const property = fc.property(dumps, commands, fc.infiniteStream(fc.nat(7)), (choice, list, dice) => {
      const c = caseOf(choice);
      const flaky = failing(asSource(c.bytes), () => dice.next().value === 0);
      const kvm = retry(() => openAmd64(flaky, { cacheBytes: 0 }));
      let failures = 0;
      for (const { probe, delta, length } of list) {
        const kva = addressOf(c, probe, delta);
        const wanted = c.model.read(kva, length);
        for (;;) {
          try {
            const { bytes, fault } = kvm.readPartial(kva, length);
            expect(Buffer.compare(bytes, wanted.bytes)).toBe(0);
            expect(fault?.code).toBe(wanted.code);
            break;
          } catch (error) {
            if (!isKvmError(error, 'IO')) throw error;
            expect(error.message).toBe('the disk is gone');
            if (++failures > 10_000) throw error;
          }
        }
      }
    });
    fc.assert(property, runs(30));
  });

  it('fails integers, strings, searches and walks too, and they work again', () => {
    const machine = bulkMachine(4);
    const dump = amd64Minidump(machine);
    let broken = false;
    const source = failing(asSource(dump.file.bytes()), () => broken);
    const kvm = openAmd64(source, { cacheBytes: 0 });
    const { kva } = BULK.scattered;
    const window = { from: kva, to: kva + 0x40000n };
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    const uses: readonly [string, (kvm: Kvm) => unknown][] = [
      ['readU32', (kvm) => kvm.readU32(kva)],
      ['readU64 over pages', (kvm) => kvm.readU64(kva + 4093n)],
      ['readCString', (kvm) => kvm.readCString(kva + 100n)],
      ['resolve', (kvm) => kvm.resolve(BULK.gap.kva)],
      ['bulk', (kvm) => hex(kvm.read(kva, 100_000))],
      ['pad', (kvm) => hex(kvm.read(BULK.gap.kva, 3 * 4096, { pad: true }))],
      ['physical', (kvm) => hex(kvm.readPhysical(0x800000, 100_000))],
      ['search', (kvm) => [...kvm.search('abc', window)]],
      ['searchPhysical', (kvm) => [...kvm.searchPhysical('abc')]],
      ['pages', (kvm) => [...kvm.pages(window)]],
    ];
    const fresh = (): Kvm => openAmd64(dump.file.bytes());
    let failures = 0;
    for (const [name, use] of uses) {
      const wanted = use(fresh());
      broken = true;
      // What is in the cache may still be read; what is not cannot.
      try {
        expect(use(kvm), name).toEqual(wanted);
      } catch (error) {
        expect(isKvmError(error, 'IO'), name).toBe(true);
        failures++;
      }
      broken = false;
      expect(use(kvm), name).toEqual(wanted);
    }
    expect(failures).toBeGreaterThan(4);
  });

  it('says IO when it gives fewer bytes than it has', () => {
    const bytes = amd64Minidump(bulkMachine(5)).file.bytes();
    let short = false;
    const source = asSource(bytes);
    const shrinking: ByteSource = {
      size: source.size,
      readSync: (offset, target, at, length) =>
        source.readSync(offset, target, at, short ? Math.floor(length / 2) : length),
    };
    const kvm = openAmd64(shrinking, { cacheBytes: 0 });
    short = true;
    for (const length of [8, 5000, 100_000]) {
      const error = caught(() => kvm.read(BULK.scattered.kva, length), 'IO');
      expect(error.offset).toBeTypeOf('number');
    }
    short = false;
    expect(kvm.read(BULK.scattered.kva, 8).length).toBe(8);
  });

  it('may throw anything; it comes out as it is', () => {
    const bytes = amd64Minidump(randomMachine(1).machine).file.bytes();
    const problem = new TypeError('mine');
    const source = {
      size: bytes.length,
      readSync: () => {
        throw problem;
      },
    };
    expect(() => openAmd64(source)).toThrow(problem);
  });
});

describe('what is no source', () => {
  it('is INVALID_ARGUMENT', () => {
    const readSync = (): number => 0;
    const bad = [undefined, null, 'vmcore.0', 7, {}, { size: 5 }, { readSync }, [1, 2, 3]];
    const sizes = [-1, 1.5, NaN, Infinity, 2 ** 53, '7'].map((size) => ({ size, readSync }));
    for (const input of [...bad, ...sizes]) {
      caught(() => openAmd64(input as unknown as Uint8Array), 'INVALID_ARGUMENT');
    }
  });

  it('and an ArrayBuffer, a Buffer or a part of a larger array is one', () => {
    const { model, bytes } = caseOf({ source: 7, version: 3 });
    const larger = new Uint8Array(bytes.length + 100).fill(0xee);
    larger.set(bytes, 50);
    const [kva] = model.readable;
    const wanted = model.read(kva, 4096).bytes;
    const inputs = [
      bytes.buffer,
      Buffer.from(bytes),
      larger.subarray(50, 50 + bytes.length),
      asSource(bytes),
    ];
    for (const input of inputs) {
      const kvm = openAmd64(input as Uint8Array);
      expect(Buffer.compare(kvm.read(kva, 4096), wanted)).toBe(0);
      expect(BigInt(kvm.readU32(kva))).toBe(kvm.readU64(kva) & 0xffffffffn);
    }
  });

  it('and a file of 2^52 bytes is one', () => {
    const head = amd64Minidump(randomMachine(2).machine).file.bytes();
    const { readable } = caseOf({ source: 2, version: 3 }).model;
    const kvm = openAmd64(sparseSource(2 ** 52, [[0, head]]));
    expect(kvm.read(readable[0], 16)).toEqual(openAmd64(head).read(readable[0], 16));
  });
});

/** A source that throws IO whenever it is told to. */
function failing(source: ByteSource, fails: () => boolean): ByteSource {
  return {
    size: source.size,
    readSync(offset, target, at, length) {
      if (fails()) {
        // It may have written something already.
        target.fill(0xdb, at, at + Math.floor(length / 2));
        throw new KvmError('IO', 'the disk is gone', { offset, length });
      }
      return source.readSync(offset, target, at, length);
    },
  };
}

function retry<T>(action: () => T): T {
  for (let tries = 0; ; tries++) {
    try {
      return action();
    } catch (error) {
      if (!isKvmError(error, 'IO') || tries > 10_000) throw error;
    }
  }
}

import type { KvmError, KvmErrorCode } from '@libkvm/minidump-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { caughtLater, FACES, openAmd64On, type Face } from './support/faces.js';
import { SMALL, smallDump } from './support/small-machine.js';

/** What cannot be given, on every face: by its reason, with its place, and what would help. */

describe.each(FACES)('an address that cannot be read, $name', (face) => {
  let kvm: Face;
  beforeAll(async () => {
    kvm = await openAmd64On(face, smallDump(3).file.bytes());
  });

  it('is told by its reason', async () => {
    const cases: readonly (readonly [bigint, KvmErrorCode, RegExp])[] = [
      [SMALL.kernbase, 'NOT_MAPPED', /not mapped/],
      [SMALL.kernbase + 0x400000n, 'NOT_MAPPED', /not mapped/],
      [SMALL.kernbase - 1n, 'NOT_MAPPED', /not mapped/],
      [0n, 'NOT_MAPPED', /not mapped/],
      [0x7fffffffffffn, 'NOT_MAPPED', /not mapped/],
      [0x800000000000n, 'NOT_CANONICAL', /no such address/],
      [0xffff7fffffffffffn, 'NOT_CANONICAL', /no such address/],
      [SMALL.pages + 0x3000n, 'NOT_DUMPED', /device|outside/],
      [SMALL.pages + 0x4000n, 'NOT_DUMPED', /did not dump/],
      [SMALL.big + 0xb000n, 'NOT_DUMPED', /outside/],
      [SMALL.dmap.base + 0xb000n, 'NOT_DUMPED', /outside/],
      [SMALL.dmap.base + 0x5000n, 'NOT_DUMPED', /did not dump/],
    ];
    for (const [kva, code, words] of cases) {
      const uses: ((kvm: Face) => unknown)[] = [
        () => kvm.resolve(kva),
        () => kvm.read(kva, 1),
        () => kvm.readInto(kva, new Uint8Array(1)),
        () => kvm.readU8(kva),
        () => kvm.readU16(kva),
        () => kvm.readU32(kva),
        () => kvm.readU64(kva),
        () => kvm.readPointer(kva),
        () => kvm.readCString(kva),
      ];
      for (const use of uses) {
        const error = await caughtLater(() => use(kvm), code);
        expect(error).toMatchObject({ address: kva, addressSpace: 'virtual' });
        expect(`${error.message}\n${error.hint}`).toMatch(words);
        expect(error.message).toContain(`0x${kva.toString(16)}`);
        expect(error.toJSON()).toMatchObject({ code, address: `0x${kva.toString(16)}` });
      }
      expect((await kvm.readPartial(kva, 1)).fault).toMatchObject({ code, bytesDone: 0 });
    }
  });

  it('is no problem for a read of no bytes', async () => {
    for (const kva of [0n, SMALL.kernbase, 0x800000000000n, 0xffffffffffffffffn]) {
      expect((await kvm.read(kva, 0)).length).toBe(0);
      expect(await kvm.readPartial(kva, 0)).toEqual({ bytes: new Uint8Array(0) });
      await kvm.readInto(kva, new Uint8Array(0));
      expect(await kvm.readCString(kva, 0)).toBe('');
    }
    expect((await kvm.readPhysical(2 ** 53 - 1, 0)).length).toBe(0);
  });
});

describe.each(FACES)('arguments that make no sense, $name', (face) => {
  let kvm: Face;
  beforeAll(async () => {
    kvm = await openAmd64On(face, smallDump(3).file.bytes());
  });
  const kva = SMALL.pages;
  const fails = (use: () => unknown): Promise<KvmError> => caughtLater(use, 'INVALID_ARGUMENT');

  it('lengths', async () => {
    const bad = [
      -1,
      -0.5,
      0.5,
      NaN,
      Infinity,
      -Infinity,
      2 ** 32 + 1,
      2 ** 53,
      '8',
      null,
      8n,
      {},
    ] as number[];
    for (const length of bad) {
      for (const use of [
        () => kvm.read(kva, length),
        () => kvm.read(kva, length, { pad: true }),
        () => kvm.readPartial(kva, length),
        () => kvm.readPhysical(0x2000, length),
        () => kvm.readCString(kva, length),
      ]) {
        expect((await fails(use)).field).toBe('length');
      }
    }
  });

  it('addresses', async () => {
    const bad = [
      -1,
      -1n,
      0.5,
      NaN,
      Infinity,
      2 ** 53,
      2 ** 64,
      1n << 64n,
      -(1n << 63n),
      '0x1000',
      null,
      undefined,
    ];
    for (const value of bad) {
      const address = value as bigint;
      for (const use of [
        () => kvm.resolve(address),
        () => kvm.read(address, 8),
        () => kvm.readPartial(address, 8),
        () => kvm.readInto(address, new Uint8Array(8)),
        () => kvm.readU8(address),
        () => kvm.readU64(address),
        () => kvm.readCString(address),
      ]) {
        expect((await fails(use)).hint, String(value)).toMatch(/bigint|integer/);
      }
    }
    for (const pa of [-1, 0.5, NaN, 2 ** 53, -1n, 1n << 53n, 1n << 64n, '5', null] as number[]) {
      await fails(() => kvm.readPhysical(pa, 8));
      await fails(() => kvm.readPhysicalInto(pa, new Uint8Array(8)));
    }
  });

  it('a number that is no longer exact', async () => {
    const error = await fails(() => kvm.readU8(0xfffffe0000001000));
    expect(error.hint).toMatch(/bigint/);
  });

  it('overrides', async () => {
    const bytes = smallDump(3).file.bytes();
    for (const [field, value] of [
      ['kernbase', -1n],
      ['kernbase', 1n << 64n],
      ['kernbase', 0xffffffff80000000],
      ['pmapsize', 2 ** 32],
      ['pmapsize', 1.5],
      ['pmapsize', NaN],
      ['magic', 5],
      ['ptesize', 5],
      ['toString', 5],
      ['__proto__', 5],
    ] as const) {
      const overrides = Object.fromEntries([[field, value]]);
      expect((await fails(() => openAmd64On(face, bytes, { overrides }))).field).toBe(field);
    }
    await caughtLater(() => openAmd64On(face, bytes, { overrides: { version: 7 } }), 'UNSUPPORTED');
    await caughtLater(() => openAmd64On(face, bytes, { overrides: { kernbase: 0x1000 } }), 'CORRUPT');
    const moved = await openAmd64On(face, bytes, { overrides: { kernbase: 0xffffffff80000000n } });
    expect(await moved.readU64(0xffffffff80001000n)).toBe(await kvm.readU64(SMALL.pages));
  });
});

import { fc, test } from '@fast-check/vitest';
import { pagesOf } from '@libkvm/fixtures';
import {
  BlockCache,
  KvaParts,
  MAPPED,
  MemorySource,
  NOT_CANONICAL,
  Translation,
  isKvmError,
  openMinidump,
} from '@libkvm/minidump-core';
import type { Core, HeaderOverrides } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { I386Machine } from '../../fixtures/src/i386-machine.js';
import type { I386MachineDescription } from '../../fixtures/src/i386-machine.js';
import type { I386Mapping } from '../../fixtures/src/i386-mapping.js';
import { i386Minidump as dump } from '../../fixtures/src/i386-minidump.js';
import { randomI386Machine } from '../../fixtures/src/i386-random.js';
import { i386Minidump } from '../src/index.js';
import { ask, walk } from './walker-rows.js';

/** `npm run test:long` takes more random machines. */
const LONG = process.env.LIBKVM_LONG ? 20 : 1;

const open = (bytes: Uint8Array, overrides: HeaderOverrides = {}): Core =>
  openMinidump(new BlockCache(new MemorySource(bytes)), i386Minidump, overrides);

const hexdump = (bytes: Uint8Array): string[] => {
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0'));
  return Array.from({ length: Math.ceil(digits.length / 16) }, (_, i) =>
    digits.slice(i * 16, i * 16 + 16).join(' '),
  );
};

const sectionsOf = ({ sections }: Core): Record<string, number> =>
  Object.fromEntries(sections.map(({ name, offset }) => [name, offset]));

const page4k = (kva: bigint, pa: number, rights: Partial<I386Mapping> = {}): I386Mapping => ({
  ...{ kva, pa, pageSize: 0x1000, pages: 1, writable: true },
  ...rights,
});

/** What the core says of a KVA: PA, offset in the file, rights. */
function resolve(core: Core, kva: number): { pa: number; offset: number; rights: string; entry: number[] } {
  const out = new Translation();
  const { pa, rights } = ask(core.addressSpace!, kva, out);
  return {
    ...{ pa: pa!, offset: core.memory.locate(pa!), rights: rights! },
    entry: [out.entryHigh >>> 0, out.entryLow >>> 0],
  };
}

describe('7.3 i386 non-PAE, v2', () => {
  const machine = new I386Machine({
    paging: 'nopae',
    ram: [
      { start: 0x1000, end: 0x9f000 },
      { start: 0x100000, end: 0x1ff00000 },
    ],
    kernbase: 0xc0000000n,
    kvaEnd: 0xc4000000n,
    mappings: [
      { ...page4k(0xc0400000n, 0x400000), pageSize: 0x400000 },
      page4k(0xc0c01000n, 0x7654000, { writable: false, global: true, modified: false }),
    ],
    tablePool: pagesOf(0x5000000, 0x5010000),
    extraPages: [0x1000],
    noDumpPages: pagesOf(0x400000, 0x800000).filter((pa) => pa !== 0x412000),
    messageBuffer: { pa: 0x6000000, kva: 0xc1000000n, ringSize: 0xfff0, dumped: false },
  });
  const bytes = dump(machine).file.bytes();
  const core = open(bytes);

  it('is the hexdump', () => {
    expect(hexdump(bytes.subarray(0, 0x34))).toEqual([
      '6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44',
      '2f 69 33 38 36 00 00 00 02 00 00 00 f0 ff 00 00',
      '00 40 00 00 00 00 01 00 00 00 00 c0 00 00 00 00',
      '00 10 00 00',
    ]);
    expect(hexdump(bytes.subarray(0x17048, 0x1704c))).toEqual(['63 20 41 00']);
    expect(hexdump(bytes.subarray(0x19004, 0x19008))).toEqual(['21 41 65 07']);
  });

  it('opens with the sections where they are', () => {
    expect(sectionsOf(core)).toEqual({
      ...{ header: 0, msgbuf: 0x1000, dumpAvail: 0x11000, bitmap: 0x12000, table: 0x16000, pages: 0x26000 },
    });
    expect(core.memory.ranges.pages).toBe(130718);
    expect(core.memory.pages).toEqual({ dumped: 3, missing: 0, partial: 0 });
    expect(bytes.length).toBe(0x29000);
    expect(core).toMatchObject({
      kernbase: 0xc0000000n,
      pteFormat: 'nopae',
      version: 2,
      bits: 32,
      warnings: [],
    });
    expect(core.directMap).toBeUndefined();
  });

  it('resolves the queries', () => {
    expect(core.memory.ranges.bitOf(0x412)).toBe(0x3b0);
    expect(core.memory.ranges.bitOf(0x7654)).toBe(0x75f2);
    expect(resolve(core, 0xc0412345)).toEqual({
      ...{ pa: 0x412345, offset: 0x27345, rights: 'rwx--', entry: [0, 0x00412063] },
    });
    expect(resolve(core, 0xc0c01008)).toEqual({
      ...{ pa: 0x7654008, offset: 0x28008, rights: 'r-x-g', entry: [0, 0x07654121] },
    });
  });
});

describe('7.4 i386 PAE, v2, 4/4 layout', () => {
  const machine = new I386Machine({
    paging: 'pae',
    ram: [
      { start: 0x1000, end: 0x9f000 },
      { start: 0x100000, end: 0xbff00000 },
      { start: 0x100000000, end: 0x140000000 },
    ],
    kernbase: 0x00800000n,
    kvaEnd: 0x04800000n,
    mappings: [page4k(0x02345000n, 0x123456000, { executable: false, global: true })],
    tablePool: pagesOf(0x5000000, 0x5010000),
    rootPa: 0x5010060,
    extraPages: [0x1000, 0x800000],
    messageBuffer: { pa: 0x6000000, kva: 0x01000000n, ringSize: 0x18000, dumped: false },
  });
  const bytes = dump(machine).file.bytes();
  const core = open(bytes);

  it('is the hexdump', () => {
    expect(hexdump(bytes.subarray(0, 0x34))).toEqual([
      '6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44',
      '2f 69 33 38 36 00 00 00 02 00 00 00 00 80 01 00',
      '00 00 02 00 00 00 02 00 00 00 80 00 01 00 00 00',
      '00 10 00 00',
    ]);
    expect(hexdump(bytes.subarray(0x47a28, 0x47a30))).toEqual(['63 61 45 23 01 00 00 80']);
  });

  it('opens with the sections where they are', () => {
    expect(sectionsOf(core)).toEqual({
      ...{ header: 0, msgbuf: 0x1000, dumpAvail: 0x19000, bitmap: 0x1a000, table: 0x3a000, pages: 0x5a000 },
    });
    expect(core.memory.ranges.pages).toBe(1048222);
    expect(bytes.length).toBe(0x5d000);
    expect(core).toMatchObject({ kernbase: 0x00800000n, pteFormat: 'pae', extra: { paemode: 1 } });
  });

  it('resolves the query', () => {
    expect(core.memory.ranges.bitOf(0x123456)).toBe(930548);
    expect(resolve(core, 0x02345678)).toEqual({
      ...{ pa: 0x123456678, offset: 0x5c678, rights: 'rw--g', entry: [0x80000001, 0x23456163] },
    });
    expect(walk(core.addressSpace!)).toMatchObject([{ kva: 0x02345000, length: 0x1000 }]);
  });
});

describe('random machines', () => {
  test.prop([fc.integer(), fc.constantFrom(1 as const, 2 as const)], { numRuns: 100 * LONG })(
    'resolves as the description of the machine says',
    (seed, version) => {
      const { machine, probes } = randomI386Machine(seed);
      const { file, expected } = dump(machine, { version });
      const core = open(file.bytes());
      const space = core.addressSpace!;
      const answers = probes.map((kva) => {
        const { outcome, pa = 0, rights = '', pageSize } = ask(space, Number(kva));
        if (outcome !== 'mapped') return { kva, outcome };
        const fileOffset = core.memory.locate(pa);
        return {
          kva,
          outcome,
          pa,
          fileOffset,
          pageSize,
          writable: rights[1] === 'w',
          executable: rights[2] === 'x',
        };
      });
      const wanted = probes.map((kva) => {
        const resolution = expected.resolve(kva);
        if (!('pa' in resolution)) return { kva, outcome: 'unmapped' };
        const { pa, pageSize, writable, executable } = resolution;
        const fileOffset = resolution.state === 'present' ? resolution.fileOffset : -1;
        return { kva, outcome: 'mapped', pa, fileOffset, pageSize, writable, executable };
      });
      expect(answers).toEqual(wanted);
      expect(core.warnings).toEqual([]);
      expect(core.memory.pages.dumped).toBe(expected.pages.count);
    },
  );

  test.prop([fc.integer()], { numRuns: 60 * LONG })(
    'lists every 4 KB page of the table, and no other',
    (seed) => {
      const { machine } = randomI386Machine(seed);
      const { file, expected } = dump(machine);
      const rows = walk(open(file.bytes()).addressSpace!);
      const wanted: { kva: number; pa: number }[] = [];
      for (const { kva, pageSize, pages } of machine.description.mappings) {
        for (let at = kva; at < kva + BigInt(pageSize * pages); at += 4096n) {
          const resolution = expected.resolve(at);
          if ('pa' in resolution) wanted.push({ kva: Number(at), pa: resolution.pa });
        }
      }
      expect(rows.map(({ kva, pa }) => ({ kva, pa }))).toEqual(wanted);
      expect(new Set(rows.map(({ length }) => length))).toEqual(new Set(rows.length > 0 ? [4096] : []));
    },
  );
});

describe('edges and damage', () => {
  const description: I386MachineDescription = {
    paging: 'nopae',
    ram: [{ start: 0x1000, end: 0x40000 }],
    patternSeed: 1,
    kernbase: 0xff800000n,
    kvaEnd: 0x100000000n,
    mappings: [page4k(0xfffff000n, 0x2000), page4k(0xff800000n, 0x3000)],
    tablePool: pagesOf(0x10000, 0x20000),
  };
  const machine = new I386Machine(description);
  const plain = dump(machine).file.bytes();
  const failure = (bytes: Uint8Array, overrides?: HeaderOverrides): { code: string; field?: string } => {
    try {
      open(bytes, overrides);
    } catch (error) {
      if (isKvmError(error)) return error;
      throw error;
    }
    throw new Error('no error');
  };

  it('maps the last page of 32 bits, and nothing behind it', () => {
    const space = open(plain).addressSpace!;
    const out = new Translation();
    expect(ask(space, 0xffffffff, out)).toMatchObject({ outcome: 'mapped', pa: 0x2fff });
    expect(out.length).toBe(1);
    expect(space.translate(2 ** 20, 0, out)).toBe(NOT_CANONICAL);
    // Below the table; the hole ends where it starts.
    expect(ask(space, 0xff7fff00, out).outcome).toBe('unmapped');
    expect(out.length).toBe(0x100);
  });

  it('ignores entries whose addresses would lie past 2^32', () => {
    const space = open(plain, { kernbase: 0xffc00000 }).addressSpace!;
    expect(walk(space)).toMatchObject([{ kva: 0xffc00000, pa: 0x3000 }]);
    expect(space.translate(0x1003ff, 0, new Translation())).toBe(NOT_CANONICAL);
  });

  it('ends the hole behind the table at 2^32', () => {
    const space = open(plain, { kernbase: 0xc0000000n }).addressSpace!;
    const out = new Translation();
    expect(ask(space, 0xc0800000, out).outcome).toBe('unmapped');
    expect(out.length).toBe(0x3f800000);
    expect(ask(space, 0xc07fffff)).toMatchObject({ outcome: 'mapped', pa: 0x2fff });
  });

  it('takes sign-extended addresses for what they are', () => {
    const parts = new KvaParts(32);
    parts.set(0xfffffffffffff123n);
    const out = new Translation();
    expect(open(plain).addressSpace!.translate(parts.page, parts.offset, out)).toBe(MAPPED);
    expect(out.pa).toBe(0x2123);
  });

  it('ignores an incomplete last entry, and a dumpavailsize of version 1', () => {
    const space = open(plain, { ptesize: 4094 + 4096 }).addressSpace!;
    expect(ask(space, 0xfffff000).outcome).toBe('unmapped');
    expect(walk(space)).toMatchObject([{ kva: 0xff800000 }]);
    const old = dump(machine, { version: 1, header: { dumpavailsize: 0x7000 } }).file.bytes();
    expect(ask(open(old).addressSpace!, 0xfffff000)).toMatchObject({ outcome: 'mapped', pa: 0x2000 });
    expect(open(old).memory.ranges.ranges).toEqual([{ start: 0, end: 0x8000000 }]);
  });

  it('reads entries of 8 bytes for any paemode but 0', () => {
    const core = open(plain, { paemode: 7 });
    expect(core.pteFormat).toBe('pae');
    expect(walk(core.addressSpace!)).toMatchObject([{ kva: 0xff800000, pa: 0x3000, rights: 'rwx--' }]);
  });

  it('says what is wrong with a header', () => {
    const withHeader = (header: Record<string, number>): Uint8Array => dump(machine, { header }).file.bytes();
    expect(failure(withHeader({ version: 3 }))).toMatchObject({ code: 'UNSUPPORTED', field: 'version' });
    expect(failure(withHeader({ version: 0 }))).toMatchObject({ code: 'UNSUPPORTED' });
    expect(failure(withHeader({ kernbase: 0xff800001 }))).toMatchObject({
      code: 'CORRUPT',
      field: 'kernbase',
    });
    expect(failure(withHeader({ ptesize: 0xfffff000 }))).toMatchObject({ code: 'TRUNCATED' });
    expect(failure(plain.slice(0, 40))).toMatchObject({ code: 'TRUNCATED' });
    expect(failure(plain, { dmapbase: 1 })).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'dmapbase' });
    expect(failure(plain, { magic: 1 })).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'magic' });
    expect(failure(plain, { kernbase: 2 ** 32 })).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'kernbase',
    });
    expect(failure(plain, { toString: 1 })).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('recognises its own magic only', () => {
    expect(i386Minidump.probe(plain.subarray(0, 4096))).toBe(true);
    for (const magic of ['minidump FreeBSD/i3860', 'minidump FreeBSD/i38', 'minidump FreeBSD/amd64']) {
      expect(i386Minidump.probe(dump(machine, { header: { magic } }).file.bytes())).toBe(false);
    }
    expect(i386Minidump.probe(new Uint8Array(3))).toBe(false);
  });

  test.prop([fc.integer(), fc.uint8Array({ minLength: 4, maxLength: 4 })], { numRuns: 150 * LONG })(
    'opens or fails with a KvmError whatever a header says, and never throws in a walk',
    (seed, noise) => {
      const bytes = plain.slice();
      bytes.set(noise, 24 + (Math.abs(seed) % 7) * 4);
      try {
        const space = open(bytes).addressSpace!;
        const rows = walk(space, 0, 2 ** 32, 5000);
        for (const { kva, pa } of rows.slice(0, 100)) expect(ask(space, kva).pa).toBe(pa);
      } catch (error) {
        expect(isKvmError(error, 'TRUNCATED', 'CORRUPT', 'UNSUPPORTED')).toBe(true);
      }
    },
  );
});

import { amd64 } from '@libkvm/arch-amd64';
import { fc, test } from '@fast-check/vitest';
import { deviceHeader, dumpDevice, type DeviceHeader } from '@libkvm/fixtures';
import { dumpSourceOf, dumpToBytes, isKvmError, planPortable, type ByteSource } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { runs } from '../../minidump-core/test/runs.js';
import {
  openKvm,
  openKvmAsync,
  readKernelDumpHeader,
  withDumpHeader,
  writeKernelDumpHeader,
  type Kvm,
} from '../src/index.js';
import { caught } from './support/faults.js';
import { asSource } from './support/open.js';
import { SMALL, smallDump } from './support/small-machine.js';

/** Dump headers, and cores behind them. */

const core = smallDump(3).file.bytes();
const open = (bytes: Uint8Array | ByteSource): Kvm => openKvm(bytes, { architectures: [amd64] });
const plain = open(core);
const FACTS = {
  dumpTime: 1700000000,
  hostname: 'host.example',
  versionString: 'FreeBSD 14.0-RELEASE\n',
  panicString: 'page fault',
} as const;

/** Reads the same as the core without anything around it. */
function expectSame(kvm: Kvm): void {
  expect([...kvm.pages()]).toEqual([...plain.pages()]);
  expect(kvm.read(SMALL.pages, 8192)).toEqual(plain.read(SMALL.pages, 8192));
  expect(kvm.messageBuffer()).toEqual(plain.messageBuffer());
}

/** The words of a header, combined as the kernel's parity is. */
function parityOf(header: Uint8Array): number[] {
  const sums = [0, 0, 0, 0];
  header.subarray(0, 512).forEach((byte, i) => (sums[i % 4] ^= byte));
  return sums;
}

describe('the header of a kernel dump', () => {
  it('is written as in the worked example', () => {
    const bytes = writeKernelDumpHeader({ ...FACTS, architecture: 'amd64', dumpLength: 0x1234000 });
    const hex = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('hex');
    expect(hex(0, 0x10)).toBe('46726565425344204b65726e656c2044');
    expect(hex(0x10, 0x20)).toBe('756d7000616d64363400000000000000');
    expect(hex(0x20, 0x30)).toBe('00000004000000020000000001234000');
    expect(hex(0x30, 0x40)).toBe('000000006553f1000000000000000200');
    expect(hex(0x40, 0x50)).toBe('686f73742e6578616d706c6500000000');
    expect(hex(0x1e8, 0x200)).toBe('0000000000000000000000000123400000000000' + '2f74ec43');
    expect(parityOf(bytes)).toEqual([0, 0, 0, 0]);
  });

  it.each([1, 2, 3, 4] as const)('is read in version %i', (version) => {
    const facts = { ...FACTS, version, architecture: 'i386', dumpLength: 5000, blockSize: 4096 };
    expect(readKernelDumpHeader(deviceHeader(facts))).toMatchObject({
      ...facts,
      ...{ kind: 'kernel', architectureVersion: 2, dumpExtent: 8192, keySize: 0, parityHolds: true },
      compression: 'none',
    });
    if (version < 2) return;
    expect(readKernelDumpHeader(deviceHeader({ ...facts, keySize: 512 })).keySize).toBe(512);
    if (version < 3) return;
    const extended = deviceHeader({ ...facts, compression: 2, dumpExtent: 1 << 20 });
    expect(readKernelDumpHeader(extended)).toMatchObject({ compression: 'zstd', dumpExtent: 1 << 20 });
    expect(readKernelDumpHeader(deviceHeader({ ...facts, compression: 9 })).compression).toBe(9);
  });

  it('is refused where it is none, or of a time to come', () => {
    caught(() => readKernelDumpHeader(deviceHeader().subarray(0, 511)), 'TRUNCATED');
    caught(() => readKernelDumpHeader(new Uint8Array(512)), 'NOT_A_CORE');
    const future = deviceHeader();
    future[35] = 5;
    expect(caught(() => readKernelDumpHeader(future), 'UNSUPPORTED')).toMatchObject({ field: 'version' });
    caught(() => readKernelDumpHeader(deviceHeader({ blockSize: 1000 })), 'CORRUPT');
    const long = deviceHeader();
    long[40] = 0xff;
    caught(() => readKernelDumpHeader(long), 'CORRUPT');
  });

  it('cuts strings as the kernel does, and refuses what does not fit', () => {
    const long = {
      architecture: 'amd64',
      dumpLength: 1,
      panicString: 'x'.repeat(500),
      hostname: 'ü'.repeat(20),
    };
    const header = readKernelDumpHeader(writeKernelDumpHeader(long));
    expect(header.panicString).toBe('x'.repeat(174));
    expect(header.hostname).toBe('ü'.repeat(20));
    caught(() => writeKernelDumpHeader({ ...long, blockSize: 100 }), 'INVALID_ARGUMENT');
    caught(() => writeKernelDumpHeader({ ...long, architecture: 'a'.repeat(13) }), 'INVALID_ARGUMENT');
  });
});

describe('a dump device', () => {
  const M = 4 * 1024 * 1024;
  const cases: [string, DeviceHeader][] = [1, 2, 3, 4].flatMap((version) =>
    [512, 4096, 16384].map((blockSize): [string, DeviceHeader] => [
      `version ${version}, blocks of ${blockSize}`,
      { ...FACTS, version: version as 1, blockSize },
    ]),
  );

  it.each(cases)('%s', (_, facts) => {
    const kvm = open(dumpDevice(core, M, facts));
    expectSame(kvm);
    const { dumpHeader, warnings, notes, dataOffset } = kvm.core;
    expect(dumpHeader).toMatchObject({ ...facts, dumpLength: core.length });
    expect(warnings).toEqual([]);
    const extent = Math.ceil(core.length / facts.blockSize!) * facts.blockSize!;
    expect(dataOffset).toBe(M - facts.blockSize! - extent);
    expect(notes).toMatchObject({
      ...{ panic: 'page fault', kernelVersion: 'FreeBSD 14.0-RELEASE\n', time: '2023-11-14T22:13:20.000Z' },
    });
  });

  it('is found through a source too, and asynchronously, long reads included', async () => {
    const device = dumpDevice(core, M, FACTS);
    expectSame(open(asSource(device)));
    const kvm = await openKvmAsync(new Blob([device]), { architectures: [amd64] });
    expect(kvm.core.dumpHeader).toMatchObject({ hostname: 'host.example' });
    const pages = await kvm.readPhysical(0x1000, 0x4000);
    expect(pages).toEqual(plain.readPhysical(0x1000, 0x4000));
    const length = 0x9800;
    const long = openKvm(core, { architectures: [amd64] }).readPartial(SMALL.big + 0x1000n, 100_000);
    expect((await kvm.readPartial(SMALL.big + 0x1000n, 100_000)).bytes).toEqual(long.bytes);
    expect(long.bytes.length).toBeLessThan(length);
    kvm.close();
  });

  it('that savecore has cleared opens with a warning', () => {
    const device = dumpDevice(core, M, FACTS);
    device.set(new TextEncoder().encode('Cleared Kernel Dump'), M - 512);
    const kvm = open(device);
    expectSame(kvm);
    expect(kvm.core.warnings).toEqual([expect.stringMatching(/cleared/)]);
    expect(kvm.core.dumpHeader?.kind).toBe('cleared');
  });

  it('whose headers are damaged says so', () => {
    const device = dumpDevice(core, M, FACTS);
    const extent = Math.ceil(core.length / 512) * 512;
    for (const at of [M - 512, M - 1024 - extent]) device[at + 330] ^= 1;
    expect(open(device).core.warnings).toEqual([expect.stringMatching(/parity/)]);
    device[M - 512 + 331] ^= 1;
    expect(caught(() => open(device), 'CORRUPT').offset).toBe(M - 1024 - extent);
    const short = dumpDevice(core, M, FACTS).subarray(M - 512 - extent);
    caught(() => open(short.slice(512)), 'CORRUPT');
  });

  it('with an encrypted dump or a textdump is refused with what to do', () => {
    const secret = caught(() => open(dumpDevice(core, M, { keySize: 512 })), 'UNSUPPORTED');
    expect(secret.hint).toContain('decryptcore');
    const text = caught(() => open(dumpDevice(core, M, { magic: 'FreeBSD Text Dump' })), 'UNSUPPORTED');
    expect(text.hint).toContain('textdump(4)');
    caught(() => open(dumpDevice(core, M, { dumpLength: 0 })), 'CORRUPT');
  });

  it('with a compressed dump is refused where nothing unpacks it', () => {
    const gzip = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3);
    expect(caught(() => open(dumpDevice(gzip, M, { compression: 1 })), 'UNSUPPORTED').hint).toMatch(
      /openKvmFile/,
    );
  });
});

describe('a stream that still has its header', () => {
  const joined = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);
  const header = deviceHeader({ ...FACTS, dumpLength: core.length });

  it('opens with and without the header behind it', () => {
    for (const bytes of [joined(header, core), joined(header, core, header)]) {
      const kvm = open(bytes);
      expectSame(kvm);
      expect(kvm.core).toMatchObject({ dataOffset: 512, warnings: [] });
    }
    const other = deviceHeader({ ...FACTS, hostname: 'other', dumpLength: core.length });
    expect(open(joined(header, core, other)).core.warnings).toEqual([expect.stringMatching(/differ/)]);
  });

  it('may have lost the padding of its header', () => {
    const wide = deviceHeader({ ...FACTS, dumpLength: core.length, blockSize: 4096 });
    expect(open(joined(wide, core)).core.dataOffset).toBe(512);
    expect(open(joined(wide, new Uint8Array(3584), core)).core.dataOffset).toBe(4096);
  });

  it('is cut by its length', () => {
    const kvm = open(joined(header, core, new Uint8Array(20_000).fill(7)));
    expect(kvm.core.cache.size).toBe(core.length);
  });

  it('opens as truncated where it ends early', () => {
    const kvm = open(joined(header, core.subarray(0, core.length - 5000)));
    expect(kvm.core.memory.pages).toMatchObject({ missing: 1, partial: 1 });
    expect(kvm.core.warnings).toEqual([
      expect.stringMatching(new RegExp(`${core.length} bytes.*${core.length - 5000}`)),
      expect.stringMatching(/cut short/),
    ]);
    caught(() => open(header), 'NOT_A_CORE');
    caught(() => open(header.subarray(0, 300)), 'TRUNCATED');
  });
});

describe('a live dump', () => {
  it('opens from its start, and knows the header behind it', () => {
    const header = deviceHeader({ ...FACTS, dumpLength: core.length });
    for (const padding of [0, 4096, 100]) {
      const kvm = open(Buffer.concat([core, new Uint8Array(padding), header]));
      expectSame(kvm);
      expect(kvm.core.dumpHeader).toMatchObject({ hostname: 'host.example' });
      expect(kvm.core.dataOffset).toBeUndefined();
    }
    header[59] = 3; // no power of two
    expect(open(Buffer.concat([core, header])).core.dumpHeader).toMatchObject({ blockSize: 512 });
    header[62] = 3;
    expect(open(Buffer.concat([core, header])).core.dumpHeader).toBeUndefined();
  });
});

describe('a dump written with headers', () => {
  const plan = planPortable(dumpSourceOf(plain.core));

  it.each([512, 4096])('in blocks of %i opens again', (blockSize) => {
    const wrapped = withDumpHeader(plan, { ...FACTS, blockSize });
    const bytes = dumpToBytes(wrapped);
    expect(bytes.length).toBe(wrapped.size);
    expect(bytes.length % blockSize).toBe(0);
    expect(wrapped.report.size).toBe(bytes.length);
    expect(parityOf(bytes)).toEqual([0, 0, 0, 0]);
    expect(bytes.subarray(bytes.length - blockSize)).toEqual(bytes.subarray(0, blockSize));
    expect(bytes.subarray(blockSize, blockSize + plan.size)).toEqual(dumpToBytes(plan));
    // A device has the dump at its end, whatever is in front of it.
    const device = new Uint8Array(bytes.length + 100 * blockSize);
    device.set(bytes, 100 * blockSize);
    for (const file of [bytes, device]) {
      const kvm = open(file);
      expect(kvm.core).toMatchObject({ format: 'portable', warnings: [] });
      expect(kvm.core.dumpHeader).toMatchObject({ ...FACTS, architecture: 'amd64', dumpLength: plan.size });
      expect(kvm.read(SMALL.pages, 8192)).toEqual(plain.read(SMALL.pages, 8192));
    }
    for (const { name, offset, length } of plan.sections) {
      expect(wrapped.sections).toContainEqual({ name, offset: offset + blockSize, length });
    }
  });
});

describe('damage', () => {
  const small = dumpDevice(core, 65536 * 3, FACTS);
  const positions = fc.oneof(
    fc.integer({ min: 0, max: small.length - 1 }),
    fc.integer({ min: small.length - 512, max: small.length - 1 }),
  );

  test.prop(
    [fc.array(fc.tuple(positions, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 })],
    runs(200),
  )('of a device opens or fails with a KvmError', (changes) => {
    const bytes = small.slice();
    for (const [at, value] of changes) bytes[at] = value;
    try {
      open(bytes);
    } catch (error) {
      if (!isKvmError(error)) throw error;
    }
  });
});

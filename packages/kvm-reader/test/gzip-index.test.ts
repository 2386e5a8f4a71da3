import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { constants, gzipSync } from 'node:zlib';
import { fc, test } from '@fast-check/vitest';
import { dumpDevice, Prng } from '@libkvm/fixtures';
import { isKvmError, type ByteSource } from '@libkvm/minidump-core';
import { afterAll, describe, expect, it } from 'vitest';
import { runs } from '../../minidump-core/test/runs.js';
import { FileSource } from '../src/node-file-source.js';
import { identityOf, openIndex } from '../src/node-gzip-index.js';
import { writeIndex } from '../src/node-gzip-indexer.js';
import { indexedGzip } from '../src/node-indexed-gzip.js';
import { zstdFrames } from '../src/node-zstd-frames.js';
import { openKvmFile } from '../src/node.js';
import { caught } from './support/faults.js';
import { asSource, openAmd64 } from './support/open.js';
import { SMALL, smallDump } from './support/small-machine.js';
import { skippableFrame, zstdFrame } from './support/zstd-bytes.js';

/** gzip cores read at random. */

const folder = mkdtempSync(join(tmpdir(), 'kvm-index-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const core = smallDump(3).file.bytes();
const plain = openAmd64(core);

let files = 0;
function write(bytes: Uint8Array): string {
  const path = join(folder, `core${files++}`);
  writeFileSync(path, bytes);
  return path;
}

/** Text that compresses, with references near and far, over several blocks; and noise, which is stored. */
function prose(seed: number, length: number): Buffer {
  const prng = new Prng(seed);
  const words = Array.from({ length: 300 }, () => Buffer.from(prng.between(1, 2 ** 31).toString(36)));
  const parts: Buffer[] = [];
  for (let size = 0; size < length;) {
    const noise = prng.chance(2)
      ? Buffer.from(Array.from({ length: 4000 }, () => prng.between(0, 255)))
      : undefined;
    const part =
      (noise ?? prng.chance(2)) ? Buffer.alloc(prng.between(1, 2000)) : words[prng.between(0, 299)];
    parts.push(part);
    size += part.length;
  }
  return Buffer.concat(parts).subarray(0, length);
}

/** The stream through a new index with entries every so many bytes. */
function indexed(
  stream: Uint8Array,
  spacing: number,
): { source: ByteSource; entries: number; bits: Float64Array; close: () => void } {
  const path = write(stream);
  const file = new FileSource(path);
  const identity = identityOf(path, file);
  expect(writeIndex(`${path}.index`, file, identity, { spacing })).toBeUndefined();
  const index = openIndex(`${path}.index`, file, identity)!;
  const close = (): void => {
    index.close();
    file.close();
  };
  return { source: indexedGzip(file, index), entries: index.bits.length, bits: index.bits, close };
}

describe('an index', () => {
  const members = fc.array(
    fc.record({
      seed: fc.integer({ min: 1, max: 1e6 }),
      length: fc.integer({ min: 0, max: 300_000 }),
      level: fc.integer({ min: 0, max: 9 }),
      memLevel: fc.integer({ min: 1, max: 9 }),
    }),
    { minLength: 1, maxLength: 3 },
  );

  test.prop(
    [
      members,
      fc.integer({ min: 1, max: 60_000 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(50_000)), { maxLength: 20 }),
    ],
    runs(30),
  )('gives any part of a stream of any number of members', (parts, spacing, reads) => {
    const contents = parts.map(({ seed, length }) => prose(seed, length));
    const content = Buffer.concat(contents);
    const { source, close } = indexed(
      Buffer.concat(contents.map((part, i) => gzipSync(part, parts[i]))),
      spacing,
    );
    expect(source.size).toBe(content.length);
    for (const [position, length] of [...reads, [0, content.length], [content.length, 1]]) {
      const offset = content.length === 0 ? 0 : position % (content.length + 1);
      const target = Buffer.alloc(length + 2, 7);
      const got = source.readSync(offset, target, 1, length);
      expect(got).toBe(Math.min(length, content.length - offset));
      expect(target.subarray(1, 1 + got).equals(content.subarray(offset, offset + got))).toBe(true);
      expect(target[0] + target[1 + got]).toBe(14);
    }
    close();
  });

  it('begins at any bit, in front of blocks of all kinds', () => {
    const content = prose(1, 2_000_000);
    // Three codes by turns: fixed codes, codes of their own, stored.
    const members = [constants.Z_FIXED, constants.Z_DEFAULT_STRATEGY, constants.Z_HUFFMAN_ONLY].map(
      (strategy, i) => gzipSync(content.subarray(i * 700_000, (i + 1) * 700_000), { strategy, memLevel: 1 }),
    );
    const few = indexed(Buffer.concat(members), 1_000_000);
    const many = indexed(Buffer.concat(members), 1);
    expect(few.entries).toBeLessThanOrEqual(8);
    expect(new Set(Array.from(many.bits, (bit) => bit % 8)).size).toBe(8);
    for (const { source, close } of [few, many]) {
      const all = Buffer.alloc(content.length);
      source.readSync(0, all, 0, all.length);
      expect(all.equals(content)).toBe(true);
      close();
    }
  });
});

describe('openKvmFile with an index', () => {
  const gzip = gzipSync(core);

  function expectSame(path: string, index: boolean | string): void {
    const kvm = openKvmFile(path, { index, temporaryDirectory: '/nonexistent' });
    expect([...kvm.pages()]).toEqual([...plain.pages()]);
    expect(kvm.read(SMALL.pages, 8192)).toEqual(plain.read(SMALL.pages, 8192));
    expect(kvm.core.warnings).toEqual([]);
    kvm.close();
  }

  it('makes one, keeps it beside the core, and needs no temporary file', () => {
    const path = write(gzip);
    expectSame(path, true);
    const beside = `${path}.kvmindex`;
    const made = statSync(beside, { bigint: true });
    expect(Number(made.mode) & 0o077).toBe(0);
    expectSame(path, true);
    expect(statSync(beside, { bigint: true }).ino).toBe(made.ino);
    expectSame(path, join(folder, 'elsewhere'));
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('makes a new one when it is of another core, damaged, or cut', () => {
    const path = write(gzip);
    const beside = `${path}.kvmindex`;
    expectSame(path, true);
    const good = readFileSync(beside);
    const renewed = (change: () => void): void => {
      const before = statSync(beside, { bigint: true }).ino;
      change();
      expectSame(path, true);
      expect(statSync(beside, { bigint: true }).ino).not.toBe(before);
    };
    renewed(() => utimesSync(path, 1, 1));
    renewed(() => writeFileSync(beside, good.subarray(0, good.length - 1)));
    renewed(() => writeFileSync(beside, good.subarray(0, 40)));
    renewed(() => {
      const bytes = readFileSync(beside);
      bytes[bytes.length - 90] ^= 1;
      writeFileSync(beside, bytes);
    });
    renewed(() => {
      const changed = gzipSync(Buffer.from(core), { level: 3 });
      writeFileSync(path, changed);
    });
  });

  it('does not replace what is no index', () => {
    const path = write(gzip);
    const mine = write(Buffer.from('my only copy'));
    expect(caught(() => openKvmFile(path, { index: mine }), 'INVALID_ARGUMENT').field).toBe('index');
    expect(readFileSync(mine, 'utf8')).toBe('my only copy');
    caught(() => openKvmFile(path, { index: join(folder, 'no', 'folder') }), 'IO');
  });

  it('decompresses what can have none, and says so', () => {
    const cut = gzipSync(core, { level: 0 });
    for (const bytes of [
      cut.subarray(0, cut.length - 5000),
      Buffer.concat([gzip, Buffer.from('x')]),
      zstdFrame(core),
    ]) {
      const path = write(bytes);
      const kvm = openKvmFile(path, { index: true });
      expect(kvm.core.warnings[0]).toMatch(/can have no index/);
      expect(kvm.read(SMALL.pages, 4096)).toEqual(plain.read(SMALL.pages, 4096));
      kvm.close();
      expect(readdirSync(folder)).not.toContain(`${basename(path)}.kvmindex`);
    }
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('serves compressed dumps on their devices', () => {
    expectSame(write(dumpDevice(gzip, 1 << 20, { compression: 1 })), true);
  });

  it('reads zstd cores of many frames at random, without one', () => {
    const frames = Array.from({ length: Math.ceil(core.length / 20_000) }, (_, i) =>
      zstdFrame(core.subarray(i * 20_000, (i + 1) * 20_000), { sized: true, checksum: i % 2 === 0 }, 5000),
    );
    const stream = Buffer.concat([skippableFrame(5), ...frames, skippableFrame(100)]);
    const path = write(stream);
    expectSame(path, true);
    expect(readdirSync(folder)).not.toContain(`${basename(path)}.kvmindex`);
    const noSizes = Buffer.concat([zstdFrame(core.subarray(0, 9000)), zstdFrame(core.subarray(9000))]);
    for (const bytes of [stream.subarray(0, stream.length - 200), noSizes]) {
      const kvm = openKvmFile(write(bytes), { index: true });
      expect(kvm.core.warnings[0]).toMatch(/can have no index/);
      kvm.close();
    }
  });

  test.prop(
    [fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 2, maxLength: 9 }), fc.nat(), fc.nat(9000)],
    runs(100),
  )('gives any part of zstd frames', (lengths, position, length) => {
    const contents = lengths.map((size, i) => prose(i + 1, size));
    const content = Buffer.concat(contents);
    const stream = Buffer.concat(contents.map((part) => zstdFrame(part, { sized: true }, 700)));
    const source = zstdFrames(asSource(stream)) as ByteSource;
    expect(source.size).toBe(content.length);
    const offset = position % (content.length + 1);
    const target = Buffer.alloc(length);
    const got = source.readSync(offset, target, 0, length);
    expect(target.subarray(0, got).equals(content.subarray(offset, offset + length))).toBe(true);
  });

  it('keeps to the limit', () => {
    const path = write(gzip);
    caught(() => openKvmFile(path, { index: true, temporaryBytes: 10_000 }), 'UNSUPPORTED');
    chmodSync(path, 0o600);
  });

  test.prop(
    [fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }), fc.boolean()],
    runs(60),
  )('gives right bytes or an error, whatever the index holds', (changes, sealed) => {
    const content = prose(3, 100_000);
    const path = write(gzipSync(content));
    const file = new FileSource(path);
    const identity = identityOf(path, file);
    writeIndex(`${path}.index`, file, identity, { spacing: 10_000 });
    const bytes = readFileSync(`${path}.index`);
    for (const [at, value] of changes) bytes[at % bytes.length] = value;
    if (sealed) reseal(bytes);
    writeFileSync(`${path}.index`, bytes);
    try {
      const index = openIndex(`${path}.index`, file, identity);
      const target = Buffer.alloc(2 ** 20);
      if (index) {
        const got = indexedGzip(file, index).readSync(0, target, 0, target.length);
        if (!sealed) expect(target.subarray(0, got).equals(content)).toBe(true);
      }
    } catch (error) {
      if (!isKvmError(error)) throw error;
    }
    file.close();
  });
});

/** Makes the checksums of a changed index right, so that its numbers are looked at. */
function reseal(bytes: Buffer): void {
  const end = bytes.length - 80;
  const table = Number(bytes.readBigUInt64LE(end + 64));
  if (table > end) return;
  bytes.writeUInt32LE(crcOf(bytes.subarray(table, end)), end + 72);
  bytes.writeUInt32LE(0, end + 76);
  bytes.writeUInt32LE(crcOf(bytes.subarray(end)), end + 76);
}

/** CRC-32 as gzip itself writes it. */
function crcOf(bytes: Uint8Array): number {
  const stream = gzipSync(bytes, { level: 0 });
  return stream.readUInt32LE(stream.length - 8);
}

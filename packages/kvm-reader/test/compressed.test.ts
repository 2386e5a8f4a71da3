import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { fc, test } from '@fast-check/vitest';
import { deviceHeader, dumpDevice } from '@libkvm/fixtures';
import { isKvmError } from '@libkvm/minidump-core';
import { afterAll, describe, expect, it } from 'vitest';
import { runs } from '../../minidump-core/test/runs.js';
import { openKvm, openKvmAsync, type Kvm } from '../src/index.js';
import { gunzip } from '../src/node-gunzip.js';
import type { StreamEnd } from '../src/node-stream-input.js';
import { unzstd } from '../src/node-unzstd.js';
import { defaultArchitectures, openKvmFile, type OpenFileOptions } from '../src/node.js';
import { caught } from './support/faults.js';
import { asSource, openAmd64 } from './support/open.js';
import { SMALL, smallDump } from './support/small-machine.js';
import { blockHeader, skippableFrame, zstdFrame } from './support/zstd-bytes.js';

/** Compressed cores, as kernels and savecore(8) make them. */

const folder = mkdtempSync(join(tmpdir(), 'kvm-compressed-'));
const temporary = join(folder, 'temporary');
mkdirSync(temporary);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const core = smallDump(3).file.bytes();
const plain = openAmd64(core);
let files = 0;

/** Opens bytes as a file, without a telling name. */
function open(bytes: Uint8Array, options: OpenFileOptions = {}): Kvm {
  const path = join(folder, `file${files++}`);
  writeFileSync(path, bytes);
  return openKvmFile(path, { temporaryDirectory: temporary, ...options });
}

function expectSame(kvm: Kvm): void {
  expect([...kvm.pages()]).toEqual([...plain.pages()]);
  expect(kvm.read(SMALL.pages, 8192)).toEqual(plain.read(SMALL.pages, 8192));
  expect(kvm.messageBuffer()).toEqual(plain.messageBuffer());
  kvm.close();
}

type Codec = typeof gunzip;

/** All that a stream gives, and how it ended. */
function drained(codec: Codec, bytes: Uint8Array): StreamEnd & { bytes: Buffer } {
  const parts: Buffer[] = [];
  const end = codec(asSource(bytes), {
    write: (piece) => void parts.push(Buffer.from(piece)),
    boundary: () => {},
  });
  return { ...end, bytes: Buffer.concat(parts) };
}

/** Bytes of all kinds: zeros, repeats near and far, noise. */
const contents = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      fc.tuple(fc.nat(255), fc.nat(70_000)).map(([byte, length]) => new Uint8Array(length).fill(byte)),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(900))
        .map(([piece, times]) => Buffer.concat(Array<Uint8Array>(times).fill(piece))),
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts));
const methods = fc.record({
  level: fc.integer({ min: 0, max: 9 }),
  windowBits: fc.integer({ min: 9, max: 15 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  strategy: fc.constantFrom(
    ...[constants.Z_DEFAULT_STRATEGY, constants.Z_FIXED, constants.Z_HUFFMAN_ONLY, constants.Z_RLE],
  ),
});

describe('gunzip', () => {
  test.prop([fc.array(fc.tuple(contents, methods), { minLength: 1, maxLength: 3 }), fc.nat(600)], runs(60))(
    'gives what zlib gives, of any number of members',
    (members, padding) => {
      const stream = Buffer.concat([
        ...members.map(([content, method]) => gzipSync(content, method)),
        Buffer.alloc(padding),
      ]);
      const { bytes, damage, warnings } = drained(gunzip, stream);
      expect(bytes.equals(Buffer.concat(members.map(([content]) => content)))).toBe(true);
      expect({ damage, warnings }).toEqual({ damage: undefined, warnings: [] });
    },
  );

  test.prop([contents, methods, fc.nat(), fc.integer({ min: 1, max: 255 })], runs(150))(
    'ends at damage, or says that there is some',
    (content, method, at, flip) => {
      const stream = gzipSync(content, method);
      stream[10 + (at % (stream.length - 10))] ^= flip;
      const { bytes, damage, warnings } = drained(gunzip, stream);
      // Not every bit means something: what is behind the last block is padding.
      expect(damage !== undefined || warnings.length > 0 || bytes.equals(content)).toBe(true);
    },
  );

  test.prop([contents, methods, fc.nat()], runs(100))(
    'gives what is in front of a cut',
    (content, method, at) => {
      const stream = gzipSync(content, method);
      const cut = stream.subarray(0, 1 + (at % (stream.length - 1)));
      const { bytes, damage } = drained(gunzip, cut);
      expect(damage).toMatch(/cut|header/);
      expect(bytes.equals(content.subarray(0, bytes.length))).toBe(true);
      if (cut.length < 20) return;
      const wanted = gunzipSync(cut, { finishFlush: constants.Z_SYNC_FLUSH });
      expect(bytes.equals(wanted)).toBe(true);
    },
  );

  it('passes over everything that a header may have', () => {
    const [start, rest] = [gzipSync(core).subarray(0, 10), gzipSync(core).subarray(10)];
    start[3] = 2 | 4 | 8 | 16;
    const extra = Buffer.from([5, 0, 1, 2, 3, 4, 5]);
    const stream = Buffer.concat([start, extra, Buffer.from('vmcore.0\0a comment\0'), Buffer.alloc(2), rest]);
    expect(drained(gunzip, stream).bytes.equals(core)).toBe(true);
    start[3] = 8;
    expect(drained(gunzip, Buffer.concat([start, Buffer.alloc(300, 'x')])).damage).toMatch(/header/);
  });

  it('names a wrong checksum, a wrong length, and what follows', () => {
    const stream = gzipSync(core);
    const changed = (at: number): Buffer => {
      const copy = Buffer.from(stream);
      copy[copy.length + at] ^= 1;
      return copy;
    };
    expect(drained(gunzip, changed(-8)).warnings).toEqual([expect.stringMatching(/CRC-32/)]);
    expect(drained(gunzip, changed(-1)).warnings).toEqual([expect.stringMatching(/length/)]);
    const garbage = Buffer.concat([stream, Buffer.from('garbage')]);
    expect(drained(gunzip, garbage)).toMatchObject({
      warnings: [expect.stringMatching(/follow/)],
    });
    expect(drained(gunzip, garbage).damage).toBeUndefined();
    expect(drained(gunzip, garbage).bytes.equals(core)).toBe(true);
  });

  it('tells of deflate blocks, and of the bytes before each', () => {
    const content = Buffer.concat([core, Buffer.from(core).reverse()]);
    const stream = gzipSync(content, { level: 9, memLevel: 2 });
    const blocks: { bit: number; at: number; window: Buffer }[] = [];
    let at = 0;
    gunzip(asSource(stream), {
      write: (piece) => void (at += piece.length),
      boundary: (bit, window) => void blocks.push({ bit, at, window: Buffer.from(window) }),
    });
    expect(blocks.length).toBeGreaterThan(5);
    expect(new Set(blocks.map(({ bit }) => bit % 8)).size).toBeGreaterThan(2);
    for (const { at: from, window } of blocks) {
      expect(window.equals(content.subarray(Math.max(0, from - 32768), from))).toBe(true);
    }
  });
});

describe('unzstd', () => {
  test.prop(
    [
      fc.array(
        fc.tuple(
          contents,
          fc.record({ checksum: fc.boolean(), sized: fc.boolean() }),
          fc.integer({ min: 1, max: 99 }),
        ),
        { minLength: 1, maxLength: 3 },
      ),
    ],
    runs(60),
  )('gives what frames hold', (frames) => {
    const stream = Buffer.concat(
      frames.flatMap(([content, options, kb]) => [
        zstdFrame(
          content,
          options,
          Math.min(kb * 1024, options.sized ? Math.max(1, content.length) : 131072),
        ),
        skippableFrame(kb),
      ]),
    );
    const { bytes, damage, warnings } = drained(unzstd, stream);
    expect({ damage, warnings }).toEqual({ damage: undefined, warnings: [] });
    expect(bytes.equals(Buffer.concat(frames.map(([content]) => content)))).toBe(true);
  });

  test.prop([fc.uint8Array({ maxLength: 400 }), fc.nat(), fc.nat(255)], runs(300))(
    'ends at damage of any kind',
    (noise, at, value) => {
      const frame = Buffer.from(zstdFrame(core, { checksum: true }));
      frame[at % 100] = value;
      for (const stream of [
        frame,
        Buffer.concat([frame.subarray(0, 6), blockHeader(1, 2, noise.length), noise]),
      ]) {
        try {
          drained(unzstd, stream);
        } catch (error) {
          if (!isKvmError(error, 'UNSUPPORTED')) throw error;
        }
      }
    },
  );

  it('gives what is in front of a cut', () => {
    const stream = zstdFrame(core, {}, 4096);
    const { bytes, damage } = drained(unzstd, stream.subarray(0, stream.length - 9000));
    expect(damage).toMatch(/cut/);
    expect(bytes.length).toBeGreaterThan(core.length - 20_000);
    expect(bytes.equals(core.subarray(0, bytes.length))).toBe(true);
  });

  it('refuses windows beyond measure, and dictionaries', () => {
    const error = caught(() => drained(unzstd, zstdFrame(core, { windowDescriptor: 0xa0 })), 'UNSUPPORTED');
    expect(error.hint).toContain('zstd -d');
    const dictionary = Buffer.from('28b52ffd013801', 'hex');
    caught(() => drained(unzstd, dictionary), 'UNSUPPORTED');
    const tiny = zstdFrame(Buffer.from('x'), { windowDescriptor: 0x88 });
    expect(drained(unzstd, Buffer.concat(Array<Uint8Array>(50).fill(tiny))).damage).toMatch(/windows/);
  });
});

function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return ''; // the descriptor that listed them
  }
}

/** A program's output; undefined where it is not installed. */
function compressedBy(program: string, ...options: string[]): Buffer | undefined {
  const path = join(folder, 'plain');
  writeFileSync(path, core);
  try {
    return execFileSync(program, ['-c', ...options, path], { stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    console.warn(`${program} is not installed: skipped`);
    return undefined;
  }
}

describe('openKvmFile', () => {
  it('opens cores that are compressed, and leaves nothing behind', () => {
    const kvm = open(gzipSync(core));
    expect(readdirSync(temporary)).toEqual([]);
    expect(kvm.core.warnings).toEqual([]);
    expectSame(kvm);
    expectSame(open(zstdFrame(core)));
    expect(caught(() => kvm.read(SMALL.big + 0x10000n, 0x4000), 'IO').message).toMatch(/closed/);
  });

  it.each([
    ['gzip', '-1'],
    ['gzip', '-9'],
    ['zstd', '-3'],
    ['zstd', '-19'],
    ['zstd', '--no-check'],
  ])('opens what %s %s makes', (program, option) => {
    const bytes = compressedBy(program, option);
    if (bytes) expectSame(open(bytes));
  });

  it('opens compressed dumps on their devices, and compressed devices', () => {
    const gzip = gzipSync(core);
    const device = dumpDevice(gzip, 1 << 20, { compression: 1, hostname: 'crash' });
    for (const bytes of [
      device,
      gzipSync(device),
      gzipSync(dumpDevice(core, 1 << 20, { hostname: 'crash' })),
    ]) {
      const kvm = open(bytes);
      expect(kvm.core.dumpHeader?.hostname).toBe('crash');
      expect(kvm.core.dataOffset).toBeUndefined();
      expectSame(kvm);
    }
    const stream = Buffer.concat([deviceHeader({ dumpLength: gzip.length, compression: 1 }), gzip]);
    expectSame(open(stream));
  });

  it('opens what is whole of a damaged core', () => {
    const stream = gzipSync(core, { level: 0 });
    const kvm = open(stream.subarray(0, stream.length - 5000));
    expect(kvm.core.memory.pages).toMatchObject({ dumped: plain.core.memory.pages.dumped, missing: 1 });
    expect(kvm.core.warnings).toHaveLength(2);
    expect(kvm.core.warnings[0]).toMatch(/gzip.*cut/);
    kvm.close();
    expect(caught(() => open(stream.subarray(0, 2000)), 'CORRUPT').message).toMatch(/gzip.*decompressed/);
    const wrong = Buffer.from(gzipSync(core));
    wrong[wrong.length - 8] ^= 1;
    const warned = open(wrong);
    expect(warned.core.warnings).toEqual([expect.stringMatching(/CRC-32/)]);
    warned.close();
  });

  it('does not fall for bombs', () => {
    const bomb = gzipSync(Buffer.concat([core, Buffer.alloc(64 << 20)]), { level: 9 });
    const error = caught(() => open(bomb, { temporaryBytes: 32 << 20 }), 'UNSUPPORTED');
    expect(error).toMatchObject({ field: 'temporaryBytes' });
    let nested: Uint8Array = gzipSync(core);
    for (let i = 0; i < 4; i++) nested = gzipSync(nested);
    caught(() => open(nested), 'UNSUPPORTED');
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('keeps to itself what it decompresses, and takes no room for zeros', () => {
    const size = 48 << 20;
    const kvm = open(gzipSync(Buffer.concat([core, Buffer.alloc(size), Buffer.from('end')])));
    expect(kvm.core.cache.size).toBe(core.length + size + 3);
    const tail = Buffer.alloc(16);
    kvm.core.cache.readSync(core.length + size - 8, tail, 0, 16);
    expect(tail.subarray(0, 11)).toEqual(Buffer.from('\0\0\0\0\0\0\0\0end'));
    const links = existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd') : [];
    const found = links
      .map((fd) => `/proc/self/fd/${fd}`)
      .filter((link) => targetOf(link).startsWith(temporary));
    if (links.length > 0) expect(found).toHaveLength(1);
    for (const link of found) {
      const { mode, blocks, size: bytes } = statSync(link);
      expect(mode & 0o777).toBe(0o600);
      expect(bytes).toBe(kvm.core.cache.size);
      expect(blocks * 512).toBeLessThan(1 << 20);
    }
    kvm.close();
  });

  it('is what opens them: bytes without files are refused with what to do', async () => {
    for (const bytes of [gzipSync(core), zstdFrame(core)]) {
      const blob = new Blob([Uint8Array.from(bytes)]);
      const refused = await openKvmAsync(blob, { architectures: defaultArchitectures }).catch(
        (error: unknown) => error,
      );
      expect(isKvmError(refused, 'UNSUPPORTED') && refused.hint).toMatch(/openKvmFile.*elsewhere/);
    }
    const stream = new Blob([gzipSync(core)]).stream().pipeThrough(new DecompressionStream('gzip'));
    expectSame(openKvm(await new Response(stream).arrayBuffer(), { architectures: defaultArchitectures }));
  });

  it('tells of its progress, and where there is no room', () => {
    const bytes = gzipSync(Buffer.concat([core, Buffer.alloc(1 << 20)]), { level: 0 });
    const told: number[] = [];
    const onProgress = (done: number, total: number): void => {
      expect(total).toBe(bytes.length);
      told.push(done);
    };
    expectSame(open(bytes, { onProgress }));
    expect(told.length).toBeGreaterThan(3);
    expect(told.at(-1)).toBe(bytes.length);
    expect(told).toEqual([...told].sort((a, b) => a - b));
    caught(() => open(bytes, { temporaryDirectory: join(folder, 'nowhere') }), 'IO');
    caught(() => open(bytes, { temporaryBytes: Number.NaN }), 'INVALID_ARGUMENT');
  });

  it('finds the info file beside a core, unless told otherwise', () => {
    const named = (name: string, bytes: Uint8Array | string): string => {
      writeFileSync(join(folder, name), bytes);
      return join(folder, name);
    };
    const gz = named('vmcore.7.gz', gzipSync(core));
    const info = (length: number, compression: string): string =>
      named('info.7', `  Dump Length: ${length}\n  Hostname: crash\n  Compression: ${compression}\n`);
    const warningsOf = (path: string, options?: OpenFileOptions): readonly string[] => {
      const kvm = openKvmFile(path, options);
      kvm.close();
      return kvm.core.warnings;
    };
    info(core.length, 'none');
    expect(openKvmFile(gz).core.info?.hostname).toBe('crash');
    expect(warningsOf(gz)).toEqual([]);
    info(core.length + 4096, 'none');
    expect(warningsOf(gz)).toEqual([expect.stringMatching(/cut/)]);
    expect(warningsOf(gz, { info: false })).toEqual([]);
    info(statSync(gz).size, 'gzip');
    expect(warningsOf(gz)).toEqual([]);
    info(statSync(gz).size + 1000, 'gzip');
    expect(warningsOf(gz)).toEqual([expect.stringMatching(/cut/)]);
    expect(openKvmFile(named('vmcore.8', core)).core.info).toBeUndefined();
    mkdirSync(join(folder, 'info.9'));
    expect(openKvmFile(named('vmcore.9', core)).core.info).toBeUndefined();
  });

  it('tells encrypted cores by their name or their key', () => {
    const noise = readFileSync(process.execPath).subarray(100_000, 200_000);
    for (const [name, key] of [
      ['vmcore_encrypted.3', undefined],
      ['vmcore.4', 'key.4'],
      ['vmcore_encrypted.5.gz', undefined],
    ] as const) {
      const path = join(folder, name);
      writeFileSync(path, name.endsWith('.gz') ? gzipSync(noise) : noise);
      if (key) writeFileSync(join(folder, key), 'key');
      expect(caught(() => openKvmFile(path), 'UNSUPPORTED').hint).toContain('decryptcore');
    }
    const path = join(folder, 'vmcore.6');
    writeFileSync(path, noise);
    caught(() => openKvmFile(path), 'NOT_A_CORE');
  });
});

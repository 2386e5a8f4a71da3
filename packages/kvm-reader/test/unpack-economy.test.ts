import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleChild } from './support/child.js';
import { bulkMachine } from './support/bulk-machine.js';
import { amd64Minidump } from '@libkvm/fixtures';
import { blockHeader, zstdFrame } from './support/zstd-bytes.js';

/** Memory that compressed cores take: none of them is held whole. */

const MB = 2 ** 20;
const SIZE = 192 * MB;
const folder = mkdtempSync(join(tmpdir(), 'libkvm-unpack-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const core = amd64Minidump(bulkMachine()).file.bytes();
let child = '';
let sum = 0;

/** Noise behind the core, so that the file has its size; the same piece over and over. */
const piece = Buffer.alloc(MB);
for (let i = 0, x = 1; i < MB; i++) piece[i] = (x = (x * 1103515245 + 12345) & 0x7fffffff) >> 16;
const times = Math.floor((SIZE - core.length) / MB);

function write(name: string, parts: Iterable<Uint8Array>): string {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  for (const part of parts) writeSync(fd, part);
  closeSync(fd);
  return path;
}

function* gzip(): Generator<Uint8Array> {
  // Raw deflate streams that are flushed but not ended follow each other as one.
  yield Buffer.from('1f8b0800000000000003', 'hex');
  const flushed = { finishFlush: 2, level: 1 };
  yield deflateRawSync(core, flushed);
  const deflated = deflateRawSync(piece, flushed);
  for (let i = 0; i < times; i++) yield deflated;
  let crc = crc32(core);
  for (let i = 0; i < times; i++) crc = crc32(piece, crc);
  const trailer = Buffer.alloc(10);
  trailer.writeUInt16LE(3, 0); // an empty last block
  trailer.writeUInt32LE(crc, 2);
  trailer.writeUInt32LE(core.length + times * MB, 6);
  yield trailer;
}

function* zstd(): Generator<Uint8Array> {
  yield zstdFrame(core);
  yield Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x50); // a window of 1 MB
  for (let i = 0; i < times; i++) {
    for (let at = 0; at < MB; at += 131072) {
      yield blockHeader(0, 0, 131072);
      yield piece.subarray(at, at + 131072);
    }
  }
  yield blockHeader(1, 0, 0);
}

function run(path: string, how: string): Record<string, number> & { warnings: string[] } {
  const told = execFileSync(process.execPath, ['--expose-gc', child, path, how], {
    env: { ...process.env, TMPDIR: folder },
  });
  return JSON.parse(told.toString()) as Record<string, number> & { warnings: string[] };
}

describe('the memory of a compressed core', () => {
  beforeAll(async () => {
    child = await bundleChild('unpack-child', folder);
    for (let at = 0; at < core.length + times * MB; at += 4096) {
      const byte = at < core.length ? core[at] : piece[(at - core.length) % MB];
      sum = (sum * 31 + byte) % 1000003;
    }
  });

  it.each([
    ['gzip, decompressed', gzip, 'temporary', 8],
    // The spans that are kept, one that is inflated, and its input.
    ['gzip, through an index', gzip, 'index', 80],
    ['zstd, decompressed', zstd, 'temporary', 40],
  ] as const)('%s, is bounded', (name, bytes, how, limit) => {
    const path = write(`${name.replace(/\W/g, '')}`, bytes());
    const { megabytes, size, sum: got, seconds, warnings } = run(path, how);
    console.log(`${name}: ${megabytes.toFixed(1)} MB for ${size / MB} MB in ${seconds.toFixed(1)} s`);
    expect(warnings).toEqual([]);
    expect(size).toBe(core.length + times * MB);
    expect(got).toBe(sum);
    expect(megabytes).toBeLessThan(limit);
  });
});

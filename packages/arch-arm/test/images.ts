import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import {
  BlockCache,
  MemorySource,
  SegmentMemory,
  type PhysicalMemory,
  type PhysicalSegment,
} from '@libkvm/minidump-core';

/** Real memory images with QEMU's translations: `../shared` beside the repository, or VMCORE_FIXTURES. */
const SHARED = process.env.VMCORE_FIXTURES ?? fileURLToPath(new URL('../../../../shared', import.meta.url));

/** One row of translations.jsonl.gz: what QEMU says of an address; `walk` is what a walk without domains finds. */
export interface ImageTranslation {
  readonly va: string;
  readonly pa: string | null;
  readonly why: string;
  readonly page?: string;
  readonly fault?: string;
  readonly walk?: string;
}

/** One line of ranges.txt.xz: neighbours in KVA and in physical memory are one. */
export interface ImageRange {
  readonly kva: number;
  readonly length: number;
  readonly pa: number;
  readonly kind: string;
}

export function haveImage(name: string): boolean {
  return existsSync(path.join(SHARED, 'images', name, 'image.elf.xz'));
}

function file(name: string, entry: string): string {
  return path.join(SHARED, 'images', name, entry);
}

export function imageRegisters(name: string): Record<string, bigint> {
  const { regs } = JSON.parse(readFileSync(file(name, 'regs.json'), 'utf8')) as {
    regs: Record<string, string>;
  };
  const wanted = ['ttbr0', 'ttbr1', 'ttbcr', 'sctlr', 'midr'];
  return Object.fromEntries(
    wanted.map((register) => [register.toUpperCase(), BigInt(regs[register] ?? '0')]),
  );
}

export function imageTranslations(name: string): ImageTranslation[] {
  const lines = gunzipSync(readFileSync(file(name, 'translations.jsonl.gz')))
    .toString()
    .trim()
    .split('\n');
  return lines.map((line) => JSON.parse(line) as ImageTranslation);
}

/** 16 bytes that the guest's memory holds at an address. */
export function imageReads(name: string): { va: string; pa: string; bytes: string }[] {
  const lines = readFileSync(file(name, 'reads.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line) as { va: string; pa: string; bytes: string });
}

export function imageRanges(name: string): ImageRange[] {
  const text = execFileSync('xz', ['-dc', file(name, 'ranges.txt.xz')]).toString();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => {
    const [kva, length, pa, kind] = line.split(' ') as [string, string, string, string];
    return { kva: parseInt(kva, 16), length: parseInt(length, 16), pa: parseInt(pa, 16), kind };
  });
}

/** Memory as the image's program headers have it. The ELF file is unpacked once, into the system's temporary folder. */
export function imageMemory(name: string): PhysicalMemory {
  const bytes = readFileSync(unpacked(name));
  return new SegmentMemory(new BlockCache(new MemorySource(bytes)), loadSegments(bytes));
}

function unpacked(name: string): string {
  const packed = file(name, 'image.elf.xz');
  const folder = path.join(tmpdir(), 'libkvm-images');
  const target = path.join(folder, `${name}-${statSync(packed).size}.elf`);
  if (existsSync(target)) return target;
  mkdirSync(folder, { recursive: true });
  const partial = `${target}.${process.pid}`;
  writeFileSync(partial, execFileSync('xz', ['-dc', packed], { maxBuffer: 2 ** 30 }));
  renameSync(partial, target);
  return target;
}

/** PT_LOAD segments of a little-endian ELF file of either class. */
function loadSegments(bytes: Uint8Array): PhysicalSegment[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = view.getUint8(4) === 2;
  const natural = (at: number): number =>
    wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
  const table = natural(wide ? 32 : 28);
  const count = view.getUint16(wide ? 56 : 44, true);
  const segments: PhysicalSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = table + i * (wide ? 56 : 32);
    if (view.getUint32(at, true) !== 1) continue;
    const [offset, pa, length] = wide ? [8, 24, 32] : [4, 12, 16];
    segments.push({ offset: natural(at + offset), pa: natural(at + pa), length: natural(at + length) });
  }
  return segments;
}

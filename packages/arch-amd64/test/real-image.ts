import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { BlockCache, MAPPED, Mapping, MemorySource, SegmentMemory, kvaOf } from '@libkvm/minidump-core';
import type { AddressSpace, PhysicalMemory, PhysicalSegment } from '@libkvm/minidump-core';

/**
 * Memory images of real and hand-built machines, taken by QEMU, with what QEMU itself translates. They are no part of
 * the repository: tests over them are skipped where the folder is absent.
 */
const shared = process.env.VMCORE_FIXTURES ?? fileURLToPath(new URL('../../../../shared', import.meta.url));

export interface RealImage {
  readonly memory: PhysicalMemory;
  /** Upper case names, as walkers want them. */
  readonly registers: Record<string, bigint>;
  /** QEMU's gva2gpa, thousands of addresses. */
  readonly translations: readonly { readonly va: string; readonly pa: string | null }[];
  /** Lines `va size pa kind`, hex: every mapping of the page table, neighbours of one kind merged. */
  readonly ranges: readonly string[];
}

const folderOf = (name: string): string | undefined =>
  [join(shared, 'images', name), join(shared, name)].find((folder) => existsSync(join(folder, 'regs.json')));

/** Says so and returns false when the image is not there. */
export function haveImage(name: string): boolean {
  if (folderOf(name) !== undefined) return true;
  console.log(`skipped: no image ${name} in VMCORE_FIXTURES or ../shared/images`);
  return false;
}

export function loadImage(name: string): RealImage {
  const folder = folderOf(name)!;
  const text = (bytes: Buffer): string => bytes.toString('utf8').trim();
  const { regs } = JSON.parse(readFileSync(join(folder, 'regs.json'), 'utf8')) as {
    regs: Record<string, string>;
  };
  const lines = text(gunzipSync(readFileSync(join(folder, 'translations.jsonl.gz')))).split('\n');
  const elf = unxz(join(folder, 'image.elf.xz'));
  return {
    memory: new SegmentMemory(new BlockCache(new MemorySource(elf)), segmentsOf(elf)),
    registers: Object.fromEntries(
      Object.entries(regs).map(([key, value]) => [key.toUpperCase(), BigInt(value)]),
    ),
    translations: lines.map((line) => JSON.parse(line) as RealImage['translations'][number]),
    ranges: text(unxz(join(folder, 'ranges.txt.xz')))
      .split('\n')
      .slice(1),
  };
}

function unxz(path: string): Buffer {
  return execFileSync('xz', ['-dc', path], { maxBuffer: 2 ** 30 });
}

/** The PT_LOAD segments. QEMU 7.2 writes odd ELF headers (e_ehsize 8), but these fields are where they belong. */
function segmentsOf(elf: Buffer): PhysicalSegment[] {
  const wide = elf[4] === 2;
  const word = (at: number): number => (wide ? Number(elf.readBigUInt64LE(at)) : elf.readUInt32LE(at));
  const [table, size, count] = wide
    ? [word(32), elf.readUInt16LE(54), elf.readUInt16LE(56)]
    : [word(28), elf.readUInt16LE(42), elf.readUInt16LE(44)];
  const headers = Array.from({ length: count }, (_, i) => table + i * size);
  return headers
    .filter((at) => elf.readUInt32LE(at) === 1)
    .map((at) =>
      wide
        ? { offset: word(at + 8), pa: word(at + 24), length: word(at + 32) }
        : { offset: word(at + 4), pa: word(at + 12), length: word(at + 16) },
    );
}

const KINDS: Readonly<Record<number, string>> = {
  0x1000: '4K',
  0x20_0000: '2M',
  0x40_0000: '4M',
  0x4000_0000: '1G',
};

/** Every mapping of a space in the form of {@link RealImage.ranges}, and how many mappings there were. */
export function rangesOf(space: AddressSpace, endPage: number): { ranges: string[]; mappings: number } {
  const hex = (value: number | bigint): string => value.toString(16);
  const ranges: string[] = [];
  const cursor = space.mappings(0, endPage);
  const row = new Mapping();
  let [page, pa, length, size, mappings] = [0, 0, 0, 0, 0];
  const flush = (): void => {
    if (length > 0) ranges.push(`${hex(kvaOf(page, 0))} ${hex(length)} ${hex(pa)} ${KINDS[size]}`);
  };
  while (cursor.next(row)) {
    if (row.outcome !== MAPPED) continue;
    mappings++;
    if (length > 0 && size === row.pageSize && row.page === page + length / 4096 && row.pa === pa + length) {
      length += row.length;
      continue;
    }
    flush();
    ({ page, pa, length, pageSize: size } = row);
  }
  flush();
  return { ranges, mappings };
}

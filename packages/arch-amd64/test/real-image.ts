import { readFileSync } from 'node:fs';
import { openSharedFile, sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { BlockCache, MAPPED, Mapping, SegmentMemory, kvaOf } from '@libkvm/minidump-core';
import type { AddressSpace, ByteSource, PhysicalMemory, PhysicalSegment } from '@libkvm/minidump-core';

/**
 * Memory images of real and hand-built machines, taken by QEMU, with what QEMU itself translates. They are no part of
 * the repository: tests over them are skipped where the folder is absent.
 */
export interface RealImage {
  readonly memory: PhysicalMemory;
  /** Upper case names, as walkers want them. */
  readonly registers: Record<string, bigint>;
  /** QEMU's gva2gpa, thousands of addresses. */
  readonly translations: readonly { readonly va: string; readonly pa: string | null }[];
  /** Lines `va size pa kind`, hex: every mapping of the page table, neighbours of one kind merged. */
  readonly ranges: readonly string[];
  close(): void;
}

/** Says so and returns false when the image is not there. */
export function haveImage(name: string): boolean {
  if (sharedFile(`images/${name}/image.elf.xz`) !== undefined) return true;
  console.log(`skipped: no image ${name} in VMCORE_FIXTURES or ../shared`);
  return false;
}

export function loadImage(name: string): RealImage {
  const text = (file: string): string => readFileSync(unpackedFile(`images/${name}/${file}`)!, 'utf8').trim();
  const { regs } = JSON.parse(text('regs.json')) as { regs: Record<string, string> };
  const lines = text('translations.jsonl.gz').split('\n');
  const elf = openSharedFile(`images/${name}/image.elf.xz`)!;
  return {
    memory: new SegmentMemory(new BlockCache(elf), segmentsOf(elf)),
    registers: Object.fromEntries(
      Object.entries(regs).map(([key, value]) => [key.toUpperCase(), BigInt(value)]),
    ),
    translations: lines.map((line) => JSON.parse(line) as RealImage['translations'][number]),
    ranges: text('ranges.txt.xz').split('\n').slice(1),
    close: () => elf.close(),
  };
}

/** The PT_LOAD segments. QEMU 7.2 writes odd ELF headers (e_ehsize 8), but these fields are where they belong. */
function segmentsOf(file: ByteSource): PhysicalSegment[] {
  const elf = Buffer.alloc(4096);
  file.readSync(0, elf, 0, elf.length);
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

import { readFileSync } from 'node:fs';
import { openSharedFile, sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import {
  BlockCache,
  SegmentMemory,
  readBytes,
  type ByteSource,
  type PhysicalMemory,
  type PhysicalSegment,
} from '@libkvm/minidump-core';

/** Real memory images with QEMU's translations: `shared` beside the repository, or VMCORE_FIXTURES. */

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
  return sharedFile(`images/${name}/image.elf.xz`) !== undefined;
}

/** The text of a file of the image, unpacked. */
function text(name: string, entry: string): string {
  return readFileSync(unpackedFile(`images/${name}/${entry}`)!, 'utf8').trim();
}

export function imageRegisters(name: string): Record<string, bigint> {
  const { regs } = JSON.parse(text(name, 'regs.json')) as {
    regs: Record<string, string>;
  };
  const wanted = ['ttbr0', 'ttbr1', 'ttbcr', 'sctlr', 'midr'];
  return Object.fromEntries(
    wanted.map((register) => [register.toUpperCase(), BigInt(regs[register] ?? '0')]),
  );
}

export function imageTranslations(name: string): ImageTranslation[] {
  const lines = text(name, 'translations.jsonl.gz').split('\n');
  return lines.map((line) => JSON.parse(line) as ImageTranslation);
}

/** 16 bytes that the guest's memory holds at an address. */
export function imageReads(name: string): { va: string; pa: string; bytes: string }[] {
  const lines = text(name, 'reads.jsonl').split('\n');
  return lines.map((line) => JSON.parse(line) as { va: string; pa: string; bytes: string });
}

export function imageRanges(name: string): ImageRange[] {
  const lines = text(name, 'ranges.txt.xz')
    .split('\n')
    .filter((line) => !line.startsWith('#'));
  return lines.map((line) => {
    const [kva, length, pa, kind] = line.split(' ') as [string, string, string, string];
    return { kva: parseInt(kva, 16), length: parseInt(length, 16), pa: parseInt(pa, 16), kind };
  });
}

/** Memory as the image's program headers have it. The ELF file is unpacked once, into the system's temporary folder. */
export function imageMemory(name: string): PhysicalMemory {
  const file = openSharedFile(`images/${name}/image.elf.xz`)!;
  return new SegmentMemory(new BlockCache(file), loadSegments(file));
}

/** PT_LOAD segments of a little-endian ELF file of either class. */
function loadSegments(file: ByteSource): PhysicalSegment[] {
  const view = new DataView(readBytes(file, 0, 4096, 'ELF headers').buffer);
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

import { roundUp } from '@libkvm/fixtures';
import type { ElfProgramHeader } from '../../../fixtures/src/elf-writer.js';
import { ELF_SIZES, ElfWriter } from '../../../fixtures/src/elf-writer.js';

/** What a test core is made of; the parts lie in the file one behind the other, in this order. */
export interface ElfCoreParts {
  readonly class?: 32 | 64;
  readonly byteOrder?: 'little' | 'big';
  readonly machine?: number;
  /** 4 unless given: ET_CORE. */
  readonly type?: number;
  readonly segments: readonly ElfCoreSegment[];
  /** Bytes between the ELF header and the program headers. */
  readonly gap?: number;
}

/** A program header and the bytes it points to. */
export interface ElfCoreSegment extends Partial<Omit<ElfProgramHeader, 'offset'>> {
  readonly bytes?: Uint8Array;
  /** Instead of where the bytes are. */
  readonly offset?: number;
}

/** Writes an ELF core with exactly these segments, PT_LOAD unless they say otherwise. */
export function elfCore(parts: ElfCoreParts): Uint8Array<ArrayBuffer> {
  const format = { class: parts.class ?? 64, byteOrder: parts.byteOrder ?? 'little' } as const;
  const sizes = ELF_SIZES[format.class];
  const phoff = sizes.header + (parts.gap ?? 0);
  let end = phoff + parts.segments.length * sizes.program;
  const offsets = parts.segments.map(({ bytes }) => {
    const offset = end;
    end += bytes?.length ?? 0;
    return offset;
  });
  const writer = new ElfWriter(end, format);
  parts.segments.forEach(({ bytes = new Uint8Array(0), ...header }, i) => {
    const length = BigInt(bytes.length);
    const place = {
      vaddr: header.paddr ?? 0n,
      paddr: 0n,
      filesz: length,
      memsz: header.filesz ?? length,
      align: 0n,
    };
    const full = { type: 1, flags: 0, offset: offsets[i], ...place, ...header };
    writer.programHeader(phoff + i * sizes.program, full);
    writer.bytes.set(bytes, offsets[i]);
  });
  writer.fileHeader({
    ...{ osabi: 255, type: parts.type ?? 4, machine: parts.machine ?? 62, version: 0, entry: 0n, flags: 0 },
    ...{ phoff, shoff: 0, phnum: parts.segments.length, shnum: 0, shstrndx: 0 },
  });
  return writer.bytes;
}

export interface NoteParts {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

/** Notes one behind the other, padded to 4 or 8 bytes. */
export function noteSegment(
  notes: readonly NoteParts[],
  align: 4 | 8 = 4,
  little = true,
): Uint8Array<ArrayBuffer> {
  const parts = notes.map(({ name, type, desc }) => {
    const descAt = roundUp(12 + name.length + 1, align);
    const bytes = new Uint8Array(roundUp(descAt + desc.length, align));
    const view = new DataView(bytes.buffer);
    [name.length + 1, desc.length, type].forEach((word, i) => view.setUint32(i * 4, word, little));
    bytes.set(new TextEncoder().encode(name), 12);
    bytes.set(desc, descAt);
    return bytes;
  });
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A source that counts what is read of it. */
export class CountingSource {
  readonly size: number;
  bytesRead = 0;
  reads = 0;

  constructor(private readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const piece = this.bytes.subarray(offset, offset + length);
    target.set(piece, at);
    this.bytesRead += piece.length;
    this.reads++;
    return piece.length;
  }
}

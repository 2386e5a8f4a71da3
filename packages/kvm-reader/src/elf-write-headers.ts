import { PieceBuffer, roundUp, type ElfIdentity } from '@libkvm/minidump-core';
import {
  ehdr32,
  ehdr64,
  elfIdent,
  ET_CORE,
  nhdr,
  phdr32,
  phdr64,
  PN_XNUM,
  shdr32,
  shdr64,
} from './elf-structs.js';

/** A program header to be written. Addresses and lengths in bytes. */
export interface ElfProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly fileLength: number;
  readonly memLength: number;
  readonly align: number;
}

/** What the head of an ELF core is made from. */
export interface ElfHeadOptions {
  /** e_machine, and the class and byte order of the file. */
  readonly identity: ElfIdentity;
  /** EI_OSABI. */
  readonly osabi: number;
  /** e_version: 1, or 0 as FreeBSD's kernels leave it. */
  readonly version: number;
  /** How many program headers there are. */
  readonly segments: number;
  /** Notes as {@link elfNoteBytes} makes them; their program header is one of the segments. */
  readonly notes?: Uint8Array;
}

const MAGIC = 0x464c_457f;
/** Where memory starts in the file: at a page boundary (sys/kern/kern_dump.c). */
const PAGE = 4096;
const TABLES = {
  32: { header: ehdr32, program: phdr32, section: shdr32 },
  64: { header: ehdr64, program: phdr64, section: shdr64 },
};

/** The fields of a program header whose width is that of the class. */
const PLACES = ['offset', 'vaddr', 'paddr', 'filesz', 'memsz', 'align'] as const;

/**
 * All of an ELF core that comes before its memory: file header, program headers, notes. With 65535 program headers or more
 * there is one section header, which has their number (gABI chapter 4, e_phnum).
 */
export class ElfHead {
  /** Bytes, up to the page boundary where memory starts. */
  readonly length: number;
  readonly notesOffset: number;
  private readonly sectionAt: number;
  private readonly structs: (typeof TABLES)[32 | 64];

  constructor(private readonly options: ElfHeadOptions) {
    const { identity, segments, notes } = options;
    this.structs = TABLES[identity.bits];
    const { header, program, section } = this.structs;
    const end = header.size + segments * program.size;
    this.sectionAt = segments >= PN_XNUM ? roundUp(end, 8) : 0;
    this.notesOffset = roundUp(this.sectionAt > 0 ? this.sectionAt + section.size : end, 4);
    this.length = roundUp(this.notesOffset + (notes?.length ?? 0), PAGE);
  }

  /**
   * The bytes, with as many program headers as were announced. A piece is good until the next but one is asked for.
   */
  *bytes(segments: Iterable<ElfProgramHeader>): Generator<Uint8Array, void, undefined> {
    const { header, program } = this.structs;
    const buffer = new PieceBuffer(65536);
    this.putFileHeader(buffer.bytes);
    buffer.at = header.size;
    for (const segment of segments) {
      if (buffer.room < program.size) yield buffer.take();
      this.putProgramHeader(buffer, segment);
      buffer.at += program.size;
    }
    yield buffer.take();
    yield this.rest();
  }

  private putFileHeader(bytes: Uint8Array): void {
    const { identity, osabi, version, segments } = this.options;
    const { bits, byteOrder, machine } = identity;
    const { header, program, section } = this.structs;
    const extended = this.sectionAt > 0;
    bytes.fill(0, 0, header.size);
    elfIdent.write(bytes, 0, 'little', {
      ...{ magic: MAGIC, class: bits === 32 ? 1 : 2, data: byteOrder === 'little' ? 1 : 2 },
      ...{ version: 1, osabi },
    });
    const fields = {
      ...{ type: ET_CORE, machine, version, ehsize: header.size, phentsize: program.size },
      phnum: extended ? PN_XNUM : segments,
      ...{ shentsize: section.size, shnum: extended ? 1 : 0 },
    };
    if (bits === 32) {
      ehdr32.write(bytes, 0, byteOrder, { ...fields, phoff: header.size, shoff: this.sectionAt });
    } else {
      const places = { phoff: BigInt(header.size), shoff: BigInt(this.sectionAt) };
      ehdr64.write(bytes, 0, byteOrder, { ...fields, ...places });
    }
  }

  /** struct phdr32 or phdr64, without their generic writer: there may be a million. */
  private putProgramHeader({ view, at }: PieceBuffer, segment: ElfProgramHeader): void {
    const { bits, byteOrder } = this.options.identity;
    const little = byteOrder === 'little';
    const { type, flags, offset, vaddr, paddr, fileLength, memLength, align } = segment;
    const { fields } = this.structs.program;
    view.setUint32(at + fields.type.at, type, little);
    view.setUint32(at + fields.flags.at, flags, little);
    const words = [offset, vaddr, paddr, fileLength, memLength, align];
    PLACES.forEach((name, i) => {
      const place = at + fields[name].at;
      if (bits === 64) view.setBigUint64(place, BigInt(words[i]), little);
      else view.setUint32(place, Number(words[i]), little);
    });
  }

  /** What follows the program headers: the section header, notes, zeros. */
  private rest(): Uint8Array {
    const { identity, segments, notes } = this.options;
    const { header, program } = this.structs;
    const start = header.size + segments * program.size;
    const bytes = new Uint8Array(this.length - start);
    if (this.sectionAt > 0) {
      const at = this.sectionAt - start;
      if (identity.bits === 32) shdr32.write(bytes, at, identity.byteOrder, { info: segments });
      else shdr64.write(bytes, at, identity.byteOrder, { info: segments });
    }
    bytes.set(notes ?? [], this.notesOffset - start);
    return bytes;
  }
}

/** A note as it stands in a file: head, name with its NUL, descriptor, each padded to 4 bytes (gABI figure 5-7). */
export function elfNoteBytes(
  name: string,
  type: number,
  desc: Uint8Array,
  byteOrder: ElfIdentity['byteOrder'],
): Uint8Array<ArrayBuffer> {
  const descAt = nhdr.size + roundUp(name.length + 1, 4);
  const bytes = new Uint8Array(descAt + roundUp(desc.length, 4));
  nhdr.write(bytes, 0, byteOrder, { namesz: name.length + 1, descsz: desc.length, type });
  for (let i = 0; i < name.length; i++) bytes[nhdr.size + i] = name.charCodeAt(i);
  bytes.set(desc, descAt);
  return bytes;
}

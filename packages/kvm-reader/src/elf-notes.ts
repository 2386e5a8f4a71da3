import { KvmError, latin1, readBytes, type ByteOrder, type ByteSource } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import { nhdr, PT_NOTE, SHT_NOTE } from './elf-structs.js';

/** More notes than any file has: one with millions of them is damaged. */
const MAX_NOTES = 2 ** 16;
/** Names are short (`CORE`, `VMCOREINFO`, `FreeBSD`); what is longer is cut here. */
const MAX_NAME = 256;
/** A descriptor that is longer than this is read by nobody: its length is damaged. */
const MAX_DESC = 64 * 1024 * 1024;

/** A note: who made it, what it is, and its descriptor. */
export class ElfNote {
  constructor(
    private readonly source: ByteSource,
    /** The owner, without its NUL. */
    readonly name: string,
    /** n_type, whose meaning is the owner's. */
    readonly type: number,
    /** Offset of the descriptor in the file. */
    readonly offset: number,
    /** Bytes of the descriptor. */
    readonly length: number,
  ) {}

  /**
   * The descriptor's bytes, read each time it is asked for.
   *
   * @throws KvmError `CORRUPT` above 64 MB, `TRUNCATED`
   */
  get desc(): Uint8Array<ArrayBuffer> {
    if (this.length > MAX_DESC) throw damaged(this.offset);
    return readBytes(this.source, this.offset, this.length, `note ${this.name}`);
  }
}

/** A part of a file that holds notes. */
interface NoteArea {
  readonly offset: number;
  readonly length: number;
  readonly align: number;
}

/** The position of a note's parts, relative to its area. */
interface NotePlace {
  readonly namesz: number;
  readonly descsz: number;
  readonly type: number;
  readonly desc: number;
  readonly end: number;
}

/** See {@link ElfFile.notes}. */
export function* elfNotes(elf: ElfFile): Generator<ElfNote> {
  const { byteOrder } = elf.identity;
  let count = 0;
  for (const area of noteAreas(elf)) {
    const align = paddingOf(elf.source, area, byteOrder);
    let at = 0;
    for (;;) {
      const place = noteAt(elf.source, area, at, align, byteOrder);
      if (place === undefined) break;
      if (place.end > area.length || ++count > MAX_NOTES) throw damaged(area.offset + at);
      const nameAt = area.offset + at + nhdr.size;
      const name = latin1(
        readBytes(elf.source, nameAt, Math.min(place.namesz, MAX_NAME), 'the name of a note'),
      );
      yield new ElfNote(elf.source, name, place.type, area.offset + place.desc, place.descsz);
      at = roundUpTo(place.end, align);
    }
  }
}

/** Note segments, then note sections outside of them (a kernel's are in both, an object's in sections only). */
function* noteAreas(elf: ElfFile): Generator<NoteArea> {
  const segments = elf.segments.filter(({ type }) => type === PT_NOTE);
  for (const { offset, fileLength, align } of segments) yield { offset, length: fileLength, align };
  const inSegment = (offset: number): boolean =>
    segments.some((segment) => offset >= segment.offset && offset < segment.offset + segment.fileLength);
  for (const section of elf.sections) {
    if (section.type !== SHT_NOTE || inSegment(section.offset)) continue;
    yield { offset: section.offset, length: section.length, align: section.align };
  }
}

/**
 * Parts are padded to 4 bytes; to 8 where the alignment says 8 (gABI, "Note Section") and the notes agree: some
 * producers say 8 and pad to 4.
 */
function paddingOf(source: ByteSource, area: NoteArea, order: ByteOrder): 4 | 8 {
  if (area.align !== 8) return 4;
  let at = 0;
  for (let count = 0; count < MAX_NOTES; count++) {
    const place = noteAt(source, area, at, 8, order);
    if (place === undefined) return 8;
    if (place.end > area.length) return 4;
    at = roundUpTo(place.end, 8);
  }
  return 4;
}

/** The note at an offset in its area. Undefined at the end: no room for a header, or the zeros that fill up areas. */
function noteAt(
  source: ByteSource,
  area: NoteArea,
  at: number,
  align: number,
  order: ByteOrder,
): NotePlace | undefined {
  if (at + nhdr.size > area.length) return undefined;
  const head = readBytes(source, area.offset + at, nhdr.size, 'the head of a note');
  const { namesz, descsz, type } = nhdr.read(head, 0, order);
  if (namesz === 0 && descsz === 0 && type === 0) return undefined;
  const desc = roundUpTo(at + nhdr.size + namesz, align);
  return { namesz, descsz, type, desc, end: desc + descsz };
}

function roundUpTo(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

function damaged(offset: number): KvmError {
  return new KvmError(
    'CORRUPT',
    `the note at offset ${offset} is longer than its segment, or than any note`,
    {
      offset,
      field: 'n_descsz',
      hint: 'the note segment is damaged; the memory of the core can still be read',
    },
  );
}

import { BlockCache, latin1, type ByteSource } from '@libkvm/minidump-core';
import {
  readFileHeader,
  readSections,
  readSegments,
  type ElfFileIdentity,
  type ElfSection,
  type ElfSegment,
  type ElfTables,
} from './elf-headers.js';
import { elfNotes, type ElfNote } from './elf-notes.js';

const SHN_XINDEX = 0xffff;
const MAX_NAME = 256;
/** Headers, notes and names are small and near each other; a file that has no cache gets a small one for them. */
const CACHE_BYTES = 256 * 1024;

/**
 * The structure of an ELF file of either class and byte order: headers, segments, sections, notes. Program headers are
 * read when it is opened, section headers when they are asked for: a memory image with damaged ones still opens.
 *
 * Source: System V gABI, chapters 4 and 5. Tolerated, because dumpers write it: e_version 0 and any OSABI (FreeBSD full
 * dumps), any e_ehsize and program headers anywhere (QEMU).
 */
export class ElfFile {
  private cachedSections: readonly ElfSection[] | undefined;

  private constructor(
    /** The file's bytes, through a cache. */
    readonly source: BlockCache,
    readonly identity: ElfFileIdentity,
    /** The program headers, in file order. */
    readonly segments: readonly ElfSegment[],
    private readonly tables: ElfTables,
  ) {}

  /**
   * Reads the file header and the program headers.
   *
   * @throws KvmError `NOT_A_CORE` when this is no ELF file, `CORRUPT`, `TRUNCATED`
   */
  static open(source: ByteSource): ElfFile {
    const cache = source instanceof BlockCache ? source : new BlockCache(source, CACHE_BYTES);
    const { identity, tables } = readFileHeader(cache);
    return new ElfFile(cache, identity, readSegments(cache, identity, tables), tables);
  }

  /**
   * The section headers, section 0 among them; empty where the file has none.
   *
   * @throws KvmError `CORRUPT`, `TRUNCATED`
   */
  get sections(): readonly ElfSection[] {
    this.cachedSections ??= readSections(this.source, this.identity, this.tables);
    return this.cachedSections;
  }

  /** The name of a section, at most 256 bytes of it; empty where the file has no name for it. */
  sectionName(section: ElfSection): string {
    const { shstrndx } = this.tables;
    const index = shstrndx === SHN_XINDEX ? (this.sections[0]?.link ?? 0) : shstrndx;
    const names = index === 0 ? undefined : this.sections[index];
    if (names === undefined || section.nameOffset >= names.length) return '';
    const bytes = new Uint8Array(Math.min(MAX_NAME, names.length - section.nameOffset));
    const got = this.source.readSync(names.offset + section.nameOffset, bytes, 0, bytes.length);
    return latin1(bytes.subarray(0, got));
  }

  /**
   * The notes of all note segments, then of all note sections outside of them. Lazy: each is read when it is reached,
   * its descriptor when that is asked for.
   *
   * @throws KvmError `CORRUPT`, `TRUNCATED` on reaching a note that is damaged
   */
  notes(): Generator<ElfNote> {
    return elfNotes(this);
  }
}

import type { BlockCache } from './block-cache.js';
import { readBytes } from './byte-source.js';
import type { Section } from './core.js';
import { crc32 as portableCrc32, type Crc32 } from './crc32.js';
import { toHex } from './errors.js';
import { leafPa, leafShift, leafSound, leafValid } from './leaf.js';
import { roundUp } from './minidump-layout.js';
import {
  CHECKSUMS_AT,
  HAS_DIRECT_MAP,
  HAS_KERNBASE,
  PORTABLE_ALIGN,
  PORTABLE_MAGIC,
  portableHeader,
  portableSection,
  portableSegment,
  portableTrailer,
  RUN,
  SECTION_TABLE_AT,
  TRAILER_MAGIC,
} from './portable-header.js';
import { readPortableHeader, readSectionTable } from './portable-open.js';
import { PHYSICAL_LIMIT } from './source-check.js';
import { latin1 } from './struct.js';
import type { ProblemList } from './verify.js';

const PIECE = 1024 * 1024;

/** Checks what only portable minidumps claim; other files are left alone. */
export function verifyPortableFile(
  cache: BlockCache,
  list: ProblemList,
  checked: Record<string, number>,
  crc32: Crc32 = portableCrc32,
): void {
  const head = new Uint8Array(24);
  if (cache.readSync(0, head, 0, 24) < 24 || !resembles(head)) return;
  const sections = list.attempt('header', () => checkHeader(cache, list));
  if (sections === undefined) return;
  list.attempt('trailer', () => checkTrailer(cache, sections, list, checked, crc32));
  list.attempt('segments', () => checkSegments(cache, sections, list, checked));
}

/** The magic, or one that differs from it in a byte: a damaged file of this kind is to be told from another file. */
function resembles(head: Uint8Array): boolean {
  let different = 0;
  for (let i = 0; i < 24; i++) if ((PORTABLE_MAGIC.charCodeAt(i) || 0) !== head[i]) different++;
  return different <= 1;
}

/** Every field of the header page and every byte that has no field. Returns the sections, the header first. */
function checkHeader(cache: BlockCache, list: ProblemList): Section[] {
  const page = readBytes(cache, 0, PORTABLE_ALIGN, 'header');
  const header = readPortableHeader(cache);
  if (latin1(page.subarray(0, 24)) !== PORTABLE_MAGIC)
    list.add('magic', 'is not that of a portable minidump', 0);
  if (header.flags & ~(HAS_KERNBASE | HAS_DIRECT_MAP)) list.add('flags', 'has bits without a meaning', 28);
  if (header.reserved !== 0) list.add('reserved', 'is not 0', portableHeader.fields.reserved.at);
  if (header.fileSize !== BigInt(cache.size)) {
    list.add(
      'fileSize',
      `says ${header.fileSize} bytes, the file has ${cache.size}`,
      portableHeader.fields.fileSize.at,
    );
  }
  const sections = readSectionTable(cache, header);
  let end = PORTABLE_ALIGN;
  sections.forEach(({ offset, length }, i) => {
    if (offset !== end) list.add(`sections[${i}]`, `starts at ${offset}, the one before it ends at ${end}`);
    end = offset + roundUp(length, PORTABLE_ALIGN);
  });
  const names = sections.map(({ name }) => name);
  names.forEach((name, i) => {
    if (names.indexOf(name) < i) list.add(`sections[${i}]`, `is another section ${name}`);
  });
  if (names.includes('entries') !== header.entryBits > 0) {
    list.add(
      'entryBits',
      `is ${header.entryBits} ${names.includes('entries') ? 'with' : 'without'} a section entries`,
    );
  }
  const behind = SECTION_TABLE_AT + sections.length * portableSection.size;
  if (!isZero(page, behind)) list.add('header', 'is not 0 behind its tables', behind);
  return [{ name: 'header', offset: 0, length: PORTABLE_ALIGN }, ...sections];
}

/** The mark of completion, and the checksum of every section with its padding, which must be zeros. */
function checkTrailer(
  cache: BlockCache,
  sections: readonly Section[],
  list: ProblemList,
  checked: Record<string, number>,
  crc32: Crc32,
): void {
  const last = sections[sections.length - 1];
  const at = last.offset + roundUp(last.length, PORTABLE_ALIGN);
  const page = readBytes(cache, at, PORTABLE_ALIGN, 'trailer');
  const { magic, sectionCount, crc } = portableTrailer.read(page, 0, 'little');
  if (magic !== TRAILER_MAGIC) list.add('trailer', 'the mark of completion is missing', at);
  portableTrailer.write(page, 0, 'little', { crc: 0 });
  if (crc32(page) !== crc) list.add('trailer', 'its checksum is wrong', at);
  if (sectionCount !== sections.length) {
    list.add('trailer', `has ${sectionCount} checksums for ${sections.length} sections`, at);
    return;
  }
  const view = new DataView(page.buffer);
  const longest = Math.max(...sections.map(({ length }) => roundUp(length, PORTABLE_ALIGN)));
  const buffer = new Uint8Array(Math.min(PIECE, longest));
  sections.forEach((section, i) => {
    const expected = view.getUint32(CHECKSUMS_AT + i * 4, true);
    if (checksum(cache, section, buffer, list, crc32) !== expected) {
      list.add(section.name, 'its checksum is wrong', section.offset);
    }
  });
  checked.checksums = sections.length;
}

function checksum(
  cache: BlockCache,
  { name, offset, length }: Section,
  buffer: Uint8Array,
  list: ProblemList,
  crc32: Crc32,
): number {
  const end = offset + roundUp(length, PORTABLE_ALIGN);
  let crc = 0;
  for (let at = offset; at < end; at += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, end - at));
    cache.source.readSync(at, piece, 0, piece.length);
    crc = crc32(piece, crc);
    if (!isZero(piece, Math.max(0, offset + length - at)))
      list.add(name, 'is not padded with zeros', offset + length);
  }
  return crc;
}

function isZero(bytes: Uint8Array, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

/**
 * Reserved fields of segments, that they use every leaf once, and what their leaves say. Order and bounds of the segments
 * were checked when the file was opened.
 */
function checkSegments(
  cache: BlockCache,
  sections: readonly Section[],
  list: ProblemList,
  checked: Record<string, number>,
): void {
  const { offset, length } = find(sections, 'segments');
  const leaves = find(sections, 'leaves');
  if (length % portableSegment.size !== 0) list.add('segments', 'is no whole number of segments', offset);
  if (leaves.length % 8 !== 0) list.add('leaves', 'is no whole number of leaves', leaves.offset);
  const leaf = new LeafCheck(
    cache,
    leaves,
    sections.find(({ name }) => name === 'entries'),
    list,
  );
  const count = Math.floor(length / portableSegment.size);
  const entry = new Uint8Array(portableSegment.size);
  let nextLeaf = 0;
  for (let i = 0; i < count; i++) {
    const at = offset + i * portableSegment.size;
    cache.readSync(at, entry, 0, entry.length);
    const segment = portableSegment.read(entry, 0, 'little');
    const where = `segments[${i}]`;
    if (segment.reserved !== 0 || segment.padding !== 0) list.add(where, 'has reserved bits set', at);
    if (Number(segment.firstLeaf) !== nextLeaf) list.add(where, `should start at leaf ${nextLeaf}`, at);
    const granule = 2 ** segment.granuleShift;
    const run = segment.kind === RUN;
    const granules = Number(segment.count);
    const end = Math.min(leaf.count, nextLeaf + (run ? 1 : granules));
    for (let index = nextLeaf; index < end; index++) leaf.check(index, granule, run ? granules : 1);
    nextLeaf = Math.max(nextLeaf, Number(segment.firstLeaf) + (run ? 1 : granules));
  }
  if (nextLeaf !== leaf.count) list.add('leaves', `there are ${leaf.count}, the segments use ${nextLeaf}`);
  checked.segments = count;
  checked.leaves = leaf.count;
}

/** Checks leaves: reserved bits, the PA, and that an exact entry stands only beside a valid one. */
class LeafCheck {
  readonly count: number;

  constructor(
    private readonly cache: BlockCache,
    private readonly leaves: Section,
    private readonly entries: Section | undefined,
    private readonly list: ProblemList,
  ) {
    this.count = Math.floor(leaves.length / 8);
  }

  /** @param granules how many of them the leaf stands for: more than 1 only in a RUN segment */
  check(index: number, granule: number, granules: number): void {
    const { cache, list } = this;
    const offset = this.leaves.offset + index * 8;
    if (!cache.load64(offset, true)) return;
    const { low, high } = cache;
    // Names are made for those few that have a problem only: there may be millions.
    const problem = (message: string): void => list.add(`leaves[${index}]`, message, offset);
    if (!leafSound(low, high)) problem('has reserved bits set');
    if (!leafValid(low)) return this.checkInvalid(index, granules);
    const pa = leafPa(low, high);
    if (pa % granule !== 0) problem(`maps ${toHex(pa)}, which lies inside a granule`);
    if (2 ** leafShift(high) < granule) problem('is of a mapping smaller than its granule');
    if (pa + granule * granules > PHYSICAL_LIMIT) problem('maps PAs that no machine has');
  }

  private checkInvalid(index: number, granules: number): void {
    const { cache, entries, list } = this;
    if (granules > 1) list.add(`leaves[${index}]`, 'is not valid, and that of a RUN segment');
    if (entries === undefined || !cache.load64(entries.offset + index * 8, true)) return;
    if ((cache.low | cache.high) === 0) return;
    list.add(`entries[${index}]`, 'belongs to no leaf', entries.offset + index * 8);
  }
}

function find(sections: readonly Section[], name: string): Section {
  return sections.find((section) => section.name === name) ?? { name, offset: 0, length: 0 };
}

import { KVA_PAGE } from './address-space.js';
import type { BlockCache } from './block-cache.js';
import { SubSource, clampLength, readBytes } from './byte-source.js';
import type { Core, DirectMap, Section } from './core.js';
import { cutShort } from './counts.js';
import { readDumpAvail } from './dump-avail.js';
import { KvmError, toHex } from './errors.js';
import type { CoreFormat } from './format.js';
import { PageRanges } from './page-ranges.js';
import {
  HAS_DIRECT_MAP,
  HAS_KERNBASE,
  MAX_NOTE,
  MAX_SECTIONS,
  NOTE_SECTIONS,
  PORTABLE_ALIGN,
  PORTABLE_MAGIC,
  PORTABLE_VERSION,
  portableHeader,
  portableSection,
  SECTION_TABLE_AT,
  TRAILER_MAGIC,
} from './portable-header.js';
import { PortableSpace } from './portable-space.js';
import { MAX_DIRECT_PA, PHYSICAL_LIMIT } from './source-check.js';
import { SparsePages } from './sparse-pages.js';
import { StoredBitmap } from './stored-bitmap.js';
import { latin1, type StructValues } from './struct.js';

/** Values of the header page. */
export type PortableHeader = StructValues<typeof portableHeader.fields>;

/**
 * Portable minidumps: one on-disk format for every pmap, which needs no architecture to be read. See
 * docs/formats/portable.md.
 */
export const portableFormat: CoreFormat = {
  name: 'portable minidump',
  probe: (head) => latin1(head.subarray(0, 24)) === PORTABLE_MAGIC,
  open: openPortable,
};

function openPortable(cache: BlockCache): Core {
  const header = readPortableHeader(cache);
  const sections = readSectionTable(cache, header);
  const need = (name: string): Section => {
    const section = sections.find((candidate) => candidate.name === name);
    if (section) return section;
    throw new KvmError('CORRUPT', `a portable minidump without a section ${name}`, {
      field: name,
      hint: 'the file is damaged: copy it again; vmcore verify says what else is',
    });
  };
  const msgbuf = sections.find(({ name, length }) => name === 'msgbuf' && length > 0);
  if (msgbuf) check(header.msgbufStart < BigInt(msgbuf.length), 'msgbufStart', header.msgbufStart);
  const memory = openPages(cache, header, need);
  const addressSpace = new PortableSpace(cache, {
    segments: whole(cache, need('segments')),
    leaves: whole(cache, need('leaves')),
    entries: sections.find(({ name }) => name === 'entries'),
    entryBits: header.entryBits,
    endPage: header.elfClass === 1 ? 2 ** 20 : 2 ** 52,
    dumped: memory.pages.dumped,
  });
  return {
    ...factsOf(header),
    sections,
    memory,
    addressSpace,
    ...(msgbuf && { messageBuffer: msgbuf, messageBufferStart: Number(header.msgbufStart) }),
    notes: readNotes(cache, sections),
    cache,
    warnings: warningsOf(cache, header, memory),
  };
}

/** The header page, checked. */
export function readPortableHeader(cache: BlockCache): PortableHeader {
  const page = readBytes(cache, 0, PORTABLE_ALIGN, 'header');
  const header = portableHeader.read(page, 0, 'little');
  const { version, elfClass, elfData, sectionCount, entryBits } = header;
  if (version !== PORTABLE_VERSION) {
    throw new KvmError(
      'UNSUPPORTED',
      `portable minidump of version ${version}; known is ${PORTABLE_VERSION}`,
      {
        field: 'version',
        offset: portableHeader.fields.version.at,
        hint: 'a newer version of this library wrote it; update',
      },
    );
  }
  check(elfClass === 1 || elfClass === 2, 'elfClass', elfClass);
  check(elfData === 1 || elfData === 2, 'elfData', elfData);
  for (const field of ['pageSize', 'basePageSize'] as const) {
    const size = header[field];
    check(size >= 4096 && size <= 2 ** 30 && (size & (size - 1)) === 0, field, size);
  }
  check(sectionCount <= MAX_SECTIONS, 'sectionCount', sectionCount);
  check(entryBits === 0 || entryBits === 32 || entryBits === 64, 'entryBits', entryBits);
  checkDirectMap(header);
  return header;
}

/** Addresses that the machine has, in whole pages. */
function checkDirectMap({ flags, elfClass, dmapBase, dmapEnd, dmapPhys }: PortableHeader): void {
  if ((flags & HAS_DIRECT_MAP) === 0) return;
  const page = BigInt(KVA_PAGE);
  check(elfClass === 2 || dmapBase >> 32n === 0n, 'dmapBase', dmapBase);
  check(elfClass === 2 || (dmapEnd - 1n) >> 32n === 0n, 'dmapEnd', dmapEnd);
  check(dmapBase % page === 0n, 'dmapBase', dmapBase);
  check(dmapEnd === 0n || dmapEnd > dmapBase, 'dmapEnd', dmapEnd);
  check(dmapPhys < BigInt(PHYSICAL_LIMIT) && dmapPhys % page === 0n, 'dmapPhys', dmapPhys);
  // It may be wider than physical memory, but its PAs have to be exact numbers.
  const end = dmapEnd === 0n ? 1n << 64n : dmapEnd;
  check(dmapPhys + (end - dmapBase) <= MAX_DIRECT_PA, 'dmapEnd', dmapEnd);
}

/** The section table, checked: names, aligned and ascending offsets, lengths that a file can have. */
export function readSectionTable(cache: BlockCache, { sectionCount }: PortableHeader): Section[] {
  const page = readBytes(cache, 0, PORTABLE_ALIGN, 'header');
  const sections: Section[] = [];
  let end = PORTABLE_ALIGN;
  for (let i = 0; i < sectionCount; i++) {
    const { name, offset, length } = portableSection.read(
      page,
      SECTION_TABLE_AT + i * portableSection.size,
      'little',
    );
    const section = { name, offset: Number(offset), length: Number(length) };
    const sound = section.offset >= end && section.offset % PORTABLE_ALIGN === 0;
    check(sound && Number.isSafeInteger(section.offset + section.length), `sections[${i}]`, offset);
    end = section.offset + section.length;
    sections.push(section);
  }
  return sections;
}

function openPages(
  cache: BlockCache,
  { pageSize }: PortableHeader,
  need: (name: string) => Section,
): SparsePages {
  const rangesAt = whole(cache, need('ranges'));
  const bitmapAt = whole(cache, need('bitmap'));
  const pagesAt = need('pages');
  const source = new SubSource(cache, rangesAt.offset, rangesAt.length);
  const ranges = new PageRanges(readDumpAvail(source, 'little', PHYSICAL_LIMIT, rangesAt.offset), pageSize);
  const bitmap = new StoredBitmap(
    new SubSource(cache, bitmapAt.offset, bitmapAt.length),
    ranges.pages,
    'little',
  );
  if (bitmap.count * pageSize !== pagesAt.length) {
    throw new KvmError(
      'CORRUPT',
      `the bitmap counts ${bitmap.count} pages, the section has ${pagesAt.length} bytes`,
      {
        field: 'bitmap',
        offset: bitmapAt.offset,
        hint: 'the file is damaged: copy it again; vmcore verify says what else is',
      },
    );
  }
  return new SparsePages(cache, pagesAt.offset, ranges, bitmap, pageSize);
}

/** A section that must lie in the file as a whole. */
function whole(cache: BlockCache, section: Section): Section {
  if (clampLength(cache.size, section.offset, section.length) === section.length) return section;
  throw new KvmError('TRUNCATED', `the file ends in the section ${section.name}`, {
    field: section.name,
    offset: section.offset,
    length: section.length,
    hint: 'the file is cut before its first page; copy it again',
  });
}

function factsOf(header: PortableHeader): {
  format: string;
  architecture: string;
  version: number;
  byteOrder: 'little' | 'big';
  bits: 32 | 64;
  pageSize: number;
  pteFormat: string;
  elfMachine: number;
  kernbase?: bigint;
  directMap?: DirectMap;
} {
  const { flags, dmapBase, dmapEnd, dmapPhys } = header;
  const directMap = (flags & HAS_DIRECT_MAP) !== 0;
  return {
    format: 'portable',
    architecture: header.architecture,
    version: header.version,
    byteOrder: header.elfData === 1 ? 'little' : 'big',
    bits: header.elfClass === 1 ? 32 : 64,
    pageSize: header.basePageSize,
    pteFormat: header.pteFormat,
    elfMachine: header.elfMachine,
    ...((flags & HAS_KERNBASE) !== 0 && { kernbase: header.kernbase }),
    ...(directMap && {
      directMap: { base: dmapBase, end: dmapEnd === 0n ? 1n << 64n : dmapEnd, phys: Number(dmapPhys) },
    }),
  };
}

function readNotes(cache: BlockCache, sections: readonly Section[]): Record<string, string> {
  const notes: Record<string, string> = {};
  for (const { name, offset, length } of sections) {
    if (!NOTE_SECTIONS.includes(name) || length > MAX_NOTE) continue;
    const bytes = new Uint8Array(clampLength(cache.size, offset, length));
    cache.readSync(offset, bytes, 0, bytes.length);
    notes[name] = new TextDecoder().decode(bytes);
  }
  return notes;
}

function warningsOf(cache: BlockCache, { fileSize }: PortableHeader, memory: SparsePages): string[] {
  const warnings: string[] = [];
  const cut = cutShort(memory.pages);
  if (cut !== undefined) warnings.push(`the file is cut short: ${cut}`);
  const trailer = new Uint8Array(24);
  const at = Number(fileSize) - PORTABLE_ALIGN;
  const got = at > 0 && at + PORTABLE_ALIGN <= cache.size ? cache.readSync(at, trailer, 0, 24) : 0;
  if (got < 24 || latin1(trailer) !== TRAILER_MAGIC) {
    warnings.push('the mark of completion is missing: the file was not written to its end');
  }
  return warnings;
}

function check(sound: boolean, field: string, value: number | bigint): void {
  if (sound) return;
  throw new KvmError('CORRUPT', `the header field ${field} is ${toHex(value)}`, {
    field,
    hint: 'the header is damaged; vmcore verify says what else is',
  });
}

import type { CoreFacts, Section } from './core.js';
import { KvmError } from './errors.js';
import type { ByteRange } from './page-ranges.js';
import type { BitOrder } from './stored-bitmap.js';

/** Byte sizes of the sections of a minidump, as its header gives them: not rounded. */
export interface SectionSizes {
  readonly msgbuf: number;
  /** 0 when the version has no such section. */
  readonly dumpAvail: number;
  readonly bitmap: number;
  readonly table: number;
}

/** Everything a dialect reads from a minidump's header page. */
export interface MinidumpLayout extends CoreFacts {
  readonly sizes: SectionSizes;
  readonly bitOrder: BitOrder;
  /** First physical address that the architecture cannot have. */
  readonly physicalLimit: number;
  /** Bytes of the table section in the file, where it is not the rounded size (old arm kernels). */
  readonly tableLength?: number;
  /** Physical ranges given by hand instead of those of the file. */
  readonly ranges?: readonly ByteRange[];
  /** More facts of the header, for `info`; the names are those of the kernel's header file. */
  readonly extra?: Readonly<Record<string, number | string>>;
  readonly warnings?: readonly string[];
}

/** Where the sections of a minidump lie. */
export interface PlacedSections {
  readonly header: Section;
  readonly msgbuf: Section;
  readonly dumpAvail?: Section;
  readonly bitmap: Section;
  readonly table: Section;
  /** Offset of the first sparse page. */
  readonly pagesOffset: number;
}

/**
 * Places the sections that all minidumps share: header page, message buffer, physical ranges, page bitmap, page-table
 * array, sparse pages; each size rounded to a page by itself (sys/kern/kern_dump.c and the cpu_minidumpsys of each
 * architecture).
 *
 * @throws KvmError `TRUNCATED` when the file ends before the sparse pages
 */
export function placeSections(layout: MinidumpLayout, fileSize: number): PlacedSections {
  const { sizes, pageSize } = layout;
  let end = pageSize;
  const place = (name: string, length: number, stored = roundUp(length, pageSize)): Section => {
    const section = { name, offset: end, length };
    end += stored;
    if (section.offset + length > fileSize) throw tooShort(section, fileSize);
    return section;
  };
  const header = { name: 'header', offset: 0, length: pageSize };
  const msgbuf = place('msgbuf', sizes.msgbuf);
  const dumpAvail = sizes.dumpAvail > 0 ? place('dumpAvail', sizes.dumpAvail) : undefined;
  const bitmap = place('bitmap', sizes.bitmap);
  const table = place('table', sizes.table, layout.tableLength);
  return { header, msgbuf, ...(dumpAvail && { dumpAvail }), bitmap, table, pagesOffset: end };
}

/** `value` rounded up to a multiple of `unit`; exact for values up to 2^53. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

function tooShort(section: Section, fileSize: number): KvmError {
  return new KvmError(
    'TRUNCATED',
    `section ${section.name} reaches to offset ${section.offset + section.length}, the file has ${fileSize} bytes`,
    {
      field: section.name,
      offset: section.offset,
      length: section.length,
      hint: 'the file is cut before its first page, or a size in its header is damaged; copy it again',
    },
  );
}

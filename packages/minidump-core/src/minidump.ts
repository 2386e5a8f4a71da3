import type { BlockCache } from './block-cache.js';
import { SubSource } from './byte-source.js';
import type { Core, Section } from './core.js';
import type { HeaderOverrides, MinidumpDialect } from './dialect.js';
import { cutShort, setBehindPages } from './counts.js';
import { readDumpAvail } from './dump-avail.js';
import { KvmError } from './errors.js';
import { placeSections, type MinidumpLayout, type PlacedSections } from './minidump-layout.js';
import { PageRanges } from './page-ranges.js';
import { SparsePages } from './sparse-pages.js';
import { StoredBitmap } from './stored-bitmap.js';

/** Bytes from the start of a file that dialects are shown to recognise it: the largest header page. */
export const HEAD_BYTES = 4096;

/** The first bytes of a file, for {@link MinidumpDialect.probe}. */
export function readHead(cache: BlockCache): Uint8Array {
  const head = new Uint8Array(Math.min(HEAD_BYTES, cache.size));
  cache.readSync(0, head, 0, head.length);
  return head;
}

/**
 * Opens a minidump in the given dialect.
 *
 * @throws KvmError `TRUNCATED` when the file ends before its first page, `UNSUPPORTED`, `CORRUPT`
 */
export function openMinidump(
  cache: BlockCache,
  dialect: MinidumpDialect,
  overrides: HeaderOverrides = {},
): Core {
  const layout = dialect.layout(readHead(cache), cache.size, overrides, cache);
  const placed = placeSections(layout, cache.size);
  const memory = sparsePages(cache, layout, placed);
  const addressSpace = dialect.addressSpace({ ...placed.table, cache }, memory, layout);
  return {
    ...facts(layout),
    sections: allSections(placed, memory),
    memory,
    addressSpace,
    messageBuffer: placed.msgbuf,
    cache,
    warnings: [...(layout.warnings ?? []), ...warningsOf(memory)],
  };
}

function sparsePages(cache: BlockCache, layout: MinidumpLayout, placed: PlacedSections): SparsePages {
  const { pageSize } = layout;
  const section = new SubSource(cache, placed.bitmap.offset, placed.bitmap.length);
  const ranges = new PageRanges(layout.ranges ?? rangesOf(cache, layout, placed), pageSize);
  const bitmap = new StoredBitmap(section, ranges.pages, layout.bitOrder);
  return new SparsePages(cache, placed.pagesOffset, ranges, bitmap, pageSize);
}

/** dump_avail, or, in versions without it, one range from 0 as long as the bitmap. */
function rangesOf(
  cache: BlockCache,
  layout: MinidumpLayout,
  placed: PlacedSections,
): { start: number; end: number }[] {
  const { dumpAvail, bitmap } = placed;
  if (dumpAvail) {
    const section = new SubSource(cache, dumpAvail.offset, dumpAvail.length);
    return readDumpAvail(section, layout.byteOrder, layout.physicalLimit, dumpAvail.offset);
  }
  const end = Math.min(bitmap.length * 8 * layout.pageSize, layout.physicalLimit);
  return end > 0 ? [{ start: 0, end }] : [];
}

function facts(layout: MinidumpLayout): Omit<MinidumpLayout, 'sizes' | 'bitOrder' | 'warnings'> {
  const { sizes: _sizes, bitOrder: _bitOrder, warnings: _warnings, ...rest } = layout;
  return rest;
}

function allSections(placed: PlacedSections, memory: SparsePages): Section[] {
  const { header, msgbuf, dumpAvail, bitmap, table, pagesOffset } = placed;
  const pages = { name: 'pages', offset: pagesOffset, length: memory.pages.dumped * memory.pageSize };
  if (!Number.isSafeInteger(pages.offset + pages.length)) {
    throw new KvmError('CORRUPT', 'the page bitmap counts more bytes than a file can have', {
      ...{ field: 'bitmap', offset: bitmap.offset },
      hint: 'the bitmap or the sizes in the header are damaged; copy the file again',
    });
  }
  return [header, msgbuf, ...(dumpAvail ? [dumpAvail] : []), bitmap, table, pages];
}

function warningsOf({ pages, bitmap }: SparsePages): string[] {
  const cut = cutShort(pages);
  const padding = setBehindPages(bitmap);
  return [
    ...(cut === undefined ? [] : [`the file is cut short: ${cut}`]),
    ...(padding === undefined ? [] : [`${padding} of the bitmap; padding is ignored`]),
  ];
}

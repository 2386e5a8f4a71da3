import { StoredBitmap, SubSource, roundUp, type ByteRange, type ByteSource } from '@libkvm/minidump-core';

const PAGE = 4096;
/** The kernel always wrote one page of dump_avail; anything much longer is not of that age. */
const MAX_DUMP_AVAIL = 0x1_0000;

/** A part of a file. */
interface Part {
  readonly offset: number;
  readonly length: number;
}

/**
 * Whether the sparse pages start right behind the page-table array, not behind its rounded end.
 *
 * Kernels of FreeBSD 10, and of 11 and 12 for ARMv4 and v5, let ptesize grow by 4 or 0x400 bytes at a time and wrote no
 * padding (sys/arm/arm/minidump_machdep.c). The length of a whole file tells; where neither way explains it, the file is
 * cut or has a tail, and no kernel is known that pads.
 */
export function endsUnrounded(file: ByteSource, bitmap: Part, table: Part): boolean {
  if (table.length % PAGE === 0) return false;
  const section = new SubSource(file, bitmap.offset, bitmap.length);
  const pages = new StoredBitmap(section, section.size * 8, 'little').count;
  return file.size !== table.offset + roundUp(table.length, PAGE) + pages * PAGE;
}

/**
 * The physical ranges of a dump_avail section in 32-bit words, as the first kernels of version 2 may have written it
 * (13-CURRENT of September 2020, commit 00e6614750de); undefined when it is in 64-bit words as it should be, or when
 * neither makes sense.
 *
 * What makes sense: ascending ranges below `limit` that have as many pages as the bitmap has bits, rounded as the kernel
 * does.
 */
export function dumpAvail32(
  file: ByteSource,
  little: boolean,
  dumpAvail: Part,
  bitmapSize: number,
  limit: number,
): ByteRange[] | undefined {
  const { offset, length } = dumpAvail;
  if (length > MAX_DUMP_AVAIL || offset + length > file.size) return undefined;
  const bytes = new Uint8Array(length);
  file.readSync(offset, bytes, 0, length);
  const view = new DataView(bytes.buffer);
  const word32 = (at: number): number => view.getUint32(at, little);
  const word64 = (at: number): number => Number(view.getBigUint64(at, little));
  const explains = (ranges: ByteRange[]): boolean =>
    isAscending(ranges, limit) && bitmapBytes(ranges) === bitmapSize;
  if (explains(pairs(word64, 8, length))) return undefined;
  const ranges = pairs(word32, 4, length);
  return explains(ranges) ? ranges : undefined;
}

/** The pairs of an array up to the one whose end is 0. */
function pairs(word: (at: number) => number, wordBytes: number, length: number): ByteRange[] {
  const ranges: ByteRange[] = [];
  for (let at = 0; at + 2 * wordBytes <= length; at += 2 * wordBytes) {
    const end = word(at + wordBytes);
    if (end === 0) break;
    ranges.push({ start: word(at), end });
  }
  return ranges;
}

function isAscending(ranges: readonly ByteRange[], limit: number): boolean {
  let previous = 0;
  for (const { start, end } of ranges) {
    if (start < previous || end <= start || end > limit) return false;
    previous = end;
  }
  return true;
}

/** Size of the bitmap that a 32-bit kernel makes for so many pages: whole longs, then whole pages. */
function bitmapBytes(ranges: readonly ByteRange[]): number {
  let pages = 0;
  for (const { start, end } of ranges) pages += Math.ceil(end / PAGE) - Math.floor(start / PAGE);
  return roundUp(roundUp(pages, 32) / 8, PAGE);
}

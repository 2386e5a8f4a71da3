import { readBytes, type ByteSource } from './byte-source.js';
import { KvmError } from './errors.js';
import type { ByteRange } from './page-ranges.js';
import type { ByteOrder } from './struct.js';

/** Bytes read at once; FreeBSD's section is one page. */
const PIECE = 65536;
/** No machine comes near it (FreeBSD has room for 255): a table without end must not fill the memory. */
export const MAX_RANGES = 65536;

/**
 * Reads the dump_avail section of a FreeBSD minidump: u64 pairs `start, end` in the machine's byte order, ended by a
 * pair whose end is 0 or by the end of the section (sys/kern/kern_dump.c, sys/vm/vm_dumpset.h).
 *
 * @param limit the first physical address that the architecture cannot have
 * @param offset where the section starts in the file; errors tell offsets of the file
 * @throws KvmError `CORRUPT` for an address above the limit, or more ranges than any machine has; the order of ranges is
 *   checked by PageRanges
 */
export function readDumpAvail(section: ByteSource, order: ByteOrder, limit: number, offset = 0): ByteRange[] {
  const ranges: ByteRange[] = [];
  const end = section.size - (section.size % 16);
  for (let at = 0; at < end; at += PIECE) {
    const bytes = readBytes(section, at, Math.min(PIECE, end - at), 'dump_avail');
    if (!addRanges(ranges, new DataView(bytes.buffer), order === 'little', { limit, offset })) break;
  }
  return ranges;
}

/** Where the section lies in the file, and the limit of its addresses. */
interface Place {
  readonly limit: number;
  readonly offset: number;
}

/** Adds the pairs of one piece; false when it has the terminator. */
function addRanges(ranges: ByteRange[], view: DataView, little: boolean, section: Place): boolean {
  const { limit } = section;
  for (let at = 0; at < view.byteLength; at += 16) {
    const start = u64(view, at, little);
    const end = u64(view, at + 8, little);
    if (end === 0) return false;
    const index = 2 * ranges.length;
    if (end > limit || start > limit) {
      throw damaged(
        section,
        index,
        `dump_avail[${index}] lies above the architecture's physical address limit`,
      );
    }
    if (ranges.length === MAX_RANGES) {
      throw damaged(section, index, `dump_avail has more than ${MAX_RANGES} ranges and no end`);
    }
    ranges.push({ start, end });
  }
  return true;
}

function damaged({ offset }: Place, index: number, message: string): KvmError {
  return new KvmError('CORRUPT', message, {
    field: `dump_avail[${index}]`,
    offset: offset + 8 * index,
    hint: 'the table of physical ranges is damaged; pass the ranges by hand',
  });
}

/** A u64 as a number; above 2^53 it is no longer exact, but still above every limit that is asked for. */
function u64(view: DataView, at: number, little: boolean): number {
  const low = view.getUint32(little ? at : at + 4, little);
  return view.getUint32(little ? at + 4 : at, little) * 0x1_0000_0000 + low;
}

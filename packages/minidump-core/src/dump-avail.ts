import { readBytes, type ByteSource } from './byte-source.js';
import { KvmError } from './errors.js';
import type { ByteRange } from './page-ranges.js';
import type { ByteOrder } from './struct.js';

/**
 * Reads the dump_avail section of a FreeBSD minidump: u64 pairs `start, end` in the machine's byte order, ended by a
 * pair whose end is 0 or by the end of the section (sys/kern/kern_dump.c, sys/vm/vm_dumpset.h).
 *
 * @param limit the first physical address that the architecture cannot have
 * @throws KvmError `CORRUPT` for an address at or above the limit; the order of ranges is checked by PageRanges
 */
export function readDumpAvail(section: ByteSource, order: ByteOrder, limit: number): ByteRange[] {
  const bytes = readBytes(section, 0, section.size - (section.size % 16), 'dump_avail');
  const view = new DataView(bytes.buffer);
  const ranges: ByteRange[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const start = u64(view, at, order === 'little');
    const end = u64(view, at + 8, order === 'little');
    if (end === 0) break;
    if (end > limit || start > limit) {
      throw new KvmError(
        'CORRUPT',
        `dump_avail[${at / 8}] lies above the architecture's physical address limit`,
        {
          field: `dump_avail[${at / 8}]`,
          offset: at,
          hint: 'the table of physical ranges is damaged; pass the ranges by hand',
        },
      );
    }
    ranges.push({ start, end });
  }
  return ranges;
}

/** A u64 as a number; above 2^53 it is no longer exact, but still above every limit that is asked for. */
function u64(view: DataView, at: number, little: boolean): number {
  const low = view.getUint32(little ? at : at + 4, little);
  return view.getUint32(little ? at + 4 : at, little) * 0x1_0000_0000 + low;
}

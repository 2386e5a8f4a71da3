import {
  flatTable,
  kvaOf,
  KvmError,
  toHex,
  type DialectOptions,
  type MinidumpWriter,
  type SparePages,
  type TablePlan,
  type TableSource,
} from '@libkvm/minidump-core';
import { writtenDirectMap, type WrittenDirectMap } from './direct-map.js';
import { amd64Format } from './format.js';
import { amd64MinidumpHeader } from './header.js';
import { amd64Window } from './kva-window.js';
import { Amd64LeafEncoder } from './leaf-encoder.js';
import { DIRECTORY_PAGES, pdeTable } from './pde-table.js';

/** `minidump FreeBSD/amd64`, as in the header. */
export const MAGIC = 'minidump FreeBSD/amd64';
/** sizeof(struct minidumphdr), with its padding. */
const HEADER_BYTES = 72;
/** Version 1: pages that one page of entries stands for. */
const FLAT_PAGES = 512;

/**
 * Writes FreeBSD/amd64 minidumps as the kernel does (sys/amd64/amd64/minidump_machdep.c).
 *
 * Version 1 has an entry for each 4 KB, 4 GB of them for 2 TB of KVA, and superpages only in parts. Versions 2 and 3 have
 * an entry for each 2 MB: superpages stay, those of 1 GB as 512 of them; page tables of the source go in as they are where
 * they can, or are made up behind all RAM.
 *
 * Exact entries are kept. Rights that upper levels take away are taken away in them, since no upper level is in the file;
 * the kernel's dumper does not do that.
 */
export const amd64MinidumpWriter: MinidumpWriter = {
  versions: [1, 2, 3],
  plan(source: TableSource, options: DialectOptions): TablePlan {
    requireAmd64(source);
    requireFormat(options);
    const { version = 3 } = options;
    return version === 1 ? flatPlan(source, options) : directoryPlan(source, options, version);
  },
};

function flatPlan(source: TableSource, options: DialectOptions): TablePlan {
  const window = amd64Window(source, options, { perEntry: 1, unit: FLAT_PAGES });
  const fixedParts = options.superpages !== 'attributes';
  const encoder = new Amd64LeafEncoder({ level: 1, exact: hasExactEntries(source), fixedParts });
  const table = flatTable(source, window, encoder);
  return { ...commonPlan(1, window.fromPage, writtenDirectMap(source)), table };
}

function directoryPlan(source: TableSource, options: DialectOptions, version: number): TablePlan {
  const window = amd64Window(source, options, { perEntry: 512, unit: DIRECTORY_PAGES });
  const directMap = writtenDirectMap(source);
  // Made-up pages are no memory of the machine: the direct map is not to reach them. Version 2, whose bitmap counts from
  // PA 0 on, would have 128 MB of it for the 4 TB of a direct map.
  const spareFrom = version >= 3 ? Number(directMap.dmapend - directMap.dmapbase) : 0;
  const tables = pdeTable(source, window, hasExactEntries(source), spareFrom);
  const reached = directMapWithout(tables.spare, directMap);
  return { ...commonPlan(version, window.fromPage, reached), ...tables };
}

function commonPlan(
  version: number,
  fromPage: number,
  { dmapbase, dmapend }: WrittenDirectMap,
): Omit<TablePlan, 'table'> {
  const kernbase = kvaOf(fromPage, 0);
  return {
    version,
    kernbase,
    dumpAvail: version >= 3,
    wordBits: version >= 3 ? 64 : 8,
    bitOrder: 'little',
    header(sizes) {
      const bytes = new Uint8Array(HEADER_BYTES);
      amd64MinidumpHeader.write(bytes, 0, 'little', {
        ...{ magic: MAGIC, version, kernbase, dmapbase, dmapend },
        ...{ msgbufsize: sizes.msgbuf, bitmapsize: sizes.bitmap, pmapsize: sizes.table },
        dumpavailsize: sizes.dumpAvail,
      });
      return bytes;
    },
  };
}

/** Where the direct map would reach made-up pages all the same, it ends where they start, behind all RAM. */
function directMapWithout(
  spare: SparePages | undefined,
  { dmapbase, dmapend }: WrittenDirectMap,
): WrittenDirectMap {
  const reach = dmapbase + BigInt(spare?.pa ?? 0);
  return spare && reach < dmapend ? { dmapbase, dmapend: reach } : { dmapbase, dmapend };
}

/** Whether exact entries of the source's mappings are amd64's: those of a minidump's or an image's own tables are. */
function hasExactEntries({ source: { machine, addressSpace } }: TableSource): boolean {
  return (addressSpace.pteFormat ?? machine.pteFormat) === amd64Format.name;
}

/** There is one: who asks for another has a machine of another architecture in mind. */
function requireFormat({ pteFormat = amd64Format.name }: DialectOptions): void {
  if (pteFormat === amd64Format.name) return;
  throw new KvmError('INVALID_ARGUMENT', `${pteFormat} is not a page-table format of amd64`, {
    field: 'pteFormat',
    hint: `it is ${amd64Format.name}`,
  });
}

function requireAmd64(source: TableSource): void {
  const { architecture, bits, byteOrder, pageSize } = source.source.machine;
  if (architecture === 'amd64' && bits === 64 && byteOrder === 'little' && pageSize === 4096) return;
  throw new KvmError(
    'UNSUPPORTED',
    `a FreeBSD/amd64 minidump cannot be of a machine that is ${architecture}, ${bits} bits, ` +
      `${byteOrder}-endian, with pages of ${toHex(pageSize)}`,
    { field: 'architecture', hint: 'write the minidump of its own architecture, or the portable format' },
  );
}

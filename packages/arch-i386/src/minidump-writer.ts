import {
  flatTable,
  kvaOf,
  KvmError,
  tableWindow,
  toHex,
  type DialectOptions,
  type MinidumpWriter,
  type TablePlan,
  type TableSource,
} from '@libkvm/minidump-core';
import { i386MinidumpHeader } from './header.js';
import { I386LeafEncoder } from './leaf-encoder.js';

/** `minidump FreeBSD/i386`, as in the header. */
export const MAGIC = 'minidump FreeBSD/i386';
/** sizeof(struct minidumphdr). */
const HEADER_BYTES = 52;
/** Pages that a page of entries stands for: what one entry of a page directory does. */
const UNIT = { nopae: 1024, pae: 512 };

type PteFormat = keyof typeof UNIT;

/**
 * Writes FreeBSD/i386 minidumps as the kernel does (sys/i386/i386/minidump_machdep_base.c): an entry for each 4 KB, of 4
 * bytes without PAE and of 8 with it (`pteFormat`: `nopae`, `pae`), superpages in parts.
 *
 * Exact entries are kept. Rights that upper levels take away are taken away in them, since no upper level is in the file;
 * the kernel's dumper does not do that. Entries without PAE have no bit that denies execution.
 */
export const i386MinidumpWriter: MinidumpWriter = {
  versions: [1, 2],
  plan(source: TableSource, options: DialectOptions): TablePlan {
    requireI386(source);
    const { version = 2, superpages } = options;
    const found = sourceFormat(source);
    const pteFormat = chosenFormat(options.pteFormat ?? (found === '' ? 'pae' : found));
    const encoder = new I386LeafEncoder({
      pae: pteFormat === 'pae',
      exact: found === pteFormat,
      fixedParts: superpages !== 'attributes',
    });
    const window = tableWindow(source, options, UNIT[pteFormat]);
    countDirectMap(source);
    const kernbase = kvaOf(window.fromPage, 0);
    return {
      ...{ version, kernbase, dumpAvail: version >= 2, bitOrder: 'little' },
      wordBits: version >= 2 ? 32 : 8,
      table: flatTable(source, window, encoder),
      header(sizes) {
        const bytes = new Uint8Array(HEADER_BYTES);
        i386MinidumpHeader.write(bytes, 0, 'little', {
          ...{ magic: MAGIC, version, kernbase: Number(kernbase), paemode: pteFormat === 'pae' ? 1 : 0 },
          ...{ msgbufsize: sizes.msgbuf, bitmapsize: sizes.bitmap, ptesize: sizes.table },
          dumpavailsize: sizes.dumpAvail,
        });
        return bytes;
      },
    };
  },
};

/** The format of the source's own entries; empty where it does not say. */
function sourceFormat({ source: { machine, addressSpace } }: TableSource): string {
  return addressSpace.pteFormat ?? machine.pteFormat;
}

function chosenFormat(name: string): PteFormat {
  if (name === 'pae' || name === 'nopae') return name;
  throw new KvmError('INVALID_ARGUMENT', `${name} is not a page-table format of i386`, {
    field: 'pteFormat',
    hint: 'it is one of nopae, pae',
  });
}

/** No i386 kernel of FreeBSD has a direct map, and the header has no place for one. */
function countDirectMap({ source: { machine }, losses }: TableSource): void {
  if (machine.directMap === undefined) return;
  const { base, end } = machine.directMap;
  losses.add('directMap', 'the direct map: FreeBSD/i386 has none', Number(end - base));
}

function requireI386(source: TableSource): void {
  const { architecture, bits, byteOrder, pageSize } = source.source.machine;
  if (architecture === 'i386' && bits === 32 && byteOrder === 'little' && pageSize === 4096) return;
  throw new KvmError(
    'UNSUPPORTED',
    `a FreeBSD/i386 minidump cannot be of a machine that is ${architecture}, ${bits} bits, ` +
      `${byteOrder}-endian, with pages of ${toHex(pageSize)}`,
    { field: 'architecture', hint: 'write the minidump of its own architecture, or the portable format' },
  );
}

import {
  KvmError,
  kvaOf,
  tableWindow,
  toHex,
  type DialectOptions,
  type TableSource,
  type TableWindow,
} from '@libkvm/minidump-core';
import { HOLE_4_LEVEL, HOLE_5_LEVEL, inHole } from './canonical.js';

/** The first page of the upper canonical half. */
const UPPER_HALF = 2 ** 51;
/** pmapsize has 32 bits. */
const MAX_TABLE = 0xffff_ffff;

/** How much of the address space a table section covers by the entry, and in what units. */
export interface Coverage {
  /** Pages of 4 KB that one entry of 8 bytes stands for. */
  readonly perEntry: 1 | 512;
  /** Pages that one 4 KB page of entries stands for: where the section may start. */
  readonly unit: number;
}

/**
 * The KVAs that the table section covers. Where the kernbase of the source lies so low that the section would be too
 * large, and none was asked for, it starts at the first mapping.
 *
 * @throws KvmError `UNSUPPORTED` for mappings in both canonical halves or in none, or so far from each other that no header
 *   can give the size of the section; `INVALID_ARGUMENT` when something is mapped below the kernbase asked for
 */
export function amd64Window(
  source: TableSource,
  options: DialectOptions,
  { perEntry, unit }: Coverage,
): TableWindow {
  const { fromPage, toPage } = source;
  if (fromPage < UPPER_HALF && toPage > UPPER_HALF)
    throw badMapping(
      source,
      'and KVAs of the other canonical half too: there is one table, from kernbase on',
    );
  if (fromPage < HOLE_5_LEVEL.toPage && toPage > HOLE_5_LEVEL.fromPage)
    throw badMapping(source, 'and KVAs that no amd64 has');
  const tooLarge = (window: TableWindow): boolean =>
    ((window.toPage - window.fromPage) / perEntry) * 8 > MAX_TABLE;
  let window = tableWindow(source, options, unit);
  if (tooLarge(window) && options.kernbase === undefined)
    window = tableWindow(source, { ...options, kernbase: kvaOf(fromPage, 0) }, unit);
  if (tooLarge(window)) throw tooFar(window, ((window.toPage - window.fromPage) / perEntry) * 8);
  requireTellable(source, window);
  return window;
}

/**
 * Readers tell kernels with 5-level paging by the addresses in the header: a table that starts below the hole of 4-level
 * paging and ends in it would lose its upper part.
 */
function requireTellable({ source, toPage }: TableSource, window: TableWindow): void {
  if (inHole(HOLE_4_LEVEL, window.fromPage) || !inHole(HOLE_4_LEVEL, toPage - 1)) return;
  const { directMap } = source.machine;
  const ends = directMap ? [directMap.base, directMap.end - 1n] : [];
  if (ends.some((kva) => inHole(HOLE_4_LEVEL, Number(kva >> 12n)))) return;
  const edge = kvaOf(HOLE_4_LEVEL.fromPage, 0);
  throw new KvmError(
    'UNSUPPORTED',
    `KVAs below and above ${toHex(edge)}: the header cannot tell that such a kernel has 5-level paging`,
    {
      address: edge,
      addressSpace: 'virtual',
      hint: `choose KVAs on one side of ${toHex(edge)} (--kva), or write the portable format`,
    },
  );
}

function badMapping(source: TableSource, what: string): KvmError {
  const [first] = source.mappings();
  const kva = kvaOf(first.page, first.offset);
  return new KvmError(
    'UNSUPPORTED',
    `a FreeBSD/amd64 minidump cannot hold the mapping at ${toHex(kva)} to ${toHex(first.pa)} ${what}`,
    {
      address: kva,
      addressSpace: 'virtual',
      physicalAddress: first.pa,
      hint: 'choose one half, e.g. that of the kernel (--kva 0x8000000000000000-), or write the portable format',
    },
  );
}

function tooFar({ fromPage, toPage }: TableWindow, bytes: number): KvmError {
  const last = kvaOf(toPage - 1, 0xfff);
  return new KvmError(
    'UNSUPPORTED',
    `the page-table section for ${toHex(kvaOf(fromPage, 0))} to ${toHex(last)} would have ${toHex(bytes)} bytes, ` +
      '4 GB or more',
    {
      field: 'table',
      address: kvaOf(fromPage, 0),
      addressSpace: 'virtual',
      hint: 'choose a smaller window of KVAs (--kva), a version with larger entries, or write the portable format',
    },
  );
}

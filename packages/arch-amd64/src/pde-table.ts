import {
  KVA_PAGE,
  KvmError,
  PageBitmap,
  PieceBuffer,
  zeros,
  type SectionPlan,
  type SparePages,
  type TableSource,
  type TableWindow,
} from '@libkvm/minidump-core';
import { Directory, LARGE_PAGE, TABLE_ENTRIES, type DirectoryRun } from './directory.js';

/** Pages of KVA that one page of entries stands for: 1 GB. */
export const DIRECTORY_PAGES = TABLE_ENTRIES * TABLE_ENTRIES;

/** The table section of versions 2 and 3, and the page tables that it names. */
export interface PdeTable {
  readonly table: SectionPlan;
  /** PAs of page tables of the source. */
  readonly tablePages: Iterable<number>;
  /** Page tables that are made up. */
  readonly spare?: SparePages;
}

/** What a walk of the directory came to: tells whether the source changed since the last one. */
class Outline {
  /** Page tables that have to be made up. */
  made = 0;
  /** Of where which entries are, and which tables of the source they name. */
  private digest = 0;

  add({ kind, page, count, tablePa }: DirectoryRun): void {
    if (kind === 'made') this.made++;
    const what = kind === 'pages' ? 0 : kind === 'made' ? 1 : 2 + tablePa / KVA_PAGE;
    for (const part of [what, page, count]) {
      this.digest = (this.digest * DIGEST_FACTOR + (part % DIGEST_PRIME)) % DIGEST_PRIME;
    }
  }

  /** @throws KvmError `IO` when another walk came to something else */
  requireSame({ made, digest }: Outline): void {
    if (made !== this.made || digest !== this.digest) throw changed();
  }
}

/** The largest prime below 2^31, and a factor that keeps products exact. */
const DIGEST_PRIME = 2 ** 31 - 1;
const DIGEST_FACTOR = 65_599;

/**
 * Plans the table section of versions 2 and 3: an entry for each 2 MB from kernbase on (minidump_machdep.c of 9.0 and
 * later). Page tables of the source are named where they hold nothing else than the dump's mappings; others are made up
 * behind all RAM.
 *
 * Page tables without a mapping, which kernels keep in stock, are left out.
 *
 * @throws KvmError `UNSUPPORTED` when there is no room for page tables below 2^52
 */
export function pdeTable(
  source: TableSource,
  window: TableWindow,
  exact: boolean,
  spareFrom: number,
): PdeTable {
  const directory = new Directory(source, exact);
  const tables = new PageBitmap(source.source.memory.ranges);
  const planned = new Outline();
  for (const run of directory.runs(source.losses)) {
    planned.add(run);
    if (run.kind === 'real') tables.addPage(run.tablePa);
  }
  const pa = planned.made > 0 ? placeFor(source, planned.made, spareFrom) : 0;
  return {
    table: {
      name: 'table',
      length: ((window.toPage - window.fromPage) / TABLE_ENTRIES) * 8,
      produce: () => entries(directory, window, pa, planned),
    },
    tablePages: { [Symbol.iterator]: () => pagesOf(tables) },
    ...(planned.made > 0 && {
      spare: { pa, pages: planned.made, produce: () => madeTables(directory, planned) },
    }),
  };
}

function placeFor(source: TableSource, pages: number, from: number): number {
  const bytes = pages * KVA_PAGE;
  const pa = source.sparePlace(bytes, from) ?? source.sparePlace(bytes);
  if (pa !== undefined) return pa;
  throw new KvmError('UNSUPPORTED', `there is no room for ${pages} page tables behind all RAM, below 2^52`, {
    field: 'table',
    hint: 'choose a smaller window of KVAs (--kva), version 1, or the portable format',
  });
}

function* pagesOf(tables: PageBitmap): Generator<number, void, undefined> {
  for (const { pa, length } of tables.runs()) for (let at = 0; at < length; at += KVA_PAGE) yield pa + at;
}

function* entries(
  directory: Directory,
  window: TableWindow,
  sparePa: number,
  planned: Outline,
): Generator<Uint8Array, void, undefined> {
  const buffer = new PieceBuffer();
  const found = new Outline();
  let page = window.fromPage;
  for (const run of directory.runs()) {
    if (run.page < page || run.page + run.count * TABLE_ENTRIES > window.toPage) throw changed();
    yield* zeros(buffer, ((run.page - page) / TABLE_ENTRIES) * 8);
    page = run.page + run.count * TABLE_ENTRIES;
    yield* entriesOf(buffer, run, run.kind === 'made' ? sparePa + found.made * KVA_PAGE : 0);
    found.add(run);
  }
  found.requireSame(planned);
  yield* zeros(buffer, ((window.toPage - page) / TABLE_ENTRIES) * 8);
  yield buffer.take();
}

/** The entries of a run; `tablePa` is added to them. */
function* entriesOf(
  buffer: PieceBuffer,
  { count: entryCount, pde }: DirectoryRun,
  tablePa: number,
): Generator<Uint8Array, void, undefined> {
  let low = pde.low + (tablePa % 0x1_0000_0000);
  let high = pde.high + Math.floor(tablePa / 0x1_0000_0000);
  for (let i = 0; i < entryCount; i++) {
    if (buffer.room === 0) yield buffer.take();
    buffer.view.setUint32(buffer.at, low, true);
    buffer.view.setUint32(buffer.at + 4, high, true);
    buffer.at += 8;
    low += LARGE_PAGE;
    if (low > 0xffff_ffff) {
      low -= 0x1_0000_0000;
      high++;
    }
  }
}

function* madeTables(directory: Directory, planned: Outline): Generator<Uint8Array, void, undefined> {
  const buffer = new PieceBuffer();
  const found = new Outline();
  for (const run of directory.runs()) {
    found.add(run);
    if (run.kind !== 'made') continue;
    if (buffer.room === 0) yield buffer.take();
    for (let i = 0; i < run.table.length; i++) buffer.view.setUint32(buffer.at + i * 4, run.table[i], true);
    buffer.at += KVA_PAGE;
  }
  found.requireSame(planned);
  yield buffer.take();
}

function changed(): KvmError {
  return new KvmError('IO', 'the page tables changed between planning and writing', {
    field: 'table',
    hint: 'plan again',
  });
}

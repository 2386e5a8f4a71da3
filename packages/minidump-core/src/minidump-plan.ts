import type { Section } from './core.js';
import type { MinidumpDialect } from './dialect.js';
import type { DumpPlan } from './dump-plan.js';
import { bytesSection, exactly, type SectionPlan } from './dump-sections.js';
import type { DumpSource } from './dump-source.js';
import { KvmError, toHex } from './errors.js';
import { Losses, lossText } from './losses.js';
import { roundUp, type SectionSizes } from './minidump-layout.js';
import type { DialectOptions, TablePlan } from './minidump-writer.js';
import { PageBitmap } from './page-bitmap.js';
import { PageRanges } from './page-ranges.js';
import { PageSelection, requireSoundTables, type Selection } from './page-selection.js';
import { pagesSection, rangesSection, type SparePages } from './plan-sections.js';
import { ringTailSection } from './ring-tail.js';
import { sparePlace } from './spare-place.js';

/** Minidumps of all dialects that are written have pages of 4 KB. */
const PAGE = 4096;
/** The header has 32 bits for the size of a section. */
const MAX_SECTION = 0xffff_ffff;

/** How a FreeBSD minidump is planned. */
export interface MinidumpOptions extends Selection, DialectOptions {
  /** Plan even over page tables that are too damaged to be trusted. Off unless asked for. */
  readonly tolerateDamage?: boolean;
  /** Leave out, and count, mappings that the dialect cannot hold. Off unless asked for: they are refused. */
  readonly leaveOut?: boolean;
}

/**
 * Plans a minidump as a FreeBSD kernel writes it (sys/kern/kern_dump.c and the cpu_minidumpsys of each architecture), from
 * any source: walks its page tables, decides which pages go in, and knows every size.
 *
 * Pages in the dump: as in `planPortable`, and the page-table pages that the dialect refers to (amd64 versions 2 and 3).
 * Where the source has none, they are made up behind all RAM.
 *
 * @throws KvmError `UNSUPPORTED` for what the dialect cannot hold (the message says what, the hint what to do), `CORRUPT`
 *   when the page tables are too damaged, `INVALID_ARGUMENT`
 * @example
 * const plan = planMinidump(dumpSourceOf(core), amd64Minidump, { version: 2 });
 * writeDumpSync(plan, sink);
 */
export function planMinidump(
  source: DumpSource,
  dialect: MinidumpDialect,
  options: MinidumpOptions = {},
): DumpPlan {
  const selection = new PageSelection(source, options);
  if (options.tolerateDamage !== true) requireSoundTables(selection);
  const losses = new Losses(options.leaveOut);
  const table = planTable(selection, dialect, losses, options);
  const bitmap = dumpBitmap(selection, table);
  const { plans, sizes } = sectionPlans(selection, table, bitmap, losses);
  const sections = place(plans);
  const last = sections[sections.length - 1];
  const size = last.offset + last.length;
  const pageBytes = bitmap.count * PAGE;
  return {
    size,
    sections,
    report: {
      format: 'freebsd',
      version: table.version,
      architecture: source.machine.architecture,
      size,
      ...selection.report,
      pages: bitmap.count,
      metadataBytes: size - pageBytes,
      metadataShare: (size - pageBytes) / size,
      tables: { bytes: sizes.table, pages: tablePageCount(table) },
      losses: losses.list.map(lossText),
      lossList: losses.list,
      ...(table.spare && { remarks: [spareText(table.spare)] }),
    },
    bytes: () => fileBytes(plans),
  };
}

function spareText({ pa, pages }: SparePages): string {
  return `${pages} page tables were made; they lie at PA ${toHex(pa)}, behind all RAM, where no mapping leads`;
}

function planTable(
  selection: PageSelection,
  dialect: MinidumpDialect,
  losses: Losses,
  options: MinidumpOptions,
): TablePlan {
  const { writer } = dialect;
  if (writer === undefined) {
    throw new KvmError('UNSUPPORTED', `${dialect.name} can be read, not written`, { field: 'format' });
  }
  const { version } = options;
  if (version !== undefined && !writer.versions.includes(version)) {
    throw new KvmError('UNSUPPORTED', `${dialect.name} has no version ${version}`, {
      field: 'version',
      hint: `known are ${writer.versions.join(', ')}`,
    });
  }
  const end = selection.bitmap.ranges.ranges.at(-1)?.end ?? 0;
  const sparePa = roundUp(end, Math.max(PAGE, selection.bitmap.ranges.pageSize));
  return writer.plan(
    {
      source: selection.source,
      fromPage: selection.mappedFrom,
      toPage: selection.mappedTo,
      sparePa,
      sparePlace: (bytes, from = 0) =>
        sparePlace(Math.max(sparePa, roundUp(from, PAGE)), bytes, () => selection.mappings()),
      losses,
      mappings: () => selection.mappings(),
      holdsPage: (pa) => selection.holdsPage(pa),
    },
    options,
  );
}

/** The pages of the dump, counted as the dialect counts them: over dump_avail, or from PA 0 on. */
function dumpBitmap(selection: PageSelection, { dumpAvail, tablePages, spare }: TablePlan): PageBitmap {
  for (const pa of tablePages ?? []) selection.bitmap.addPage(pa);
  const ranges = selection.bitmap.ranges.ranges.map(({ start, end }) => ({
    start: Math.floor(start / PAGE) * PAGE,
    end: roundUp(end, PAGE),
  }));
  if (spare) ranges.push({ start: spare.pa, end: spare.pa + spare.pages * PAGE });
  const end = ranges.at(-1)?.end ?? 0;
  const bitmap = new PageBitmap(
    new PageRanges(dumpAvail ? ranges : end > 0 ? [{ start: 0, end }] : [], PAGE),
  );
  for (const { pa, length } of selection.bitmap.runs()) bitmap.addRun(pa, length);
  if (spare) bitmap.addRun(spare.pa, spare.pages * PAGE);
  return bitmap;
}

function sectionPlans(
  { source }: PageSelection,
  table: TablePlan,
  bitmap: PageBitmap,
  losses: Losses,
): { plans: SectionPlan[]; sizes: SectionSizes } {
  const { memory, machine, messageBuffer } = source;
  const ring = ringTailSection(machine, messageBuffer, losses);
  const ranges = rangesSection(bitmap.ranges, machine.byteOrder);
  const sizes = {
    msgbuf: messageBuffer?.ring.size ?? 0,
    dumpAvail: table.dumpAvail ? roundUp(ranges.length, PAGE) : 0,
    bitmap: roundUp(bitmap.byteLength(table.wordBits), PAGE),
    table: table.table.length,
  };
  for (const [name, size] of Object.entries(sizes)) requireSize(name, size);
  const header = new Uint8Array(PAGE);
  header.set(table.header(sizes));
  const plans = [
    bytesSection('header', header),
    ring,
    ...(table.dumpAvail ? [{ ...ranges, name: 'dumpAvail' }] : []),
    { name: 'bitmap', length: sizes.bitmap, produce: () => bitmap.bytes(sizes.bitmap, table.bitOrder) },
    table.table,
    pagesSection(bitmap, memory, table.spare),
  ];
  for (const name of Object.keys(source.notes ?? {})) {
    losses.add('note', `the note ${name} is left out: FreeBSD minidumps have no place for it`);
  }
  return { plans, sizes };
}

function requireSize(name: string, size: number): void {
  if (size <= MAX_SECTION) return;
  throw new KvmError('UNSUPPORTED', `the section ${name} would have ${toHex(size)} bytes, 4 GB or more`, {
    field: name,
    hint:
      name === 'table'
        ? 'choose a smaller window of KVAs (--kva), a version with larger entries, or write the portable format'
        : 'write the portable format',
  });
}

function tablePageCount({ tablePages, spare }: TablePlan): number {
  let count = spare?.pages ?? 0;
  for (const _ of tablePages ?? []) count++;
  return count;
}

function place(plans: readonly SectionPlan[]): Section[] {
  let end = 0;
  return plans.map(({ name, length }) => {
    const section = { name, offset: end, length };
    end += roundUp(length, PAGE);
    return section;
  });
}

function* fileBytes(plans: readonly SectionPlan[]): Generator<Uint8Array, void, undefined> {
  const zeros = new Uint8Array(PAGE);
  for (const plan of plans) {
    yield* exactly(plan);
    const padding = roundUp(plan.length, PAGE) - plan.length;
    if (padding > 0) yield zeros.subarray(0, padding);
  }
}

import Table from 'cli-table3';
import { toHex, type Core } from '@libkvm/minidump-core';
import type { Kvm } from '@libkvm/kvm-reader';
import type { KernelFacts } from '@libkvm/kvm-reader';
import { dumpRows } from './dump-facts.js';
import { visibleLine, type Output } from './output.js';
import { bytesInUnits, inUnits, plural, sheet } from './text.js';

type Row = readonly [name: string, value: string];

/** More memory ranges than this are counted instead of listed. */
const MAX_RANGES = 40;
const NO_BORDERS = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'],
  ].map((name) => [name, '']),
);

/** The file that was opened. */
export interface CoreFile {
  readonly path: string;
  readonly size: number;
}

/** What `vmcore info` says to people. */
export function infoSheet(file: CoreFile, kvm: Kvm, kernel: KernelFacts | undefined, out: Output): string {
  const { core } = kvm;
  const { colors } = out;
  const title = (text: string): string => `\n${colors.bold(text)}\n`;
  const rows = [
    ...fileRows(file, core),
    ...machineRows(core),
    ...dumpRows(core),
    ...noteRows(core),
    ...kernelRows(kernel),
  ];
  const shown = rows.map(([name, value]): Row => [name, visibleLine(value)]);
  const warnings = core.warnings.map((text) => `${colors.yellow('!')} ${visibleLine(text)}\n`);
  return [
    sheet(shown, colors.bold),
    title('Sections') + sections(core),
    title('Physical memory') + ranges(core),
    ...(warnings.length > 0 ? [title('Warnings'), ...warnings] : []),
  ].join('');
}

function fileRows({ path, size }: CoreFile, core: Core): Row[] {
  const version = core.version === undefined ? '' : `, version ${core.version}`;
  return [
    ['File', path],
    ['Size', bytesInUnits(size)],
    ['Format', `${core.format}${version}`],
    ['Pages', pageCounts(core)],
  ];
}

function pageCounts({ memory }: Core): string {
  const { dumped, missing, partial } = memory.pages;
  const bytes = inUnits(dumped * memory.pageSize);
  const counts = [`${dumped} in the core${bytes === '' ? '' : ` (${bytes})`}`];
  if (missing > 0) counts.push(`${missing} of them missing behind the end of the file`);
  if (partial > 0) counts.push(`${partial} cut by it`);
  return counts.join(', ');
}

function machineRows(core: Core): Row[] {
  const { architecture, bits, byteOrder, pageSize, pteFormat, kernbase, directMap } = core;
  const rows: Row[] = [
    ['Machine', `${architecture}, ${bits}-bit, ${byteOrder}-endian`],
    ['Page size', bytesInUnits(pageSize)],
  ];
  if (pteFormat !== undefined) rows.push(['Page tables', pteFormat]);
  if (kernbase !== undefined) rows.push(['Kernbase', toHex(kernbase)]);
  if (directMap) {
    const { base, end, phys } = directMap;
    rows.push(['Direct map', `${toHex(base)} to ${toHex(end)}, from PA ${toHex(phys)} on`]);
  }
  return rows;
}

function noteRows({ notes = {} }: Core): Row[] {
  return Object.entries(notes).map(([name, value]): Row => [name, value.trimEnd()]);
}

function kernelRows(kernel: KernelFacts | undefined): Row[] {
  if (kernel === undefined) return [];
  const { verdict, reason, buildId, version, osrelease, panic } = kernel;
  const rows: Row[] = [['Kernel', `${verdict}: ${reason}`]];
  if (buildId !== undefined) rows.push(['Build id', buildId]);
  if (osrelease !== undefined) rows.push(['Release', osrelease]);
  if (version !== undefined) rows.push(['Version', version.trimEnd().replace(/\n\s*/g, ', ')]);
  if (panic !== undefined) rows.push(['Panic', panic ?? 'none']);
  return rows;
}

function sections(core: Core): string {
  const rows = core.sections.map(({ name, offset, length }) => [
    ...[name, toHex(offset), String(length), inUnits(length)],
  ]);
  return columns([['name', 'offset', 'bytes', ''], ...rows], [2, 3]);
}

function ranges({ memory }: Core): string {
  const list = memory.ranges.ranges;
  const total = list.reduce((sum, { start, end }) => sum + (end - start), 0);
  const rows = list
    .slice(0, MAX_RANGES)
    .map(({ start, end }) => [...[toHex(start), toHex(end), String(end - start), inUnits(end - start)]]);
  const more = list.length > MAX_RANGES ? `and ${list.length - MAX_RANGES} more, see --json\n` : '';
  const sum = `${plural(list.length, 'range')}, ${bytesInUnits(total)}\n`;
  return columns([['start', 'end', 'bytes', ''], ...rows], [2, 3]) + more + sum;
}

/** Rows as aligned columns, those named to the right. */
function columns(rows: readonly (readonly string[])[], right: readonly number[]): string {
  const table = new Table({
    chars: { ...NO_BORDERS, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: rows[0].map((_, i) => (right.includes(i) ? 'right' : 'left')),
  });
  for (const row of rows) table.push([...row]);
  return `${table.toString().replace(/ +$/gm, '')}\n`;
}

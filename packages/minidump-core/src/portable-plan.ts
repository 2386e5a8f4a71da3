import { bytesSection, PieceBuffer, type SectionPlan } from './dump-sections.js';
import { kvaOf } from './kva.js';
import { MappingRuns } from './mapping-runs.js';
import type { PageSelection } from './page-selection.js';
import { pagesSection, rangesSection, ringSection } from './plan-sections.js';
import { MAX_NOTE, NOTE_SECTIONS, portableSegment } from './portable-header.js';
import { SegmentBuilder, type Segment, type SegmentOptions, type SegmentVisitor } from './segment-builder.js';

/** Options of the portable format. */
export interface PortableOptions {
  /** Make RUN segments, one leaf for a whole run: on unless turned off, then every granule has a leaf of its own. */
  readonly run?: boolean;
  /** Keep the exact hardware entries in a section of their own. Off unless asked for. */
  readonly exact?: boolean;
}

/** The table sections in numbers. */
export interface SegmentReport {
  readonly segments: number;
  readonly leaves: number;
  /** Bytes of segments, leaves and exact entries as written. */
  readonly bytes: number;
  /** Bytes they would have with FLAT segments alone. */
  readonly flatBytes: number;
}

/** The sections of a portable minidump between its header and its trailer, in file order. */
export interface PortableSections {
  readonly sections: readonly SectionPlan[];
  readonly tables: SegmentReport;
  /** Width of the exact entries, 0 without them. */
  readonly entryBits: number;
  /** What the format cannot hold of the source, a sentence each. */
  readonly losses: readonly string[];
}

/** Plans the sections of a portable minidump: one walk over the mappings, which counts. */
export function planPortableSections(
  selection: PageSelection,
  options: PortableOptions = {},
): PortableSections {
  const { source } = selection;
  const exact = options.exact ?? false;
  const base = { granuleShift: Math.log2(source.machine.pageSize) };
  const chosen = { ...base, run: options.run ?? true };
  const counted = new SegmentBuilder(chosen);
  const flat = new SegmentBuilder({ ...base, run: false });
  let entryBits = 0;
  const runs = new MappingRuns(exact, (run) => {
    counted.add(run);
    flat.add(run);
  });
  for (const mapping of selection.mappings()) {
    runs.add(mapping);
    entryBits = Math.max(entryBits, mapping.entryBits);
  }
  runs.end();
  counted.end();
  flat.end();
  const keepsEntries = exact && entryBits > 0;
  const losses: string[] = [];
  if (exact && !keepsEntries) losses.push('exact entries were asked for; the source has none');
  const notes = Object.entries(source.notes ?? {}).flatMap(([name, text]) => noteSection(name, text, losses));
  const sizes = (builder: SegmentBuilder): number =>
    builder.segments * portableSegment.size + builder.leaves * 8 * (keepsEntries ? 2 : 1);
  const walk = (visitor: SegmentVisitor): Iterable<void> => walkSegments(selection, exact, chosen, visitor);
  return {
    sections: [
      ringSection(source.messageBuffer?.ring),
      rangesSection(selection.bitmap.ranges, 'little'),
      {
        name: 'bitmap',
        length: selection.bitmap.byteLength(64),
        produce: () => selection.bitmap.bytes(selection.bitmap.byteLength(64), 'little'),
      },
      {
        name: 'segments',
        length: counted.segments * portableSegment.size,
        produce: () => segmentBytes(walk),
      },
      { name: 'leaves', length: counted.leaves * 8, produce: () => leafBytes(walk, false) },
      ...(keepsEntries
        ? [{ name: 'entries', length: counted.leaves * 8, produce: () => leafBytes(walk, true) }]
        : []),
      ...notes,
      pagesSection(selection.bitmap, source.memory),
    ],
    tables: {
      segments: counted.segments,
      leaves: counted.leaves,
      bytes: sizes(counted),
      flatBytes: sizes(flat),
    },
    entryBits: keepsEntries ? entryBits : 0,
    losses,
  };
}

type Walk = (visitor: SegmentVisitor) => Iterable<void>;

/** Repeats the walk; yields after each run, so that what the visitor collected can be handed on. */
function* walkSegments(
  selection: PageSelection,
  exact: boolean,
  options: SegmentOptions,
  visitor: SegmentVisitor,
): Generator<void, void, undefined> {
  const builder = new SegmentBuilder(options, visitor);
  let whole = 0;
  const runs = new MappingRuns(exact, (run) => {
    builder.add(run);
    whole++;
  });
  for (const mapping of selection.mappings()) {
    runs.add(mapping);
    if (whole === 0) continue;
    whole = 0;
    yield;
  }
  runs.end();
  builder.end();
  yield;
}

/** The section `segments`: struct portableSegment, without its generic writer, for there may be millions. */
function* segmentBytes(walk: Walk): Generator<Uint8Array, void, undefined> {
  const queue: Segment[] = [];
  const buffer = new PieceBuffer();
  for (const _ of walk({ leaves: () => undefined, segment: (segment) => queue.push({ ...segment }) })) {
    for (const segment of queue.splice(0)) {
      if (buffer.room < portableSegment.size) yield buffer.take();
      putSegment(buffer, segment);
    }
  }
  yield buffer.take();
}

function putSegment(buffer: PieceBuffer, segment: Segment): void {
  const { view, at } = buffer;
  view.setBigUint64(at, kvaOf(segment.page, segment.offset), true);
  put64(view, at + 8, segment.count);
  put64(view, at + 16, segment.firstLeaf);
  view.setUint8(at + 24, segment.granuleShift);
  view.setUint8(at + 25, segment.kind);
  view.setUint16(at + 26, 0, true);
  view.setUint32(at + 28, 0, true);
  buffer.at += portableSegment.size;
}

interface LeafRun {
  low: number;
  high: number;
  pa: number;
  count: number;
  granule: number;
}

/** The section `leaves`, or the exact entries parallel to it. */
function* leafBytes(walk: Walk, exact: boolean): Generator<Uint8Array, void, undefined> {
  const queue: LeafRun[] = [];
  const buffer = new PieceBuffer();
  const visitor: SegmentVisitor = {
    segment: () => undefined,
    leaves: (run, count, granule) => {
      if (run === undefined) queue.push({ low: 0, high: 0, pa: 0, count, granule: 0 });
      else if (exact) queue.push({ low: run.entryLow, high: run.entryHigh, pa: 0, count, granule: 0 });
      else queue.push({ low: run.low, high: run.high, pa: run.pa, count, granule });
    },
  };
  for (const _ of walk(visitor)) {
    for (const run of queue.splice(0)) yield* runBytes(buffer, run);
  }
  yield buffer.take();
}

function* runBytes(buffer: PieceBuffer, { low, high, pa, count, granule }: LeafRun): Generator<Uint8Array> {
  let at = pa;
  for (let i = 0; i < count; i++) {
    if (buffer.room < 8) yield buffer.take();
    buffer.view.setUint32(buffer.at, (low | at) >>> 0, true);
    buffer.view.setUint32(buffer.at + 4, (high | (at / 0x1_0000_0000)) >>> 0, true);
    buffer.at += 8;
    at += granule;
  }
}

/** A section of text; none for a note that the format has no section for, or no room. */
function noteSection(name: string, text: string, losses: string[]): SectionPlan[] {
  const bytes = new TextEncoder().encode(text);
  if (NOTE_SECTIONS.includes(name) && bytes.length <= MAX_NOTE) return [bytesSection(name, bytes)];
  losses.push(
    `the note ${name} is left out: ` +
      (bytes.length > MAX_NOTE ? `it has ${bytes.length} bytes` : 'the format has no section for it'),
  );
  return [];
}

function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

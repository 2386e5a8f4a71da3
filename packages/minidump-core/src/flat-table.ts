import { KVA_PAGE, Mapping } from './address-space.js';
import { PieceBuffer, type SectionPlan } from './dump-sections.js';
import { KvmError, toHex } from './errors.js';
import { KvaParts, kvaOf } from './kva.js';
import { countFlagLosses, sizeText } from './leaf-losses.js';
import { Losses } from './losses.js';
import { roundUp } from './minidump-layout.js';
import type { DialectOptions, TableSource } from './minidump-writer.js';
import { ENTRY_LEAF, TableEntry, type RadixFormat } from './radix-format.js';
import type { ByteOrder } from './struct.js';
import { wholePages, type PageMapping } from './whole-pages.js';

/** An entry made for a mapping. */
export class EncodedLeaf {
  low = 0;
  high = 0;
  /** What to add for each next 4 KB of the same mapping: 4096, or 0 where hardware repeats the entry (ARM large pages). */
  step: 0 | 4096 = 4096;
}

/** How a dialect makes last-level entries, one for each 4 KB of KVA. */
export interface LeafEncoder {
  /** Reads back what is written: what a mapping loses is found by comparing. */
  readonly format: RadixFormat;
  readonly byteOrder: ByteOrder;
  /**
   * Bytes of the largest page whose entry is repeated for each 4 KB of it: mappings of such pages and larger ones are cut
   * at multiples of that PA, so that no more than one of these pages is encoded at a time.
   */
  readonly repeated?: number;
  /**
   * Makes the entry for the first 4 KB of a mapping, whose PA, length and KVA are multiples of 4 KB.
   *
   * @returns why it cannot be made, e.g. `its PA is above 4 GB`; undefined when it was
   */
  encode(mapping: PageMapping, out: EncodedLeaf): string | undefined;
  /** What an entry says of a PA in its page, where that differs from what it says of the page's start. */
  flagsAt?(leaf: EncodedLeaf, pa: number): number;
}

/** The window of KVAs that a table covers, in pages. */
export interface TableWindow {
  readonly fromPage: number;
  readonly toPage: number;
}

/**
 * The window of a table that starts at a multiple of `unit` pages: from the kernbase asked for; or the source's own, where
 * nothing is mapped below it; or the first mapping.
 *
 * @throws KvmError `INVALID_ARGUMENT` when something is mapped below the kernbase asked for, `NOT_CANONICAL` when the
 *   machine has no such address
 */
export function tableWindow(
  { source, fromPage, toPage }: TableSource,
  { kernbase }: DialectOptions,
  unit: number,
): TableWindow {
  const down = (page: number): number => Math.floor(page / unit) * unit;
  const pageOf = (kva: bigint): number => Number(BigInt.asUintN(source.machine.bits, kva) >> 12n);
  const end = (from: number): number => from + roundUp(Math.max(toPage - from, 0), unit);
  if (kernbase !== undefined) {
    const parts = new KvaParts(source.machine.bits);
    parts.set(kernbase);
    const from = down(parts.page);
    if (toPage > 0 && fromPage < from) {
      throw new KvmError('INVALID_ARGUMENT', `${toHex(kvaOf(fromPage, 0))} is mapped, below the kernbase`, {
        field: 'kernbase',
        address: kvaOf(fromPage, 0),
        addressSpace: 'virtual',
        hint: 'choose a lower kernbase, or a window of KVAs (--kva) that starts there',
      });
    }
    return { fromPage: from, toPage: end(from) };
  }
  const own = source.machine.kernbase;
  const first = own !== undefined && (toPage === 0 || pageOf(own) <= fromPage) ? pageOf(own) : fromPage;
  return { fromPage: down(first), toPage: end(down(first)) };
}

/**
 * A table section with one entry for each 4 KB of a window, zeros where nothing is mapped. Planning it walks the mappings
 * once, tries each, and counts what is lost.
 *
 * @throws KvmError `UNSUPPORTED` for a mapping that the entries cannot hold, unless such are left out
 */
export function flatTable(source: TableSource, window: TableWindow, encoder: LeafEncoder): SectionPlan {
  const check = new LeafCheck(encoder, source.losses);
  const leaf = new EncodedLeaf();
  let pages = 0;
  for (const mapping of encodable(source, encoder, source.losses))
    if (check.check(mapping, leaf)) pages += mapping.length / KVA_PAGE;
  const { entryBytes } = encoder.format;
  return {
    name: 'table',
    length: roundUp((window.toPage - window.fromPage) * entryBytes, KVA_PAGE),
    produce: () => tableBytes(source, window, encoder, pages),
  };
}

/** The mappings in parts that one call of an encoder does for. */
function* encodable(
  source: TableSource,
  { repeated = Infinity }: LeafEncoder,
  losses: Losses,
): Generator<PageMapping, void, undefined> {
  const part = new Mapping();
  for (const mapping of wholePages(source.mappings(), losses)) {
    const { page, pa, length, pageSize } = mapping;
    if (pageSize < repeated || (pa % repeated) + length <= repeated) {
      yield mapping;
      continue;
    }
    for (let done = 0; done < length; done += part.length) {
      Object.assign(part, mapping);
      part.page = page + done / KVA_PAGE;
      part.pa = pa + done;
      part.length = Math.min(length - done, repeated - (part.pa % repeated));
      yield part;
    }
  }
}

/** Encodes a mapping and compares what would be read back. */
export class LeafCheck {
  private readonly entry = new TableEntry();

  constructor(
    private readonly encoder: LeafEncoder,
    private readonly losses: Losses,
  ) {}

  /** False when the mapping cannot be held and is left out. */
  check(mapping: PageMapping, leaf: EncodedLeaf): boolean {
    const { encoder, losses, entry } = this;
    const reason = encoder.encode(mapping, leaf);
    if (reason !== undefined) {
      losses.mapping(mapping, reason);
      return false;
    }
    const { pageSize, length, pa } = mapping;
    encoder.format.decode(1, leaf.low, leaf.high, entry, 12);
    // The entry of a large page names the page's start.
    if (entry.kind !== ENTRY_LEAF || entry.pa !== Math.floor(pa / entry.size) * entry.size) {
      throw new Error(`the entry for ${toHex(pa)} reads back as ${toHex(entry.pa)}`);
    }
    this.checkFlags(mapping, leaf);
    if (entry.size !== pageSize)
      losses.add('pageSize', `pages of ${sizeText(pageSize)} become ${sizeText(entry.size)} ones`, length);
    this.checkExact(mapping, leaf, entry.size);
    return true;
  }

  private checkFlags({ pa, flags, quarters, pageSize, length }: PageMapping, leaf: EncodedLeaf): void {
    const made = (at: number): number => this.encoder.flagsAt?.(leaf, at) ?? this.entry.flags;
    if (quarters === undefined) return countFlagLosses(flags, made(pa), pageSize, length, this.losses);
    const bytes = length / quarters.length;
    quarters.forEach((own, i) => countFlagLosses(own, made(pa + i * bytes), pageSize, bytes, this.losses));
  }

  private checkExact(
    { entryBits, entryLow, entryHigh, length, pageSize }: Mapping,
    leaf: EncodedLeaf,
    size: number,
  ): void {
    if (entryBits === 0 || size !== pageSize) return;
    const sameWidth = entryBits === this.encoder.format.entryBytes * 8;
    if (sameWidth && entryLow >>> 0 === leaf.low >>> 0 && entryHigh >>> 0 === leaf.high >>> 0) return;
    this.losses.add('entry', 'exact entries: they are made anew', length);
  }
}

function* tableBytes(
  source: TableSource,
  { fromPage, toPage }: TableWindow,
  encoder: LeafEncoder,
  planned: number,
): Generator<Uint8Array, void, undefined> {
  const { entryBytes } = encoder.format;
  const little = encoder.byteOrder === 'little';
  const buffer = new PieceBuffer();
  const leaf = new EncodedLeaf();
  let page = fromPage;
  let pages = 0;
  // What is lost was counted when the table was planned.
  for (const mapping of encodable(source, encoder, new Losses(true))) {
    if (encoder.encode(mapping, leaf) !== undefined) continue;
    const count = mapping.length / KVA_PAGE;
    yield* zeros(buffer, (mapping.page - page) * entryBytes);
    yield* entries(buffer, leaf, count, entryBytes, little);
    page = mapping.page + count;
    pages += count;
  }
  if (pages !== planned) throw changed(planned, pages);
  const end = roundUp((toPage - fromPage) * entryBytes, KVA_PAGE);
  yield* zeros(buffer, end - (page - fromPage) * entryBytes);
  yield buffer.take();
}

function changed(planned: number, found: number): KvmError {
  return new KvmError('IO', `the table was planned with ${planned} entries and came to ${found}`, {
    field: 'table',
    hint: 'the source changed between planning and writing; plan again',
  });
}

function* entries(
  buffer: PieceBuffer,
  leaf: EncodedLeaf,
  count: number,
  entryBytes: 4 | 8,
  little: boolean,
): Generator<Uint8Array, void, undefined> {
  const lowAt = little || entryBytes === 4 ? 0 : 4;
  let { low, high } = leaf;
  low >>>= 0;
  for (let i = 0; i < count; i++) {
    if (buffer.room < entryBytes) yield buffer.take();
    const { view, at } = buffer;
    view.setUint32(at + lowAt, low, little);
    if (entryBytes === 8) view.setUint32(at + 4 - lowAt, high, little);
    buffer.at += entryBytes;
    low += leaf.step;
    if (low > 0xffff_ffff) {
      low -= 0x1_0000_0000;
      high++;
    }
  }
}

/** Zero bytes, as many as it takes. */
export function* zeros(buffer: PieceBuffer, length: number): Generator<Uint8Array, void, undefined> {
  for (let left = length; left > 0;) {
    if (buffer.room === 0) yield buffer.take();
    const count = Math.min(left, buffer.room);
    buffer.bytes.fill(0, buffer.at, buffer.at + count);
    buffer.at += count;
    left -= count;
  }
}

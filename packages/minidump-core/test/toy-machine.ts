import fc from 'fast-check';
import {
  ABSENT,
  BlockCache,
  PageRanges,
  TRUNCATED,
  type ByteOrder,
  type ByteSource,
  type PageCounts,
  type PhysicalMemory,
  type RadixFormat,
  type RadixRegion,
  type TableEntry,
} from '../src/index.js';
import { PlainSource } from './sources.js';

/**
 * A machine that no processor has, for tests of the radix walker: tables of 16 entries of 4 or 8 bytes. A level spans
 * 2^12, 2^16, 2^20 bytes an entry; a level-2 entry may name a fine table of 64 entries of 1 KB instead.
 *
 * Low word: bits 1:0 kind, 5:2 R W X U, 6 global, 7 "one of four entries for a page of four times the size", 8 fine
 * table, 9 free for software, 31:10 address. High word of 8 bytes: address above 2^32.
 */
export interface ToyEntry {
  kind: 0 | 1 | 2 | 3;
  pa: number;
  /** READ, WRITE, EXECUTE, USER, GLOBAL. */
  flags: number;
  repeated: boolean;
  fine: boolean;
  software: boolean;
}

const BITS = { repeated: 0x80, fine: 0x100, software: 0x200 };
const KB = 1024;

export function toyFormat(entryBytes: 4 | 8): RadixFormat {
  return {
    name: 'toy',
    entryBytes,
    decode(level: number, low: number, high: number, out: TableEntry, shift: number): void {
      const kind = low & 3;
      const flags = (low >>> 2) & 0x1f;
      const pa = high * 2 ** 32 + ((low & ~(KB - 1)) >>> 0);
      if (kind === 0) out.setInvalid();
      else if (kind === 3 || (kind === 1 && level === 1)) out.setUnsupported();
      else if (kind === 1 && level === 2 && (low & BITS.fine) !== 0) out.setTable(pa, 10, 64, flags);
      else if (kind === 1) out.setTable(pa, shift - 4, 16, flags);
      else {
        const size = 2 ** shift * ((low & BITS.repeated) !== 0 ? 4 : 1);
        out.setLeaf(pa - (pa % size), size, flags);
      }
    },
  };
}

export function encodeToy(entry: ToyEntry): bigint {
  const bits =
    entry.kind +
    entry.flags * 4 +
    (entry.repeated ? BITS.repeated : 0) +
    (entry.fine ? BITS.fine : 0) +
    (entry.software ? BITS.software : 0);
  return BigInt(entry.pa - (entry.pa % KB)) + BigInt(bits);
}

/** Bytes `[from, to)` of a page, at an offset of the file. */
interface Piece {
  from: number;
  to: number;
  at: number;
}

/** A page in one piece, so many pages from the start of the file. */
export const whole = (place: number): Piece => ({ from: 0, to: 4096, at: place * 4096 });

/** Pages, whole or in pieces, at any places of a file, in any order. Nothing is asked of it that it was not told. */
export class ToyMemory implements PhysicalMemory {
  readonly pageSize = 4096;
  readonly fileOffsets = true;
  readonly byteExact: boolean;
  readonly pages: PageCounts;
  readonly ranges = new PageRanges([], 4096);
  /** Called before each look-up; may throw. */
  stumble: () => void = () => undefined;

  constructor(
    readonly cache: BlockCache,
    /** Where the pieces of a page frame are. */
    readonly pieces: ReadonlyMap<number, readonly Piece[]>,
  ) {
    this.pages = { dumped: pieces.size, missing: 0, partial: 0 };
    this.byteExact = [...pieces.values()].some(([first]) => first?.to !== 4096);
  }

  locate(pa: number): number {
    this.stumble();
    return this.find(pa);
  }

  run(pa: number, limit: number): number {
    this.stumble();
    const rest = (this.pieceAt(pa)?.to ?? 0) - (pa % 4096);
    return Math.min(limit, rest, this.cache.size - this.find(pa));
  }

  hole(pa: number, limit: number): number {
    this.stumble();
    const inPage = pa % 4096;
    const pieces = this.pieces.get(Math.floor(pa / 4096)) ?? [];
    const end =
      this.pieceAt(pa)?.to ??
      Math.min(4096, ...pieces.map(({ from }) => from).filter((from) => from > inPage));
    return Math.min(limit, end - inPage);
  }

  private find(pa: number): number {
    const piece = this.pieceAt(pa);
    if (piece === undefined) return ABSENT;
    const offset = piece.at + (pa % 4096) - piece.from;
    return offset < this.cache.size ? offset : TRUNCATED;
  }

  private pieceAt(pa: number): Piece | undefined {
    const inPage = pa % 4096;
    return this.pieces.get(Math.floor(pa / 4096))?.find(({ from, to }) => inPage >= from && inPage < to);
  }

  nextDumped(): number {
    throw new Error('not asked');
  }

  dumpedEnd(): number {
    throw new Error('not asked');
  }

  pageIndex(): number {
    throw new Error('not asked');
  }
}

/** What a machine is made of; small and printable, so that a failure can be read. */
export interface ToyDescription {
  entryBytes: 4 | 8;
  order: ByteOrder;
  /** Level, and so span, of the root's entries, and how many there are. */
  level: 1 | 2 | 3;
  rootEntries: number;
  /** Whether the root is a section of the file, at an odd offset. */
  section: boolean;
  basePage: number;
  /** Pages that the region leaves out at its ends; they may lie inside an entry. */
  skip: [number, number];
  /** Entries to write: into the root (table -1) or one of the TABLES, at a slot and so many behind it. */
  entries: { table: number; slot: number; copies: number; entry: ToyEntry; target: number }[];
  /** Pages that are not in the file: indexes into PAGES. */
  absent: number[];
  /** Where a page is torn: what lies behind that byte of it is elsewhere in the file, or nowhere. */
  tears: { page: number; at: number; lost: boolean }[];
  /** Bytes cut off the file. */
  cut: number;
  sectionCut: number;
}

/** Two neighbouring pages for a root, and pages for tables. */
const PAGES = [0x40, 0x41, 0x10, 0x11, 0x20, 0xf_fff0];
/** Where tables can be: a KB boundary each. */
export const TABLES = [0x10000, 0x10400, 0x11000, 0x20c00, 0xffff_0000, 0xffff_0800];
const ROOT = 0x40000;
const SECTION_AT = 52;

export const shiftOf = (level: number): number => 8 + 4 * level;

/** What the test's own walk finds. */
export interface Found {
  outcome: 'mapped' | 'unmapped' | 'absent' | 'truncated' | 'unsupported';
  /** Mapped: PA of the byte. Absent or truncated: address of the table. */
  pa: number;
  flags: number;
  pageSize: number;
  level: number;
  /** Bytes of the slot that the entry was found in. */
  span: number;
  /** Absent or truncated: entries from this one to the end of its table. */
  entriesLeft?: number;
  entry?: bigint;
}

/** The machine in memory, and a model of it that knows entries as objects and never sees their bytes. */
export class ToyMachine {
  readonly format: RadixFormat;
  readonly region: RadixRegion;
  readonly pieces = new Map<number, readonly Piece[]>();
  readonly file: Uint8Array;
  readonly sectionFile: Uint8Array;
  private readonly entries = new Map<string, { entry: ToyEntry; raw: bigint }>();
  private readonly known = new Map<string, 'absent' | 'truncated' | 'there'>();

  constructor(
    readonly description: ToyDescription,
    section: (bytes: Uint8Array) => ByteSource = (bytes) => new PlainSource(bytes),
  ) {
    const { entryBytes, level, rootEntries, basePage, skip, cut, sectionCut, absent } = description;
    this.format = toyFormat(entryBytes);
    const file = new Uint8Array(this.place(absent)).fill(0xff);
    for (const piece of [...this.pieces.values()].flat())
      file.fill(0, piece.at, piece.at + piece.to - piece.from);
    const sectionFile = new Uint8Array(SECTION_AT + rootEntries * entryBytes);
    for (const written of description.entries) this.write(written, file, sectionFile);
    this.file = file.slice(0, Math.max(0, file.length - cut));
    this.sectionFile = sectionFile.slice(0, Math.max(0, sectionFile.length - sectionCut));
    const shift = shiftOf(level);
    const toPage = basePage + (rootEntries * 2 ** shift) / 4096;
    this.region = {
      ...{ fromPage: basePage + skip[0], toPage: toPage - skip[1], basePage, level, shift },
      ...{ entries: rootEntries, root: description.section ? SECTION_AT : ROOT },
      ...(description.section && { section: new BlockCache(section(this.sectionFile), 0) }),
    };
  }

  memory(source: ByteSource = new PlainSource(this.file)): ToyMemory {
    return new ToyMemory(new BlockCache(source, 0), this.pieces);
  }

  /** Gives pages their places, shuffled, so that neighbours in memory are none in the file; what is torn off, behind. */
  private place(absent: readonly number[]): number {
    const order = [4, 0, 2, 5, 1, 3];
    let end = order.length * 4096;
    order.forEach((page, place) => {
      const tears = this.description.tears.filter((tear) => tear.page === page).sort((a, b) => a.at - b.at);
      const ends = [...tears.map(({ at }) => at), 4096];
      const pieces = [{ from: 0, to: ends[0], at: place * 4096 }];
      tears.forEach(({ at: from, lost }, i) => {
        const length = ends[i + 1] - from;
        if (!lost) pieces.push({ from, to: ends[i + 1], at: end + 3 });
        if (!lost) end += length + 3;
      });
      if (!absent.includes(page)) this.pieces.set(PAGES[page], pieces);
    });
    return end;
  }

  private write(
    { table, slot, copies, entry, target }: ToyDescription['entries'][number],
    file: Uint8Array,
    sectionFile: Uint8Array,
  ): void {
    const { entryBytes, order, rootEntries } = this.description;
    const full = entry.kind === 1 ? { ...entry, pa: TABLES[target % TABLES.length] } : entry;
    const capped = entryBytes === 4 ? { ...full, pa: full.pa % 2 ** 32 } : full;
    const inSection = table < 0 && this.description.section;
    const slots = table < 0 ? rootEntries : 64;
    for (let i = slot % slots; i < Math.min(slots, (slot % slots) + copies); i++) {
      const at = (inSection ? SECTION_AT : table < 0 ? ROOT : TABLES[table % TABLES.length]) + i * entryBytes;
      this.entries.set(`${inSection ? 's' : 'm'}${at}`, { entry: capped, raw: encodeToy(capped) });
      const bytes = inSection ? sectionFile : file;
      const hex = encodeToy(capped)
        .toString(16)
        .padStart(2 * entryBytes, '0');
      for (let byte = 0; byte < entryBytes; byte++) {
        const digit = order === 'big' ? byte : entryBytes - 1 - byte;
        const place = inSection ? at + byte : this.placeOf(at + byte);
        if (place !== undefined) bytes[place] = parseInt(hex.slice(2 * digit, 2 * digit + 2), 16);
      }
    }
  }

  private placeOf(pa: number): number | undefined {
    const inPage = pa % 4096;
    for (const { from, to, at } of this.pieces.get(Math.floor(pa / 4096)) ?? []) {
      if (inPage >= from && inPage < to) return at + inPage - from;
    }
    return undefined;
  }

  /** The walk, slowly: one bigint address, one entry after the other. The address must lie in the region. */
  find(kva: bigint): Found {
    const { entryBytes, level: top, basePage, section } = this.description;
    let level: number = top;
    let shift = shiftOf(top);
    let flags = 0x0f;
    let table = this.region.root;
    let entries = this.region.entries;
    let at = table + Number((kva - BigInt(basePage) * 4096n) >> BigInt(shift)) * entryBytes;
    let space = section ? 's' : 'm';
    for (;;) {
      const found = { pa: table, flags: 0, pageSize: 0, level, span: 2 ** shift };
      const key = space + String(at);
      const state = this.known.get(key) ?? this.state(space, at);
      this.known.set(key, state);
      const entriesLeft = entries - (at - table) / entryBytes;
      if (state !== 'there') return { ...found, outcome: state, entriesLeft };
      const { entry, raw } = this.entries.get(key) ?? { raw: 0n };
      if (!entry || entry.kind === 0) return { ...found, outcome: 'unmapped', pa: 0, entry: raw };
      if (entry.kind === 3 || (entry.kind === 1 && level === 1)) {
        return { ...found, outcome: 'unsupported', pa: 0, entry: raw };
      }
      if (entry.kind === 2) return { ...found, ...leaf(entry, kva, shift, flags), entry: raw };
      flags &= entry.flags;
      const fine = level === 2 && entry.fine;
      shift = fine ? 10 : shift - 4;
      level--;
      space = 'm';
      table = entry.pa - (entry.pa % KB);
      entries = fine ? 64 : 16;
      at = table + Number((kva >> BigInt(shift)) % BigInt(entries)) * entryBytes;
    }
  }

  private state(space: string, at: number): 'absent' | 'truncated' | 'there' {
    const { entryBytes } = this.description;
    if (space === 's') return at + entryBytes > this.sectionFile.length ? 'truncated' : 'there';
    for (let byte = 0; byte < entryBytes; byte++) {
      const place = this.placeOf(at + byte);
      if (place === undefined) return 'absent';
      if (place >= this.file.length) return 'truncated';
    }
    return 'there';
  }
}

function leaf(
  entry: ToyEntry,
  kva: bigint,
  shift: number,
  rights: number,
): Pick<Found, 'outcome' | 'pa' | 'flags' | 'pageSize'> {
  const size = 2 ** shift * (entry.repeated ? 4 : 1);
  const base = Math.floor(entry.pa / size) * size;
  return {
    outcome: 'mapped',
    pa: base + Number(kva % BigInt(size)),
    flags: (entry.flags & rights) | (entry.flags & 0x10), // GLOBAL is no right
    pageSize: size,
  };
}

const entry: fc.Arbitrary<ToyEntry> = fc.record({
  kind: fc.constantFrom(0, 1, 1, 2, 2, 2, 3),
  pa: fc.oneof(
    fc.nat(2 ** 20 - 1).map((pfn) => pfn * 4096),
    fc.nat(2 ** 20 - 1).map((n) => n * KB),
    fc.integer({ min: 0, max: 2 ** 42 - 1 }).map((n) => n * KB),
  ),
  flags: fc.oneof(fc.constant(0x0f), fc.nat(0x1f)),
  repeated: fc.boolean(),
  fine: fc.boolean(),
  software: fc.boolean(),
});

/** Machines of all shapes: tables point anywhere, at themselves too, and lie on pages that may be absent or cut. */
export const toyDescriptions: fc.Arbitrary<ToyDescription> = fc
  .record({
    entryBytes: fc.constantFrom<4 | 8>(4, 8),
    order: fc.constantFrom<ByteOrder>('little', 'big'),
    shape: fc.constantFrom<[1 | 2 | 3, number]>([3, 4], [3, 3], [2, 40], [2, 16], [1, 600], [1, 1100]),
    section: fc.boolean(),
    base: fc.constantFrom(0, 1, 3, 0x100, 0x1234_5678, 0xf_ffff_e000, 2 ** 44 - 0x40),
    skip: fc.oneof(fc.constant<[number, number]>([0, 0]), fc.tuple(fc.nat(40), fc.nat(40))),
    entries: fc.array(
      fc.record({
        table: fc.oneof(fc.constant(-1), fc.integer({ min: 0, max: TABLES.length - 1 })),
        slot: fc.oneof(fc.nat(15), fc.nat(1099)),
        copies: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 16 })),
        entry,
        target: fc.nat(TABLES.length - 1),
      }),
      { maxLength: 30 },
    ),
    absent: fc.oneof(fc.constant<number[]>([]), fc.array(fc.nat(5), { maxLength: 3 })),
    tears: fc.oneof(
      fc.constant<ToyDescription['tears']>([]),
      fc.uniqueArray(
        fc.record({
          page: fc.nat(5),
          at: fc.oneof(fc.integer({ min: 1, max: 4095 }), fc.integer({ min: 1, max: 140 })),
          lost: fc.boolean(),
        }),
        { maxLength: 4, selector: ({ page, at }) => page * 4096 + at },
      ),
    ),
    cut: fc.oneof(fc.constant(0), fc.nat(6 * 4096)),
    sectionCut: fc.oneof(fc.constant(0), fc.nat(5000)),
  })
  .map(({ shape: [level, rootEntries], base, ...rest }) => ({
    ...rest,
    level,
    rootEntries,
    basePage: base * 2 ** (shiftOf(level) - 12),
  }));

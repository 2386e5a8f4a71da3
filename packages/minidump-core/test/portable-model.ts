/**
 * A slow, literal reader and writer of portable minidumps, after docs/formats/portable.md and nothing else: offsets are
 * numbers, addresses are bigints, tables are arrays. It shares no code with the library.
 */

export const PAGE = 4096;

export interface ModelSection {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface ModelHeader {
  readonly version: number;
  readonly flags: number;
  readonly elfMachine: number;
  readonly elfClass: number;
  readonly elfData: number;
  readonly pageSize: number;
  readonly kernbase: bigint;
  readonly dmapBase: bigint;
  readonly dmapEnd: bigint;
  readonly dmapPhys: bigint;
  readonly architecture: string;
  readonly pteFormat: string;
  readonly entryBits: number;
  readonly msgbufStart: bigint;
  readonly basePageSize: number;
}

export interface ModelSegment {
  readonly kva: bigint;
  readonly count: bigint;
  readonly firstLeaf: bigint;
  readonly granuleShift: number;
  readonly kind: number;
}

/** What a leaf says, field by field. */
export interface ModelLeaf {
  readonly pa: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly user: boolean;
  readonly global: boolean;
  readonly synthesised: boolean;
  readonly level: number;
  readonly type: number;
  /** Bytes of the hardware mapping. */
  readonly size: bigint;
  readonly entry?: bigint;
}

export class ModelDump {
  readonly header: ModelHeader;
  readonly sections: readonly (ModelSection & { readonly offset: number })[];
  readonly ranges: readonly { readonly start: bigint; readonly end: bigint }[];
  /** Page contents by PA, in file order. */
  readonly pages = new Map<bigint, Uint8Array>();
  readonly segments: readonly ModelSegment[];
  /** Leaves in all. */
  readonly leaves: number;

  constructor(readonly bytes: Uint8Array) {
    const view = viewOf(bytes);
    if (text(bytes.subarray(0, 24)) !== 'portable kminidump') throw new Error('magic');
    this.header = readHeader(bytes);
    this.sections = Array.from({ length: view.getUint32(116, true) }, (_, i) => {
      const at = 144 + 32 * i;
      const offset = Number(view.getBigUint64(at + 16, true));
      const length = Number(view.getBigUint64(at + 24, true));
      return {
        name: text(bytes.subarray(at, at + 16)),
        offset,
        bytes: bytes.subarray(offset, offset + length),
      };
    });
    this.ranges = this.readRanges();
    this.readPages();
    const segments = viewOf(this.section('segments'));
    this.segments = Array.from({ length: segments.byteLength / 32 }, (_, i) => ({
      kva: segments.getBigUint64(i * 32, true),
      count: segments.getBigUint64(i * 32 + 8, true),
      firstLeaf: segments.getBigUint64(i * 32 + 16, true),
      granuleShift: segments.getUint8(i * 32 + 24),
      kind: segments.getUint8(i * 32 + 25),
    }));
    this.leaves = this.section('leaves').length / 8;
  }

  section(name: string): Uint8Array {
    const found = this.sections.find((one) => one.name === name);
    if (!found) throw new Error(`no section ${name}`);
    return found.bytes;
  }

  note(name: string): string | undefined {
    const found = this.sections.find((one) => one.name === name);
    return found && new TextDecoder().decode(found.bytes);
  }

  /** What the tables say of an address; undefined where it is not mapped. */
  translate(kva: bigint): ModelLeaf | undefined {
    const segment = this.segments.findLast(({ kva: start }) => kva >= start);
    if (!segment || kva >= segment.kva + (segment.count << BigInt(segment.granuleShift))) return undefined;
    const shift = BigInt(segment.granuleShift);
    const within = kva - segment.kva;
    const index = segment.kind === 2 ? 0n : within >> shift;
    const leaf = this.word('leaves', segment.firstLeaf + index);
    if ((leaf & 1n) === 0n) return undefined;
    const bit = (n: bigint): boolean => ((leaf >> n) & 1n) === 1n;
    const exact = this.sections.some(({ name }) => name === 'entries');
    const entry = exact ? this.word('entries', segment.firstLeaf + index) : 0n;
    return {
      pa: (leaf & 0x000f_ffff_ffff_fc00n) + within - (index << shift),
      ...{ read: bit(1n), write: bit(2n), execute: bit(3n), user: bit(4n), global: bit(5n) },
      synthesised: bit(6n),
      level: Number((leaf >> 7n) & 7n),
      type: Number((leaf >> 52n) & 0x1fn),
      size: 1n << ((leaf >> 57n) & 0x3fn),
      ...(entry !== 0n && { entry }),
    };
  }

  /** The byte at a PA; undefined when its page is not in the file. */
  byteAt(pa: bigint): number | undefined {
    const { pageSize } = this.header;
    const inPage = pa % BigInt(pageSize);
    return this.pages.get(pa - inPage)?.[Number(inPage)];
  }

  /** u64 number `index` of a section; 0 where the file is cut before it. */
  word(name: string, index: bigint | number): bigint {
    const view = viewOf(this.section(name));
    const at = Number(index) * 8;
    return at + 8 <= view.byteLength ? view.getBigUint64(at, true) : 0n;
  }

  private readRanges(): { start: bigint; end: bigint }[] {
    const numbers = words(this.section('ranges'));
    const ranges: { start: bigint; end: bigint }[] = [];
    for (let i = 0; i + 1 < numbers.length && numbers[i + 1] !== 0n; i += 2) {
      ranges.push({ start: numbers[i], end: numbers[i + 1] });
    }
    return ranges;
  }

  /** One bit for each page of each range, and one page for each bit that is set. */
  private readPages(): void {
    const bitmap = this.section('bitmap');
    const pages = this.section('pages');
    const size = BigInt(this.header.pageSize);
    let bit = 0;
    let at = 0;
    let behind = 0n;
    for (const { start, end } of this.ranges) {
      const owned = behind; // a page that two ranges share, in a damaged file, belongs to the first
      for (let page = start / size; page * size < end; page++, bit++) {
        behind = page + 1n;
        if ((bitmap[bit >> 3] & (1 << (bit & 7))) === 0) continue;
        if (page >= owned) this.pages.set(page * size, pages.subarray(at, at + Number(size)));
        at += Number(size);
      }
    }
  }
}

/** A file made of these parts, sealed. Sections come in the order given; `overrides` are bytes put over it by offset. */
export function buildPortable(
  header: Partial<ModelHeader>,
  sections: readonly ModelSection[],
): Uint8Array<ArrayBuffer> {
  const size = sections.reduce((sum, { bytes }) => sum + padded(bytes.length), 2 * PAGE);
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  putText(file, 0, 'portable kminidump');
  view.setUint32(24, header.version ?? 1, true);
  view.setUint32(28, header.flags ?? 0, true);
  view.setUint16(32, header.elfMachine ?? 62, true);
  view.setUint8(34, header.elfClass ?? 2);
  view.setUint8(35, header.elfData ?? 1);
  view.setUint32(36, header.pageSize ?? PAGE, true);
  view.setBigUint64(40, header.kernbase ?? 0n, true);
  view.setBigUint64(48, header.dmapBase ?? 0n, true);
  view.setBigUint64(56, header.dmapEnd ?? 0n, true);
  view.setBigUint64(64, header.dmapPhys ?? 0n, true);
  putText(file, 72, header.architecture ?? 'amd64');
  putText(file, 88, header.pteFormat ?? 'amd64');
  view.setUint32(112, header.entryBits ?? 0, true);
  view.setUint32(116, sections.length, true);
  view.setBigUint64(120, BigInt(size), true);
  view.setBigUint64(128, header.msgbufStart ?? 0n, true);
  view.setUint32(136, header.basePageSize ?? PAGE, true);
  let at = PAGE;
  sections.forEach(({ name, bytes }, i) => {
    putText(file, 144 + i * 32, name);
    view.setBigUint64(144 + i * 32 + 16, BigInt(at), true);
    view.setBigUint64(144 + i * 32 + 24, BigInt(bytes.length), true);
    file.set(bytes, at);
    at += padded(bytes.length);
  });
  reseal(file);
  return file;
}

/** Computes the trailer anew, by the section table as it stands. */
export function reseal(file: Uint8Array): void {
  const view = viewOf(file);
  const count = view.getUint32(116, true);
  const trailer = file.subarray(file.length - PAGE);
  trailer.fill(0);
  putText(trailer, 0, 'kminidump complete');
  const out = viewOf(trailer);
  out.setUint32(24, count + 1, true);
  out.setUint32(32, slowCrc(file.subarray(0, PAGE)), true);
  for (let i = 0; i < count; i++) {
    const offset = Number(view.getBigUint64(144 + i * 32 + 16, true));
    const length = Number(view.getBigUint64(144 + i * 32 + 24, true));
    out.setUint32(36 + i * 4, slowCrc(file.subarray(offset, offset + padded(length))), true);
  }
  out.setUint32(28, slowCrc(trailer), true);
}

/** CRC-32 of ISO 3309, a bit at a time. */
export function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** u64s, little-endian, as bytes. */
export function u64s(numbers: readonly (bigint | number)[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(numbers.length * 8);
  numbers.forEach((number, i) => viewOf(bytes).setBigUint64(i * 8, BigInt(number), true));
  return bytes;
}

/** Entries of the section `segments`. */
export function segmentBytes(segments: readonly ModelSegment[]): Uint8Array<ArrayBuffer> {
  return u64s(
    segments.flatMap(({ kva, count, firstLeaf, granuleShift, kind }) => [
      ...[kva, count, firstLeaf, BigInt(granuleShift) | (BigInt(kind) << 8n)],
    ]),
  );
}

/** A leaf from its fields; flags as in the document: R 1, W 2, X 4, U 8, G 16, S 32. */
export function leafOf(pa: bigint | number, flags: number, size: number, level = 1, type = 0): bigint {
  const low = 1n | (BigInt(flags) << 1n) | (BigInt(level) << 7n) | BigInt(pa);
  return low | (BigInt(type) << 52n) | (BigInt(Math.log2(size)) << 57n);
}

function readHeader(bytes: Uint8Array): ModelHeader {
  const view = viewOf(bytes);
  return {
    version: view.getUint32(24, true),
    flags: view.getUint32(28, true),
    elfMachine: view.getUint16(32, true),
    elfClass: bytes[34],
    elfData: bytes[35],
    pageSize: view.getUint32(36, true),
    kernbase: view.getBigUint64(40, true),
    dmapBase: view.getBigUint64(48, true),
    dmapEnd: view.getBigUint64(56, true),
    dmapPhys: view.getBigUint64(64, true),
    architecture: text(bytes.subarray(72, 88)),
    pteFormat: text(bytes.subarray(88, 112)),
    entryBits: view.getUint32(112, true),
    msgbufStart: view.getBigUint64(128, true),
    basePageSize: view.getUint32(136, true),
  };
}

export function padded(length: number): number {
  return Math.ceil(length / PAGE) * PAGE;
}

function words(bytes: Uint8Array): bigint[] {
  const view = viewOf(bytes);
  return Array.from({ length: Math.floor(bytes.length / 8) }, (_, i) => view.getBigUint64(i * 8, true));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
}

function putText(bytes: Uint8Array, at: number, value: string): void {
  for (let i = 0; i < value.length; i++) bytes[at + i] = value.charCodeAt(i);
}

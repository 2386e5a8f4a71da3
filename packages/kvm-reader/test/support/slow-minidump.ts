import type { KvmErrorCode } from '@libkvm/minidump-core';

/**
 * A reader of FreeBSD/amd64 minidumps written from the format document (freebsd-dumps.md 1.2, 1.3, 1.8, 2.1) and from
 * nothing else: the whole file in memory, bigints, a map with every page. Slow and obvious; it shares no code with the
 * library.
 */

const PAGE = 4096n;
const LIMIT = 1n << 52n;
const TOP = 1n << 64n;
const FRAME = 0x000f_ffff_ffff_f000n;
const BIG_FRAME = 0x000f_ffff_ffe0_0000n;

/** An answer: either `code`, or the rest. */
export interface SlowAnswer {
  readonly code?: KvmErrorCode;
  readonly pa?: bigint;
  readonly offset?: number;
  readonly entry?: bigint;
  readonly level?: number;
  readonly protection?: string;
  readonly pageSize?: number;
}

export interface SlowSection {
  readonly offset: number;
  readonly length: number;
}

/** Why a file does not open. */
export class Refusal extends Error {
  constructor(
    readonly code: KvmErrorCode,
    what: string,
  ) {
    super(what);
  }
}

export class SlowMinidump {
  readonly version: number;
  readonly kernbase: bigint;
  dmapbase: bigint;
  dmapend: bigint;
  readonly sections: Readonly<Record<'msgbuf' | 'dumpAvail' | 'bitmap' | 'table' | 'pages', SlowSection>>;
  /** `[start, end)` in bytes. */
  readonly ranges: readonly (readonly [bigint, bigint])[];
  /** Page frame number -> offset in the file, for every page whose bit is set; ascending. */
  readonly pages = new Map<bigint, number>();
  /** Set bits, those of pages that an earlier range owns and those behind the last range included or not. */
  setBits = 0;

  /** @throws Refusal */
  constructor(readonly bytes: Uint8Array) {
    this.checkMagic();
    if (bytes.length < 68) throw new Refusal('TRUNCATED', 'header');
    this.version = this.u32(24);
    if (this.version < 1 || this.version > 3) throw new Refusal('UNSUPPORTED', 'version');
    this.kernbase = this.u64(40);
    this.dmapbase = this.u64(48);
    this.dmapend = this.u64(56);
    if (this.kernbase % (this.version === 1 ? PAGE : 0x20_0000n)) throw new Refusal('CORRUPT', 'kernbase');
    if (this.dmapbase === this.dmapend) this.dmapend = this.dmapbase = 0n;
    if ((this.dmapbase | this.dmapend) % PAGE) throw new Refusal('CORRUPT', 'direct map');
    // A window whose PAs would be no exact numbers is no window; one wider than physical memory is.
    const width = this.dmapend - this.dmapbase;
    if (width < 0n || width > 1n << 53n) this.dmapend = this.dmapbase = 0n;
    this.sections = this.place();
    this.ranges = this.readRanges();
    this.readBitmap();
  }

  /** KVA -> PA -> offset in the file, or why not. */
  resolve(kva: bigint): SlowAnswer {
    if (kva < 0n || kva >= TOP) return { code: 'NOT_CANONICAL' };
    if (kva >= this.dmapbase && kva < this.dmapend) {
      return this.at(kva - this.dmapbase, { protection: 'rw-', pageSize: 4096 });
    }
    const shift = this.version === 1 ? 12n : 21n;
    const index = (kva - this.kernbase) >> shift;
    const { offset, length } = this.sections.table;
    if (kva < this.kernbase || index >= BigInt(Math.floor(length / 8))) return { code: 'NOT_MAPPED' };
    const entry = this.u64(offset + Number(index) * 8);
    return this.version === 1 ? this.leaf(kva, entry, 7n) : this.directory(kva, entry);
  }

  /** Whether 4-level or 5-level paging cannot have the address. */
  static nonCanonical(kva: bigint): { with4: boolean; with5: boolean } {
    const outside = (bits: bigint): boolean => kva >> bits !== 0n && kva >> bits !== (TOP - 1n) >> bits;
    return { with4: outside(47n), with5: outside(56n) };
  }

  /** Offset in the file of a byte of physical memory, or why there is none. */
  locate(pa: bigint): SlowAnswer {
    const page = this.pages.get(pa / PAGE);
    if (page === undefined) return { code: 'NOT_DUMPED', pa };
    const offset = page + Number(pa % PAGE);
    return offset < this.bytes.length ? { pa, offset } : { code: 'TRUNCATED', pa };
  }

  private directory(kva: bigint, pde: bigint): SlowAnswer {
    if (!(pde & 1n)) return { code: 'NOT_MAPPED', entry: pde };
    if (pde & 0x80n) {
      const seen = { entry: pde, level: 2, protection: rights(pde), pageSize: 0x20_0000 };
      return this.at((pde & BIG_FRAME) + (kva & 0x1f_ffffn), seen);
    }
    const slot = this.locate((pde & FRAME) + ((kva >> 12n) & 511n) * 8n);
    if (slot.code !== undefined) return { code: slot.code };
    if (slot.offset! + 8 > this.bytes.length) return { code: 'TRUNCATED' };
    return this.leaf(kva, this.u64(slot.offset!), pde);
  }

  /** `above`: the entry that names the page table; the hardware grants what both grant. */
  private leaf(kva: bigint, pte: bigint, above: bigint): SlowAnswer {
    if (!(pte & 1n)) return { code: 'NOT_MAPPED', entry: pte };
    const both = (pte & above & 2n) | ((pte | above) & (1n << 63n));
    return this.at((pte & FRAME) + (kva & 0xfffn), {
      ...{ entry: pte, level: 1, pageSize: 4096 },
      protection: rights(both),
    });
  }

  private at(pa: bigint, seen: SlowAnswer): SlowAnswer {
    return { ...seen, ...this.locate(pa) };
  }

  private checkMagic(): void {
    const magic = 'minidump FreeBSD/amd64\0';
    const found = String.fromCharCode(...this.bytes.subarray(0, 23));
    if (found === magic) return;
    throw new Refusal('NOT_A_CORE', 'magic');
  }

  private place(): SlowMinidump['sections'] {
    const sizes = {
      msgbuf: this.u32(28),
      dumpAvail: this.version === 3 ? this.u32(64) : 0,
      bitmap: this.u32(32),
      table: this.u32(36),
    };
    let offset = 4096;
    const sections: Record<string, SlowSection> = {};
    for (const [name, length] of Object.entries(sizes)) {
      if (offset + length > this.bytes.length) throw new Refusal('TRUNCATED', name);
      sections[name] = { offset, length };
      offset += length + ((4096 - (length % 4096)) % 4096);
    }
    sections.pages = { offset, length: Math.max(0, this.bytes.length - offset) };
    return sections as SlowMinidump['sections'];
  }

  private readRanges(): (readonly [bigint, bigint])[] {
    const { dumpAvail, bitmap } = this.sections;
    if (dumpAvail.length === 0) {
      const end = BigInt(bitmap.length) * 8n * PAGE;
      return end > 0n ? [[0n, end < LIMIT ? end : LIMIT]] : [];
    }
    const ranges: [bigint, bigint][] = [];
    let previous = 0n;
    for (let i = 0; i + 16 <= dumpAvail.length; i += 16) {
      const start = this.u64(dumpAvail.offset + i);
      const end = this.u64(dumpAvail.offset + i + 8);
      if (end === 0n) break;
      if (start >= end || start < previous || end > LIMIT) throw new Refusal('CORRUPT', 'dump_avail');
      ranges.push([start, end]);
      previous = end;
    }
    return ranges;
  }

  private readBitmap(): void {
    const { pages } = this;
    const { bitmap } = this.sections;
    const counts = this.ranges.map(([start, end]) => (end + PAGE - 1n) / PAGE - start / PAGE);
    const bits = counts.reduce((sum, count) => sum + count, 0n);
    if (bits > BigInt(bitmap.length) * 8n) throw new Refusal('CORRUPT', 'bitmap');
    let first = 0;
    let owned = 0n; // a page that two ranges share belongs to the first
    for (const [i, [start, end]] of this.ranges.entries()) {
      const behind = first + Number(counts[i]);
      for (let bit = first; bit < behind; bit++) {
        const byte = this.bytes[bitmap.offset + (bit >> 3)];
        if (byte === 0) bit |= 7; // the rest of a byte without pages
        if (!((byte >> (bit & 7)) & 1)) continue;
        const pfn = start / PAGE + BigInt(bit - first);
        if (pfn >= owned) pages.set(pfn, this.sections.pages.offset + this.setBits * 4096);
        this.setBits++;
      }
      first = behind;
      owned = (end + PAGE - 1n) / PAGE;
    }
  }

  private u32(at: number): number {
    return Number(this.uint(at, 4));
  }

  private u64(at: number): bigint {
    return this.uint(at, 8);
  }

  private uint(at: number, count: number): bigint {
    let value = 0n;
    for (let i = count - 1; i >= 0; i--) value = value * 256n + BigInt(this.bytes[at + i]);
    return value;
  }
}

function rights(entry: bigint): string {
  return `r${entry & 2n ? 'w' : '-'}${entry >> 63n ? '-' : 'x'}`;
}

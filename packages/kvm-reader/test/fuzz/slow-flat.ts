/**
 * A reader of FreeBSD minidumps with flat tables (i386, arm, arm64), written from the format document (freebsd-dumps.md
 * 1.2, 1.3, 2.2, 2.3, A.1) and from nothing else: bigints, and a map with every page. It does not judge a file: it reads
 * one that opened.
 */
export interface FlatSpec {
  readonly architecture: 'i386' | 'arm' | 'arm64';
}

/** What an address leads to; `unclear` where the document leaves it open. */
export type FlatAnswer = { readonly pa: bigint } | 'unmapped' | 'unclear';

interface Header {
  readonly version: number;
  readonly msgbuf: number;
  readonly bitmap: number;
  readonly table: number;
  readonly kernbase: bigint;
  readonly dumpAvail: number;
  readonly pageSize: number;
  readonly entryBytes: 4 | 8;
  readonly format: 'nopae' | 'pae' | 'v4' | 'v6' | 'lpae' | 'arm64';
  readonly dmap?: { readonly base: bigint; readonly end: bigint; readonly phys: bigint };
}

const FRAME_48 = 0xffff_ffff_f000n;

export class SlowFlat {
  readonly little: boolean;
  readonly header: Header;
  readonly tableOffset: number;
  /** Page frame number -> offset in the file, for every page whose bit is set. */
  readonly pages = new Map<bigint, number>();
  private readonly view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    readonly spec: FlatSpec,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = !(spec.architecture === 'arm' && this.view.getUint32(24, true) >= 0x100_0000);
    this.header = this.readHeader();
    const { pageSize, msgbuf, dumpAvail, bitmap, table } = this.header;
    const round = (size: number): number => Math.ceil(size / pageSize) * pageSize;
    const bitmapOffset = pageSize + round(msgbuf) + round(dumpAvail);
    this.tableOffset = bitmapOffset + round(bitmap);
    const set = this.setBits(bitmapOffset, pageSize + round(msgbuf));
    // Old arm kernels did not pad the table (2.3.4): two sizes of file tell, and otherwise it is unpadded.
    const [padded, plain] = [round(table), table].map((size) => this.tableOffset + size);
    const count = this.popcount(bitmapOffset, bitmap);
    const isPadded = spec.architecture !== 'arm' || padded + count * pageSize === bytes.length;
    let offset = isPadded ? padded : plain;
    let owned = -1n; // a page that two ranges share belongs to the first
    for (const pfn of set) {
      if (pfn > owned) this.pages.set(pfn, offset);
      owned = pfn > owned ? pfn : owned;
      offset += pageSize;
    }
  }

  /** Offset in the file of a byte of physical memory. */
  offsetOf(pa: bigint): number | undefined {
    const size = BigInt(this.header.pageSize);
    const page = this.pages.get(pa / size);
    const offset = page === undefined ? undefined : page + Number(pa % size);
    return offset === undefined || offset >= this.bytes.length ? undefined : offset;
  }

  /** The byte at an address, or undefined where it cannot be read. */
  byteAt(kva: bigint): number | undefined {
    const answer = this.resolve(kva);
    if (typeof answer === 'string') return undefined;
    const offset = this.offsetOf(answer.pa);
    return offset === undefined ? undefined : this.bytes[offset];
  }

  resolve(kva: bigint): FlatAnswer {
    const { header } = this;
    const { dmap, kernbase, pageSize, entryBytes, table } = header;
    if (dmap && kva >= dmap.base && kva < dmap.end) return { pa: kva - dmap.base + dmap.phys };
    const top = this.spec.architecture === 'arm64' ? 1n << 64n : 1n << 32n;
    if (kva < kernbase || kva >= top) return 'unmapped';
    const index = Number((kva - kernbase) / BigInt(pageSize));
    if (index >= Math.floor(table / entryBytes)) return 'unmapped';
    const at = this.tableOffset + index * entryBytes;
    if (at + entryBytes > this.bytes.length) return 'unclear';
    const entry =
      entryBytes === 8
        ? this.view.getBigUint64(at, this.little)
        : BigInt(this.view.getUint32(at, this.little));
    return this.decode(entry, kva);
  }

  private decode(entry: bigint, kva: bigint): FlatAnswer {
    const inPage = kva % BigInt(this.header.pageSize);
    switch (this.header.format) {
      case 'nopae':
        return entry & 1n ? { pa: (entry & 0xffff_f000n) + inPage } : 'unmapped';
      case 'pae':
        return entry & 1n ? { pa: (entry & 0x000f_ffff_ffff_f000n) + inPage } : 'unmapped';
      case 'lpae':
        return (entry & 3n) === 3n ? { pa: (entry & 0xff_ffff_f000n) + inPage } : 'unmapped';
      case 'arm64': {
        const low = BigInt(this.header.pageSize - 1);
        return (entry & 3n) === 3n ? { pa: (entry & FRAME_48 & ~low) + inPage } : 'unmapped';
      }
      default: {
        const type = entry & 3n;
        if (type === 0n) return 'unmapped';
        if (type === 1n) return { pa: (entry & 0xffff_0000n) + (kva & 0xffffn) };
        return { pa: (entry & 0xffff_f000n) + inPage };
      }
    }
  }

  private readHeader(): Header {
    const u32 = (at: number): number => this.view.getUint32(at, this.little);
    const u64 = (at: number): bigint => this.view.getBigUint64(at, this.little);
    const common = { msgbuf: u32(28), bitmap: u32(32), table: u32(36), version: u32(24) };
    if (this.spec.architecture === 'i386') {
      const pae = u32(44) !== 0;
      return {
        ...{ ...common, kernbase: BigInt(u32(40)), pageSize: 4096 },
        ...{ dumpAvail: common.version >= 2 ? u32(48) : 0 },
        ...{ entryBytes: pae ? 8 : 4, format: pae ? 'pae' : 'nopae' },
      };
    }
    if (this.spec.architecture === 'arm') {
      const mmuformat = u32(48);
      // The dialect of mmuformat 3 raises its version by 0x100.
      const version = common.version - (mmuformat === 3 && common.version > 0x100 ? 0x100 : 0);
      const format = mmuformat === 1 ? 'v4' : mmuformat === 3 ? 'lpae' : 'v6';
      return {
        ...{ ...common, version, kernbase: BigInt(u32(40)), pageSize: 4096, format },
        ...{ dumpAvail: version >= 2 ? u32(52) : 0, entryBytes: mmuformat === 3 ? 8 : 4 },
      };
    }
    const pageSize = [0x1000, 0x4000, 0x10000][common.version >= 3 ? u32(76) & 3 : 0];
    const dmap = { phys: u64(48), base: u64(56), end: u64(64) };
    const usable = dmap.end > dmap.base && dmap.phys + (dmap.end - dmap.base) <= 1n << 53n;
    return {
      ...{ ...common, kernbase: u64(40), pageSize, entryBytes: 8, format: 'arm64' },
      ...{ dumpAvail: common.version >= 2 ? u32(72) : 0, ...(usable && { dmap }) },
    };
  }

  /** Page frames of the set bits in bit order; one that two ranges share comes twice. */
  private setBits(bitmapOffset: number, dumpAvailOffset: number): bigint[] {
    const { bitmap, pageSize } = this.header;
    const set: bigint[] = [];
    let bit = 0;
    for (const [start, end] of this.ranges(dumpAvailOffset)) {
      const first = start / BigInt(pageSize);
      const count = Number((end + BigInt(pageSize) - 1n) / BigInt(pageSize) - first);
      for (let i = 0; i < count && bit < bitmap * 8; i++, bit++) {
        if (this.bit(bitmapOffset, bit)) set.push(first + BigInt(i));
      }
    }
    return set;
  }

  /** Bits are counted from the low end of the kernel's words: of bytes, where it is little-endian. */
  private bit(offset: number, bit: number): boolean {
    const byte = this.little ? bit >> 3 : (bit >> 3) ^ 3;
    return ((this.bytes[offset + byte] >> (bit & 7)) & 1) === 1;
  }

  private ranges(offset: number): (readonly [bigint, bigint])[] {
    const { dumpAvail, bitmap, pageSize } = this.header;
    const limit = this.spec.architecture === 'arm' ? 1n << 40n : 1n << 52n;
    const flat = BigInt(bitmap) * 8n * BigInt(pageSize);
    if (dumpAvail === 0) return [[0n, flat < limit ? flat : limit]];
    const read = (wide: boolean): (readonly [bigint, bigint])[] => {
      const step = wide ? 16 : 8;
      const pairs: (readonly [bigint, bigint])[] = [];
      for (let at = offset; at + step <= offset + dumpAvail; at += step) {
        const pair = [at, at + step / 2].map((place) =>
          wide ? this.view.getBigUint64(place, this.little) : BigInt(this.view.getUint32(place, this.little)),
        );
        if (pair[1] === 0n) break;
        pairs.push([pair[0], pair[1]]);
      }
      return pairs;
    };
    const wide = read(true);
    if (this.spec.architecture !== 'arm') return wide;
    // The first kernels of version 2 wrote words of 32 bits (2.3.5).
    const narrow = read(false);
    return !explains(wide, limit, bitmap) && explains(narrow, limit, bitmap) ? narrow : wide;
  }

  private popcount(offset: number, length: number): number {
    let count = 0;
    for (const byte of this.bytes.subarray(offset, offset + length)) {
      for (let bit = 0; bit < 8; bit++) count += (byte >> bit) & 1;
    }
    return count;
  }
}

/** Whether ranges are in order, and have as many pages as the bitmap of a 32-bit kernel says. */
function explains(pairs: readonly (readonly [bigint, bigint])[], limit: bigint, bitmap: number): boolean {
  let pages = 0n;
  for (const [i, [start, end]] of pairs.entries()) {
    if (start >= end || end > limit || (i > 0 && start < pairs[i - 1][1])) return false;
    pages += (end + 4095n) / 4096n - start / 4096n;
  }
  const bytes = (Number((pages + 31n) / 32n) * 32) / 8;
  return Math.ceil(bytes / 4096) * 4096 === bitmap;
}

import type { Amd64Machine, Amd64Minidump } from '@libkvm/fixtures';
import type { KvmErrorCode } from '@libkvm/minidump-core';

const PAGE = 4096;
const TOP = 1n << 64n;

/** What a reader must say of one byte: `code`, or where it is and what it is. */
export interface ModelByte {
  readonly code?: KvmErrorCode;
  readonly pa?: number;
  readonly offset?: number;
  readonly protection?: string;
  readonly pageSize?: number;
}

export interface ModelRead {
  /** The bytes up to the fault. */
  readonly bytes: Uint8Array;
  readonly code?: KvmErrorCode;
}

/**
 * The right answers about a dump, page by page from the literal description of the machine: page tables, bitmap and
 * file are not looked at.
 */
export class Model {
  /** First addresses of all readable 4 KB pages, ascending. */
  readonly readable: readonly bigint[];

  constructor(
    readonly machine: Amd64Machine,
    readonly dump: Amd64Minidump,
  ) {
    this.readable = this.allReadable();
  }

  at(kva: bigint): ModelByte {
    if (kva >= TOP) return { code: 'NOT_CANONICAL' };
    const answer = this.dump.expected.resolve(kva);
    switch (answer.state) {
      case 'present': {
        const { pa, fileOffset: offset, pageSize = PAGE } = answer;
        return { pa, offset, pageSize, protection: this.protection(kva, answer) };
      }
      case 'absent':
        return { code: 'NOT_DUMPED', pa: answer.pa };
      case 'tableAbsent':
        return { code: 'NOT_DUMPED' };
      case 'unmapped':
        return { code: 'NOT_MAPPED' };
      default:
        return { code: kva >= 1n << 47n && kva < TOP - (1n << 47n) ? 'NOT_CANONICAL' : 'NOT_MAPPED' };
    }
  }

  /** Reads up to the first byte that is not there. */
  read(kva: bigint, length: number): ModelRead {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { code, pa = 0 } = this.at(kva + BigInt(done));
      if (code !== undefined) return { bytes: bytes.subarray(0, done), code };
      const piece = Math.min(length - done, PAGE - (pa % PAGE));
      bytes.set(this.machine.ram.readBytes(pa, piece), done);
      done += piece;
    }
    return { bytes };
  }

  /** As `read`, with zeros for what is not there; undefined where an address does not exist. */
  readPadded(kva: bigint, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const at = kva + BigInt(done);
      const piece = Math.min(length - done, PAGE - Number(at & 0xfffn));
      const { code, pa = 0 } = this.at(at);
      if (code === 'NOT_CANONICAL') return undefined;
      if (code === undefined) bytes.set(this.machine.ram.readBytes(pa, piece), done);
      done += piece;
    }
    return bytes;
  }

  /** The first readable address at or above `kva`, or 2^64. */
  nextReadable(kva: bigint): bigint {
    const page = kva & ~0xfffn;
    let low = 0;
    let high = this.readable.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.readable[middle] >= page) high = middle;
      else low = middle + 1;
    }
    const found = this.readable[low] ?? TOP;
    return found > kva ? found : kva;
  }

  /** Physical memory up to the first byte that the dump does not have. */
  readPhysical(pa: number, length: number): Uint8Array {
    let there = 0;
    while (there < length && this.dump.expected.pages.has(pa + there)) {
      there += PAGE - ((pa + there) % PAGE);
    }
    return this.machine.ram.readBytes(pa, Math.min(length, there));
  }

  /**
   * Rights as the dump can tell them: the hardware's view of the entries in it. Those of the page directory are there
   * in versions 2 and 3, and count for 4 KB pages.
   */
  private protection(
    kva: bigint,
    view: { direct: boolean; writable?: boolean; executable?: boolean; pageSize?: number },
  ): string {
    if (view.direct) return 'rw-';
    const above = (this.machine.description.tables ?? []).filter(
      (wish) =>
        wish.level === 1 &&
        wish.kva >> 21n === kva >> 21n &&
        view.pageSize === PAGE &&
        this.dump.header.version > 1,
    );
    const writable = view.writable === true && !above.some((wish) => wish.writable === false);
    const executable = view.executable === true && !above.some((wish) => wish.executable === false);
    return `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`;
  }

  private allReadable(): bigint[] {
    const { description } = this.machine;
    const { base, end } = description.dmap;
    const pas = this.dump.expected.pages.toArray();
    const direct = pas.map((pa) => base + BigInt(pa)).filter((kva) => kva < end);
    const mapped = description.mappings.flatMap(({ kva, pa, pages, pageSize }) =>
      pas.filter((page) => page >= pa && page < pa + pages * pageSize).map((page) => kva + BigInt(page - pa)),
    );
    const readable = [...new Set([...direct, ...mapped])].filter((kva) => this.at(kva).code === undefined);
    return readable.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  }
}

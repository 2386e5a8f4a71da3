import {
  ABSENT,
  KVA_PAGE,
  KvaParts,
  MAPPED,
  READ,
  Translation,
  WRITE,
  kvaOf,
  type Core,
  type Outcome,
} from '@libkvm/minidump-core';

/** Pages whose place in the file is remembered. */
const TLB_ENTRIES = 16384;

/**
 * KVA -> PA -> offset for one core: direct map first, then the address space, with a direct-mapped cache of the pages
 * that lie whole and in one piece in the file. Nothing is allocated per look-up.
 */
export class Translator {
  /** The last answer of {@link Translator.translate}. */
  readonly translation = new Translation();
  /** The page behind the last one of this machine's address space. */
  readonly endPage: number;

  /** Page and offset by turns: one look at memory gives both. */
  private readonly entries = new Float64Array(2 * TLB_ENTRIES).fill(-1);
  private readonly dmapPage: number = 0;
  private readonly dmapEndPage: number = 0;
  private readonly dmapPhys: number = 0;

  constructor(readonly core: Core) {
    this.endPage = core.bits === 32 ? 2 ** 20 : 2 ** 52;
    const { directMap } = core;
    if (directMap === undefined) return;
    const parts = new KvaParts(core.bits);
    parts.set(directMap.base);
    this.dmapPage = parts.page;
    parts.set(directMap.end - 1n);
    this.dmapEndPage = parts.page + 1;
    this.dmapPhys = directMap.phys;
  }

  /** Translates an address into {@link Translator.translation} and returns the outcome. */
  translate(page: number, offset: number): Outcome {
    const out = this.translation;
    if (this.inDirectMap(page)) {
      out.setEntry(0, 0, 0, 0);
      out.outcome = MAPPED;
      out.pa = this.dmapPhys + (page - this.dmapPage) * KVA_PAGE + offset;
      out.length = (this.dmapEndPage - page) * KVA_PAGE - offset;
      out.flags = READ | WRITE;
      out.pageSize = this.core.pageSize;
      return MAPPED;
    }
    if (this.core.addressSpace === undefined) return out.miss(1, KVA_PAGE - offset);
    const outcome = this.core.addressSpace.translate(page, offset, out);
    // The direct map comes first: what the tables say of an address, a hole above all, ends where it begins.
    if (page < this.dmapPage) out.length = Math.min(out.length, (this.dmapPage - page) * KVA_PAGE - offset);
    return outcome;
  }

  /**
   * Offset in the core's cache of the first byte of a page that lies whole and in one piece there, or -1 when this page
   * does not, for whatever reason. The hot path of every read.
   */
  pageOffset(page: number): number {
    const slot = (page & (TLB_ENTRIES - 1)) * 2;
    return this.entries[slot] === page ? this.entries[slot + 1] : this.findPage(page, slot);
  }

  inDirectMap(page: number): boolean {
    return page >= this.dmapPage && page < this.dmapEndPage;
  }

  /** Up to which page, at most `end`, the page tables are asked from a page outside the direct map on. */
  tablesEnd(page: number, end: number): number {
    return Math.min(end, page < this.dmapPage ? this.dmapPage : this.endPage);
  }

  /** The direct-map KVA of a physical address, where there is one. */
  directMapKva(pa: number): bigint | undefined {
    const bytes = pa - this.dmapPhys;
    const pages = Math.floor(bytes / KVA_PAGE);
    const page = this.dmapPage + pages;
    return bytes >= 0 && page < this.dmapEndPage ? kvaOf(page, bytes - pages * KVA_PAGE) : undefined;
  }

  private findPage(page: number, slot: number): number {
    const { memory } = this.core;
    const { translation } = this;
    // A page that is mapped in parts, as ARM subpages are, is looked up part by part.
    if (this.translate(page, 0) !== MAPPED || translation.length < KVA_PAGE) return ABSENT;
    const offset = memory.locate(translation.pa);
    if (offset < 0 || memory.run(translation.pa, KVA_PAGE) < KVA_PAGE) return ABSENT;
    this.entries[slot] = page;
    this.entries[slot + 1] = offset;
    return offset;
  }
}

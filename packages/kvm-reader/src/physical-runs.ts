import { KVA_PAGE, MAPPED, Mapping, type MappingCursor } from '@libkvm/minidump-core';
import type { Translator } from './translator.js';

/**
 * The physical memory behind a stretch of KVAs, in pieces as long as mappings that follow each other make them: for bulk
 * reads, which would otherwise spend their time on translating page by page. It ends at the first byte that is not
 * mapped, or that a page table does not tell of.
 */
export class PhysicalRuns {
  /** The piece that `next` found: PA and bytes. */
  pa = 0;
  length = 0;
  private readonly mapping = new Mapping();
  private cursor: MappingCursor | undefined;
  /** What lies behind that piece, when it has been looked at. */
  private aheadPa = 0;
  private aheadLength = 0;

  /**
   * @param page first KVA: page
   * @param offset and offset in it
   * @param left bytes of KVA to go
   */
  constructor(
    private readonly translator: Translator,
    private page: number,
    private offset: number,
    private left: number,
  ) {}

  /** Moves to the next piece; false at the end. */
  next(): boolean {
    if (this.aheadLength === 0 && !this.look()) return false;
    this.pa = this.aheadPa;
    this.length = 0;
    do {
      this.length += this.aheadLength;
      this.aheadLength = 0;
    } while (this.look() && this.aheadPa === this.pa + this.length);
    return true;
  }

  /** Finds the mapping at the current address; false at the end, and from then on. */
  private look(): boolean {
    if (this.left > 0 && this.page < this.translator.endPage) {
      if (this.translator.inDirectMap(this.page)) return this.lookInDirectMap();
      if (this.lookInTables()) return true;
    }
    this.left = 0;
    return false;
  }

  private lookInDirectMap(): boolean {
    const { translator } = this;
    translator.translate(this.page, this.offset);
    this.cursor = undefined;
    this.take(translator.translation.pa, translator.translation.length);
    return true;
  }

  private lookInTables(): boolean {
    const { mapping } = this;
    this.cursor ??= this.cursorFromHere();
    while (this.cursor?.next(mapping) === true) {
      const before = (this.page - mapping.page) * KVA_PAGE + this.offset - mapping.offset;
      if (before >= mapping.length) continue;
      if (before < 0 || mapping.outcome !== MAPPED) return false;
      const following = this.cursor.follow?.(mapping) ?? 0;
      this.take(mapping.pa + before, mapping.length - before + following);
      return true;
    }
    return false;
  }

  private cursorFromHere(): MappingCursor | undefined {
    const end = this.page + Math.ceil((this.offset + this.left) / KVA_PAGE);
    const { core } = this.translator;
    return core.addressSpace?.mappings(this.page, this.translator.tablesEnd(this.page, end));
  }

  private take(pa: number, length: number): void {
    this.aheadPa = pa;
    this.aheadLength = Math.min(length, this.left);
    this.left -= this.aheadLength;
    const end = this.offset + this.aheadLength;
    const pages = Math.floor(end / KVA_PAGE);
    this.page += pages;
    this.offset = end - pages * KVA_PAGE;
  }
}

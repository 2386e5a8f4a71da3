import { roundUp } from './minidump-layout.js';

/** Blocks that physical addresses are told apart by. */
const BLOCKS = 2 ** 20;
const LEAST_BLOCK = 4096;

/**
 * Which physical addresses anybody uses, as RAM or as what a mapping leads to: where something is made up, no one must
 * take it for a device's registers. Coarse (a millionth of the addresses), so that it takes 128 KB for any machine.
 */
export class PhysicalUse {
  private readonly block: number;
  private readonly used: Uint32Array;
  /** The end of the highest RAM. */
  private ramEnd = 0;
  /** The blocks marked last: mappings follow each other. */
  private lastFirst = -1;
  private lastEnd = -1;

  /** @param limit addresses from here on are of no interest; a power of two */
  constructor(private readonly limit: number) {
    this.block = Math.max(LEAST_BLOCK, limit / BLOCKS);
    this.used = new Uint32Array(Math.ceil(limit / this.block / 32));
  }

  /** Says that `[pa, pa + length)` is RAM. */
  addRam(pa: number, length: number): void {
    this.ramEnd = Math.max(this.ramEnd, pa + length);
    this.add(pa, length);
  }

  /** Says that `[pa, pa + length)` is in use. */
  add(pa: number, length: number): void {
    const first = Math.floor(pa / this.block);
    const end = Math.ceil(Math.min(pa + length, this.limit) / this.block);
    if (first >= this.lastFirst && end <= this.lastEnd) return;
    this.lastFirst = first;
    this.lastEnd = end;
    for (let i = first; i < end; i++) this.used[i >>> 5] |= 1 << (i & 31);
  }

  /**
   * A place that nobody uses: the lowest above all RAM, or where there is none, the lowest of all. Undefined when there is
   * no room.
   *
   * @param align a power of two
   */
  find(length: number, align: number): number | undefined {
    return this.findFrom(this.ramEnd, length, align) ?? this.findFrom(0, length, align);
  }

  private findFrom(from: number, length: number, align: number): number | undefined {
    let at = roundUp(from, align);
    while (at + length <= this.limit) {
      const taken = this.lastUsed(at, at + length);
      if (taken < 0) return at;
      at = roundUp((taken + 1) * this.block, align);
    }
    return undefined;
  }

  /** The last used block of an address range, or -1: nothing that starts before its end need be tried. */
  private lastUsed(start: number, end: number): number {
    for (let i = Math.ceil(end / this.block) - 1; i >= Math.floor(start / this.block); i--) {
      if ((this.used[i >>> 5] & (1 << (i & 31))) !== 0) return i;
    }
    return -1;
  }
}

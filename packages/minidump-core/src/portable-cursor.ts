import {
  KVA_PAGE,
  MAPPED,
  TABLE_LOOP,
  TABLE_TRUNCATED,
  type Mapping,
  type MappingCursor,
} from './address-space.js';
import { describeLeaf, leafPa, leafShift, leafValid } from './leaf.js';
import { RUN } from './portable-header.js';
import { POWERS } from './powers.js';
import type { PortableSpace } from './portable-space.js';
import { offsetIn } from './radix-space.js';

const LEAF_BYTES = 8;
const CHUNK_LEAVES = 8192;

/**
 * Enumerates the hardware mappings of a portable minidump: leaves that are parts of one page are put together again,
 * runs of several pages taken apart.
 */
export class PortableCursor implements MappingCursor {
  /** The segment at hand, and the granule in it that the walk is at. */
  private index: number;
  private granule = 0;
  private readonly words = new Uint32Array(CHUNK_LEAVES * 2);
  private readonly bytes = new Uint8Array(this.words.buffer);
  private readonly view = new DataView(this.words.buffer);
  /** Leaves `[chunkStart, chunkEnd)` are in {@link bytes}. */
  private chunkStart = 0;
  private chunkEnd = 0;
  private low = 0;
  private high = 0;
  /** The leaf whose mapping is being put together, its halves, and its leaves so far: kept when a source throws. */
  private begun = -1;
  private begunLow = 0;
  private begunHigh = 0;
  private begunCount = 0;
  private mappingsLeft: number;

  constructor(
    private readonly space: PortableSpace,
    private readonly fromPage: number,
    private readonly toPage: number,
  ) {
    const { segments } = space;
    this.mappingsLeft = space.walkLimit;
    // A granule larger than 4 KB reaches into windows that are empty.
    this.index = fromPage < toPage ? segments.seek(fromPage, 0) : segments.length;
    if (this.index >= segments.length) return;
    segments.load(this.index);
    this.granule = Math.max(0, Math.floor(segments.distanceTo(fromPage, 0) / POWERS[segments.shift]));
  }

  next(out: Mapping): boolean {
    const { segments } = this.space;
    while (this.index < segments.length) {
      segments.load(this.index);
      if (this.granule >= segments.count) {
        this.index++;
        this.granule = 0;
        continue;
      }
      const at = segments.offset + this.granule * POWERS[segments.shift];
      out.page = segments.page + Math.floor(at / KVA_PAGE);
      out.offset = at % KVA_PAGE;
      if (out.page >= this.toPage) return false;
      const leaf = segments.firstLeaf + (segments.kind === RUN ? 0 : this.granule);
      if (!this.begin(leaf)) return this.truncated(out);
      if (leafValid(this.low)) return this.mappingsLeft > 0 ? this.mapping(leaf, out) : this.giveUp(out);
      // A run has one leaf, however long it is.
      this.granule = segments.kind === RUN ? segments.count : this.granule + 1;
    }
    return false;
  }

  /** Loads the leaf that a mapping may start at; false where the file ends before it. */
  private begin(leaf: number): boolean {
    if (leaf === this.begun) {
      this.low = this.begunLow;
      this.high = this.begunHigh;
      return true;
    }
    if (!this.loadLeaf(leaf)) return false;
    this.begun = leaf;
    this.begunLow = this.low;
    this.begunHigh = this.high;
    this.begunCount = 1;
    return true;
  }

  /** Emits the hardware mapping that starts at the granule at hand. */
  private mapping(leaf: number, out: Mapping): boolean {
    const { segments } = this.space;
    const { low, high } = this;
    const granule = POWERS[segments.shift];
    out.setEntry(0, 0, 0, 0);
    out.outcome = MAPPED;
    describeLeaf(low, high, out);
    const size = Math.max(granule, POWERS[leafShift(high)]);
    const most = Math.min(
      (size - offsetIn(size, out.page, out.offset)) / granule,
      segments.count - this.granule,
      Math.ceil(((this.toPage - out.page) * KVA_PAGE - out.offset) / granule),
    );
    out.pa = leafPa(low, high);
    if (segments.kind === RUN) out.pa += this.granule * granule;
    else this.join(leaf, most, granule, out.pa);
    const count = segments.kind === RUN ? most : this.begunCount;
    out.length = count * granule;
    this.space.loadEntry(leaf, out);
    if (segments.kind !== RUN) this.begun = -1;
    this.granule += count;
    this.mappingsLeft--;
    this.cut(out);
    return true;
  }

  /** Counts the leaves of one mapping from where it was left. */
  private join(leaf: number, most: number, granule: number, pa: number): void {
    const { begunLow, begunHigh } = this;
    while (
      this.begunCount < most &&
      this.follows(leaf + this.begunCount, begunLow, begunHigh, pa + this.begunCount * granule) &&
      this.space.sameEntry(leaf, leaf + this.begunCount)
    )
      this.begunCount++;
  }

  /** A window that starts or ends inside a granule larger than 4 KB cuts it. */
  private cut(out: Mapping): void {
    if (out.page < this.fromPage) {
      const bytes = (this.fromPage - out.page) * KVA_PAGE - out.offset;
      out.page = this.fromPage;
      out.offset = 0;
      out.pa += bytes;
      out.length -= bytes;
    }
    const room = (this.toPage - out.page) * KVA_PAGE - out.offset;
    if (out.length > room) out.length = room;
  }

  /** Whether a leaf goes on where the one before it ends, with the same attributes. */
  private follows(leaf: number, low: number, high: number, pa: number): boolean {
    if (leaf >= this.chunkEnd && !this.loadLeaf(leaf)) return false;
    this.pick(leaf);
    const sameLow = ((this.low ^ low) & 0x3ff) === 0;
    const sameHigh = (this.high ^ high) >>> 20 === 0;
    return sameLow && sameHigh && leafPa(this.low, this.high) === pa;
  }

  private giveUp(out: Mapping): boolean {
    const { segments } = this.space;
    out.setEntry(0, 0, 0, 0);
    out.miss(TABLE_LOOP, POWERS[segments.shift]);
    this.index = segments.length;
    return true;
  }

  private truncated(out: Mapping): boolean {
    const { segments } = this.space;
    out.setEntry(0, 0, 0, 0);
    out.miss(TABLE_TRUNCATED, POWERS[segments.shift]);
    this.granule++;
    return true;
  }

  /** Loads a leaf; false where the file ends before it. */
  private loadLeaf(leaf: number): boolean {
    if (leaf < this.chunkStart || leaf >= this.chunkEnd) {
      const { cache } = this.space;
      const got = cache.source.readSync(this.space.leafOffset(leaf), this.bytes, 0, this.bytes.length);
      this.chunkStart = leaf;
      this.chunkEnd = leaf + Math.floor(got / LEAF_BYTES);
      if (this.chunkEnd === leaf) return false;
    }
    this.pick(leaf);
    return true;
  }

  private pick(leaf: number): void {
    const at = (leaf - this.chunkStart) * LEAF_BYTES;
    this.low = this.view.getUint32(at, true);
    this.high = this.view.getUint32(at + 4, true);
  }
}

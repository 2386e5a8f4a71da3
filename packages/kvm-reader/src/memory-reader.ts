import { KVA_PAGE, KvaParts, MAPPED, copyBytes, type BlockCache, type Core } from '@libkvm/minidump-core';
import { PhysicalRuns } from './physical-runs.js';
import { Translator } from './translator.js';

/** From this length on, reads go by runs that lie in one piece in the file, past the cache. */
const BULK = 32768;

/**
 * Copies bytes out of a core by KVA or PA. Every method returns how many bytes were good; when that is fewer than asked
 * for, the byte behind them is the fault.
 */
export class MemoryReader {
  readonly translator: Translator;
  private readonly parts: KvaParts;
  private readonly cache: BlockCache;
  /** The pending run of a bulk read: where it starts in the cache's source, and in the target. */
  private runOffset = 0;
  private runAt = 0;
  private runLength = 0;

  constructor(readonly core: Core) {
    this.translator = new Translator(core);
    this.parts = new KvaParts(core.bits);
    this.cache = core.memory.cache;
  }

  /** The parts of an address, checked. The object is reused by the next call. */
  split(kva: number | bigint): KvaParts {
    this.parts.set(kva);
    return this.parts;
  }

  /** Copies `length` bytes from an address to `target[at...]`. */
  copy(page: number, offset: number, target: Uint8Array, at: number, length: number): number {
    const from = length > 0 ? this.position(page, offset, length) : -1;
    if (from >= 0) {
      copyBytes(this.cache.bytes, from, target, at, length);
      return length;
    }
    return length < BULK
      ? this.copyPages(page, offset, target, at, length)
      : this.copyBulk(page, offset, target, at, length);
  }

  /** Copies page by page, through the cache. */
  private copyPages(page: number, offset: number, target: Uint8Array, at: number, length: number): number {
    let done = 0;
    while (done < length) {
      const base = this.translator.pageOffset(page);
      if (base < 0) {
        const count = this.copySlow(page, offset, target, at + done, length - done);
        if (count === 0) return done;
        done += count;
        offset += count;
      } else {
        const count = Math.min(length - done, KVA_PAGE - offset);
        this.copyCached(base + offset, target, at + done, count);
        done += count;
        offset += count;
      }
      if (offset >= KVA_PAGE) {
        offset = 0;
        if (++page >= this.translator.endPage) return done;
      }
    }
    return done;
  }

  /** Position in the cache's bytes of `length` bytes at an address, or -1 when they do not lie in one piece there. */
  position(page: number, offset: number, length: number): number {
    if (offset + length > KVA_PAGE) return -1;
    const base = this.translator.pageOffset(page);
    if (base < 0) return -1;
    const at = this.cache.position(base + offset);
    return this.cache.available(base + offset) >= length ? at : -1;
  }

  /** How many bytes from an address on, at most `limit`, can be read. Reads no data. */
  extent(page: number, offset: number, limit: number): number {
    const runs = new PhysicalRuns(this.translator, page, offset, limit);
    let done = 0;
    while (runs.next()) {
      const there = this.extentPhysical(runs.pa, runs.length);
      done += there;
      if (there < runs.length) break;
    }
    return done;
  }

  /** Copies `length` bytes from a physical address to `target[at...]`. */
  copyPhysical(pa: number, target: Uint8Array, at: number, length: number): number {
    if (length >= BULK) {
      this.runLength = 0;
      const done = this.addPhysical(pa, target, at, length);
      this.flushRun(target);
      return done;
    }
    const { memory } = this.core;
    let done = 0;
    while (done < length) {
      const offset = memory.locate(pa + done);
      if (offset < 0) break;
      const count = memory.run(pa + done, length - done);
      this.copyCached(offset, target, at + done, count);
      done += count;
    }
    return done;
  }

  /** How many bytes from a physical address on, at most `limit`, can be read. */
  extentPhysical(pa: number, limit: number): number {
    const { memory } = this.core;
    let done = 0;
    while (done < limit && memory.locate(pa + done) >= 0) done += memory.run(pa + done, limit - done);
    return done;
  }

  /** Bytes that lie in one piece in mapping and file from an address on; 0 at a fault. Leaves the translation set. */
  private runFrom(page: number, offset: number, limit: number): number {
    const { translator, core } = this;
    if (translator.translate(page, offset) !== MAPPED) return 0;
    const { pa, length } = translator.translation;
    return core.memory.locate(pa) < 0 ? 0 : core.memory.run(pa, Math.min(length, limit));
  }

  /** Copies up to the end of the 4 KB page where the page does not lie whole and in one piece in the file. */
  private copySlow(page: number, offset: number, target: Uint8Array, at: number, length: number): number {
    const count = this.runFrom(page, offset, Math.min(length, KVA_PAGE - offset));
    if (count > 0)
      this.copyCached(this.core.memory.locate(this.translator.translation.pa), target, at, count);
    return count;
  }

  private copyCached(from: number, target: Uint8Array, at: number, length: number): void {
    const { cache } = this;
    const position = cache.position(from);
    if (cache.available(from) >= length) copyBytes(cache.bytes, position, target, at, length);
    else cache.readSync(from, target, at, length);
  }

  private copyBulk(page: number, offset: number, target: Uint8Array, at: number, length: number): number {
    const runs = new PhysicalRuns(this.translator, page, offset, length);
    this.runLength = 0;
    let done = 0;
    while (runs.next()) {
      const there = this.addPhysical(runs.pa, target, at + done, runs.length);
      done += there;
      if (there < runs.length) break;
    }
    this.flushRun(target);
    return done;
  }

  /** Adds the pieces of physically contiguous memory to the pending run; returns how many bytes the core has. */
  private addPhysical(pa: number, target: Uint8Array, at: number, length: number): number {
    const { memory } = this.core;
    let done = 0;
    while (done < length) {
      const offset = memory.locate(pa + done);
      if (offset < 0) break;
      const count = memory.run(pa + done, length - done);
      this.addRun(offset, target, at + done, count);
      done += count;
    }
    return done;
  }

  /** Joins a piece to the pending run when it lies behind it in the file as well, else copies that run first. */
  private addRun(offset: number, target: Uint8Array, at: number, length: number): void {
    if (this.runLength > 0 && offset === this.runOffset + this.runLength) {
      this.runLength += length;
      return;
    }
    this.flushRun(target);
    this.runOffset = offset;
    this.runAt = at;
    this.runLength = length;
  }

  private flushRun(target: Uint8Array): void {
    const { runOffset, runAt, runLength } = this;
    this.runLength = 0;
    if (runLength >= KVA_PAGE) this.cache.readThrough(runOffset, target, runAt, runLength);
    else if (runLength > 0) this.copyCached(runOffset, target, runAt, runLength);
  }
}

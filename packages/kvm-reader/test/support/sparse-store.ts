import type { ByteSource, DumpPlan } from '@libkvm/minidump-core';

const PAGE = 4096;
const ZEROS = new Uint8Array(PAGE);

/** A file of which only pages that are not all zeros are held: minidumps with page tables for terabytes of KVA. */
export class SparseStore implements ByteSource {
  size = 0;
  private readonly pages = new Map<number, Uint8Array>();

  /** Writes a plan; pieces need not end with pages. */
  static of(plan: DumpPlan): SparseStore {
    const store = new SparseStore();
    for (const piece of plan.bytes()) store.append(piece);
    return store;
  }

  append(piece: Uint8Array): void {
    for (let at = 0; at < piece.length;) {
      const inPage = this.size % PAGE;
      const part = piece.subarray(at, at + PAGE - inPage);
      if (Buffer.compare(part, ZEROS.subarray(0, part.length)) !== 0) {
        const index = Math.floor(this.size / PAGE);
        const page = this.pages.get(index) ?? new Uint8Array(PAGE);
        this.pages.set(index, page);
        page.set(part, inPage);
      }
      at += part.length;
      this.size += part.length;
    }
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const count = Math.max(0, Math.min(length, this.size - offset));
    for (let done = 0; done < count;) {
      const inPage = (offset + done) % PAGE;
      const piece = Math.min(count - done, PAGE - inPage);
      const page = this.pages.get(Math.floor((offset + done) / PAGE)) ?? ZEROS;
      target.set(page.subarray(inPage, inPage + piece), at + done);
      done += piece;
    }
    return count;
  }
}

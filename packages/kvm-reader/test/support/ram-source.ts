import type { SimRam } from '@libkvm/fixtures';
import type { ByteSource } from '@libkvm/minidump-core';

/** Simulated RAM as a file of raw memory from PA 0 on; what is no RAM reads as zeros. */
export class RamSource implements ByteSource {
  private readonly page = new Uint8Array(4096);

  constructor(
    private readonly ram: SimRam,
    readonly size: number,
  ) {}

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const count = Math.max(0, Math.min(length, this.size - offset));
    for (let done = 0; done < count;) {
      const pa = offset + done;
      const inPage = pa % 4096;
      const piece = Math.min(count - done, 4096 - inPage);
      if (this.ram.has(pa)) this.ram.copyPage(pa - inPage, this.page, 0);
      else this.page.fill(0);
      target.set(this.page.subarray(inPage, inPage + piece), at + done);
      done += piece;
    }
    return count;
  }
}

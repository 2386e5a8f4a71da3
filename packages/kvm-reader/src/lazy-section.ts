import { KvmError, type ByteSource } from '@libkvm/minidump-core';
import type { ElfSection } from './elf-headers.js';

/** Bytes read at a time, in one request where they are fetched: an interrupted load goes on where it was. */
const PIECE = 2 * 1024 * 1024;

/** A section that is read whole, in pieces. Its length is checked against the file before memory is taken for it. */
export class LazySection {
  private bytes: Uint8Array<ArrayBuffer> | undefined;
  private done = 0;

  /**
   * @param source the bytes of the file, past any cache
   * @param what how an error calls it
   */
  constructor(
    private readonly source: ByteSource,
    private readonly section: ElfSection,
    private readonly what: string,
  ) {}

  /**
   * Reads what is missing of it. It can be called again when the source threw, and goes on then.
   *
   * @throws KvmError `TRUNCATED`
   */
  read(): Uint8Array<ArrayBuffer> {
    const { offset, length } = this.section;
    if (offset + length > this.source.size) throw this.truncated();
    this.bytes ??= new Uint8Array(length);
    while (this.done < length) {
      const count = Math.min(PIECE, length - this.done);
      if (this.source.readSync(offset + this.done, this.bytes, this.done, count) < count)
        throw this.truncated();
      this.done += count;
    }
    return this.bytes;
  }

  private truncated(): KvmError {
    const { offset, length } = this.section;
    return new KvmError(
      'TRUNCATED',
      `${this.what} reaches past the end of the file (${this.source.size} bytes)`,
      {
        offset,
        length,
        hint: 'the kernel file is cut short; copy it again',
      },
    );
  }
}

import type { ByteSource } from '../src/index.js';

/** A scrambled 32-bit number for each n below 2^53. */
export function mix(n: number): number {
  let v = Math.imul((n >>> 0) ^ Math.imul(Math.floor(n / 2 ** 32) + 1, 0x9e3779b1), 0x85ebca6b);
  v = Math.imul(v ^ (v >>> 15), 0xc2b2ae35);
  return (v ^ (v >>> 13)) >>> 0;
}

/** The byte that every patterned source has at an offset. */
export const patternByte = (offset: number): number => mix(offset) & 0xff;

export function pattern(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => patternByte(from + i));
}

/** A source of any size whose bytes are made when they are read. */
export class PatternSource implements ByteSource {
  reads = 0;

  constructor(readonly size: number) {}

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    this.reads++;
    const count = offset < 0 ? 0 : Math.max(0, Math.min(length, this.size - offset));
    for (let i = 0; i < count; i++) target[at + i] = patternByte(offset + i);
    return count;
  }
}

/** Bytes in memory that do not look like a MemorySource, so that nothing takes a short cut. */
export class PlainSource implements ByteSource {
  readonly size: number;
  reads: { offset: number; length: number }[] = [];

  constructor(readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    this.reads.push({ offset, length });
    const part = offset < 0 ? new Uint8Array() : this.bytes.slice(offset, offset + length);
    target.set(part, at);
    return part.length;
  }
}

export type Misdeed = 'none' | 'throw' | 'garbage then throw' | 'garbage and short' | 'nothing';

/** A source that misbehaves when told: the next calls take their deeds from a list, then it is good. */
export class FlakySource implements ByteSource {
  readonly size: number;
  deeds: Misdeed[] = [];

  constructor(private readonly inner: ByteSource) {
    this.size = inner.size;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    const deed = this.deeds.shift() ?? 'none';
    if (deed === 'none' || length === 0) return this.inner.readSync(offset, target, at, length);
    if (deed === 'nothing') return 0;
    if (deed !== 'throw') target.fill(0xee, at, at + Math.ceil(length / 2));
    if (deed === 'garbage and short') return Math.ceil(length / 2) - 1;
    throw new Error('flaky');
  }
}

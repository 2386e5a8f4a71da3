import { Prng } from '@libkvm/fixtures';

export interface Part {
  readonly offset: number;
  readonly length: number;
}

/** What of a file is worth damaging. */
export interface Anatomy {
  readonly little: boolean;
  /** Header fields, by offset and width in bytes. */
  readonly fields: readonly { readonly at: number; readonly width: 1 | 2 | 4 | 8 }[];
  /** Tables of entries: page tables, ranges, symbols, program headers. */
  readonly tables: readonly (Part & { readonly entryBytes: number })[];
  readonly bitmap?: Part;
  /** All parts in order: for swaps and cuts. */
  readonly parts: readonly Part[];
  /** Addresses that lead to pages of the file: entries are pointed at them, page tables among them. */
  readonly frames: readonly bigint[];
}

type Edit = (bytes: Uint8Array, view: DataView) => void;

const BOUNDARIES = [
  ...[0n, 1n, 2n, 3n, 7n, 8n, 15n, 16n, 0xfffn, 0x1000n, 0x1001n, 0x2000n, 0xffffn, 0x10000n, 0x1fffffn],
  ...[0x200000n, 0x40000000n, 0x7fffffffn, 0x80000000n, 0x80000001n, 0xfffff000n, 0xffffffffn, 1n << 32n],
  ...[(1n << 40n) - 0x1000n, 1n << 40n, 1n << 47n, (1n << 52n) - 0x1000n, 1n << 52n, (1n << 53n) - 1n],
  ...[
    1n << 53n,
    (1n << 53n) + 1n,
    1n << 63n,
    (1n << 64n) - 0x200000n,
    (1n << 64n) - 0x1000n,
    (1n << 64n) - 1n,
  ],
];
const DELTAS = [1n, -1n, 8n, -8n, 16n, 0x1000n, -0x1000n, 0x200000n];
const BITS = [0n, 1n, 2n, 3n, 0x63n, 0x83n, 0xe3n, 0x55en, 0x7ffn, (1n << 63n) | 0x63n];

/** A damaged copy of a file: one to four wrongs, which depend on the seed alone. */
export function mutate(original: Uint8Array, anatomy: Anatomy, seed: number): Uint8Array {
  const prng = new Prng(seed);
  let bytes = original.slice();
  for (let i = prng.pick([1, 1, 1, 2, 2, 3, 4]); i > 0; i--) {
    if (prng.chance(8)) bytes = resized(bytes, anatomy, prng);
    else if (bytes.length > 0) editOf(bytes, anatomy, prng)(bytes, new DataView(bytes.buffer));
  }
  return bytes;
}

/** Cut at an interesting place, or longer than it should be. */
function resized(bytes: Uint8Array, { parts, fields }: Anatomy, prng: Prng): Uint8Array<ArrayBuffer> {
  if (prng.chance(10)) {
    const longer = new Uint8Array(bytes.length + prng.pick([1, 8, 4095, 4096, 9000])).fill(prng.below(256));
    longer.set(bytes);
    return longer;
  }
  const part = prng.pick(parts);
  const place = prng.pick([
    ...[part.offset, part.offset + part.length, part.offset + prng.below(part.length + 1)],
    ...[prng.pick(fields).at, prng.below(bytes.length + 1)],
  ]);
  const length = place + prng.pick([0, 0, -1, 1, 7, 8, -4096, 4095]);
  return bytes.slice(0, Math.max(0, length));
}

function editOf(bytes: Uint8Array, anatomy: Anatomy, prng: Prng): Edit {
  const { fields, tables, bitmap, parts, little } = anatomy;
  const kind = prng.below(100);
  if (kind < 30) {
    const { at, width } = prng.pick(fields);
    const value = fieldValue(bytes, at, width, anatomy, prng);
    return (target, view) => put(target, view, at, width, value, little);
  }
  if (kind < 65 && tables.length > 0) return entryEdit(anatomy, prng);
  if (kind < 72 && bitmap) {
    const at =
      bitmap.offset + (prng.chance(50) ? prng.below(Math.min(64, bitmap.length)) : prng.below(bitmap.length));
    const length = prng.pick([1, 1, 1, 8, 64]);
    const value = prng.pick([0, 0xff, prng.below(256)]);
    return (target) => void target.fill(value, at, at + length);
  }
  if (kind < 78) {
    // Two parts, or pieces of them, exchanged.
    const [a, b] = [prng.pick(parts), prng.pick(parts)];
    const length = Math.min(a.length, b.length, prng.pick([8, 64, 4096, 65536]));
    return (target) => swap(target, a.offset, b.offset, length);
  }
  if (kind < 88) {
    const at = prng.below(bytes.length);
    const bit = 1 << prng.below(8);
    return (target) => void (target[at] ^= bit);
  }
  const { offset, length } = prng.pick(parts);
  const at = offset + prng.below(Math.max(1, length));
  const random = Uint8Array.from({ length: prng.pick([1, 2, 4, 8, 16, 200]) }, () => prng.below(256));
  return (target) =>
    target.set(random.subarray(0, Math.max(0, target.length - at)), Math.min(at, target.length));
}

/** A boundary value, the value that is there give or take, or something about the size of the file. */
function fieldValue(bytes: Uint8Array, at: number, width: number, anatomy: Anatomy, prng: Prng): bigint {
  const how = prng.below(10);
  if (how < 5) return prng.pick(BOUNDARIES);
  if (how < 8) return read(bytes, at, width, anatomy.little) + prng.pick(DELTAS);
  if (how < 9) return BigInt(bytes.length) + prng.pick([0n, 1n, -1n, -4096n, 4096n]);
  return BigInt(prng.u32()) * BigInt(prng.u32());
}

/** An entry that leads to some page of the file, to where another one leads, next to it, or nowhere. */
function entryEdit({ tables, frames, little }: Anatomy, prng: Prng): Edit {
  const { offset, length, entryBytes } = prng.pick(tables);
  const count = Math.max(1, Math.floor(length / entryBytes));
  const width = entryBytes === 4 ? 4 : 8;
  const slot = (): number =>
    offset + (prng.chance(50) ? prng.below(Math.min(count, 64)) : prng.below(count)) * entryBytes;
  const [at, other] = [slot(), slot()];
  // Table entries may be longer than a word: any word of them.
  const word = entryBytes > 8 ? prng.below(Math.floor(entryBytes / 8)) * 8 : 0;
  const how = prng.below(10);
  const chosen =
    prng.pick(frames.length > 0 ? frames : [0n]) + prng.pick([0n, 0n, 0n, 0x1000n, -0x1000n, 0x800n]);
  const [bits, boundary, delta] = [prng.pick(BITS), prng.pick(BOUNDARIES), prng.pick(DELTAS)];
  const run = prng.pick([1, 1, 1, 1, 2, 16, 512]);
  return (target, view) => {
    for (let i = 0; i < run; i++) {
      const place = at + word + i * entryBytes;
      if (place + width > Math.min(target.length, offset + length)) return;
      const value =
        how < 4
          ? chosen | bits
          : how < 6
            ? read(target, other + word, width, little)
            : how < 8
              ? read(target, place, width, little) + delta
              : boundary | bits;
      put(target, view, place, width, value, little);
    }
  };
}

function swap(bytes: Uint8Array, a: number, b: number, length: number): void {
  const kept = bytes.slice(a, a + length);
  bytes.copyWithin(a, b, b + length);
  bytes.set(kept.subarray(0, Math.max(0, bytes.length - b)), Math.min(b, bytes.length));
}

function read(bytes: Uint8Array, at: number, width: number, little: boolean): bigint {
  let value = 0n;
  for (let i = 0; i < width; i++) {
    const byte = bytes[little ? at + width - 1 - i : at + i] ?? 0;
    value = value * 256n + BigInt(byte);
  }
  return value;
}

function put(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  width: number,
  value: bigint,
  little: boolean,
): void {
  if (at < 0 || at + width > bytes.length) return;
  const fits = BigInt.asUintN(width * 8, value);
  if (width === 8) view.setBigUint64(at, fits, little);
  else if (width === 4) view.setUint32(at, Number(fits), little);
  else if (width === 2) view.setUint16(at, Number(fits), little);
  else view.setUint8(at, Number(fits));
}

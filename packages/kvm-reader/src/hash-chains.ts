/** The bytes of a hash section and how to read them. */
export interface HashBytes {
  readonly view: DataView;
  readonly little: boolean;
  /** Bytes of a word of the file's class: 4 or 8. */
  readonly wordBytes: number;
}

const WORD = 4;
const GNU_HEADER = 4 * WORD;
const SYSV_HEADER = 2 * WORD;

/**
 * The rows of .dynsym that may have a name, by .gnu.hash (its layout: binutils bfd/elflink.c, and the mail "GNU_HASH
 * section format" to its list of 31 October 2006). In front are the numbers of buckets, of the first row in it, of
 * words of the filter and the filter's shift; then come the filter, the buckets and the chains, which hold the hashes
 * of the rows but for the lowest bit: it is set in the last one of a bucket.
 *
 * The filter is passed over: all it can say is that a name is not there, at no less than the few words of the chain
 * would cost, since the section is read whole. Whatever the section holds, rows come to an end: they are in it.
 */
export function* gnuChain({ view, little, wordBytes }: HashBytes, name: Uint8Array): Generator<number> {
  if (view.byteLength < GNU_HEADER) return;
  const [buckets, firstRow, filterWords] = [0, 1, 2].map((i) => view.getUint32(i * WORD, little));
  const bucketsAt = GNU_HEADER + filterWords * wordBytes;
  const chainsAt = bucketsAt + buckets * WORD;
  if (buckets === 0 || chainsAt > view.byteLength) return;
  const hash = gnuHash(name);
  const start = view.getUint32(bucketsAt + (hash % buckets) * WORD, little);
  if (start < firstRow) return;
  for (let row = start; ; row++) {
    const at = chainsAt + (row - firstRow) * WORD;
    if (at + WORD > view.byteLength) return;
    const entry = view.getUint32(at, little);
    if ((entry ^ hash) >>> 1 === 0) yield row;
    if ((entry & 1) !== 0) return;
  }
}

/**
 * The rows of .dynsym that may have a name, by .hash (gABI chapter 5, "Hash Table"): the numbers of buckets and of
 * chain words, then both. The word of a row is the next row of its chain; 0 ends it. No more rows come than there are.
 */
export function* sysvChain({ view, little }: HashBytes, name: Uint8Array): Generator<number> {
  if (view.byteLength < SYSV_HEADER) return;
  const [buckets, rows] = [0, 1].map((i) => view.getUint32(i * WORD, little));
  const chainsAt = SYSV_HEADER + buckets * WORD;
  if (buckets === 0 || chainsAt + rows * WORD > view.byteLength) return;
  let row = view.getUint32(SYSV_HEADER + (sysvHash(name) % buckets) * WORD, little);
  for (let count = 0; row !== 0 && row < rows && count < rows; count++) {
    yield row;
    row = view.getUint32(chainsAt + row * WORD, little);
  }
}

/** The hash of .gnu.hash: 33 times what was, plus the byte, from 5381 on (glibc elf/dl-hash.h). */
function gnuHash(name: Uint8Array): number {
  let hash = 5381;
  for (const byte of name) hash = (Math.imul(hash, 33) + byte) | 0;
  return hash >>> 0;
}

/** The hash of .hash (gABI figure 5-13), of 28 bits. */
function sysvHash(name: Uint8Array): number {
  let hash = 0;
  for (const byte of name) {
    hash = (hash << 4) + byte;
    hash = (hash ^ ((hash >>> 24) & 0xf0)) & 0x0fff_ffff;
  }
  return hash;
}

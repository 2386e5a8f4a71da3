/**
 * A CRC-32 as in zlib, gzip and PNG (ISO 3309; polynomial 0xedb88320, reflected), continued from `crc`: the checksum of
 * two pieces is `crc32(second, crc32(first))`. `node:zlib` has one of this shape, and faster.
 */
export type Crc32 = (bytes: Uint8Array, crc?: number) => number;

/** Eight tables, so that eight bytes go in at once. */
const TABLES = makeTables();

/** {@link Crc32} in portable code. */
export const crc32: Crc32 = (bytes, crc = 0) => {
  const t = TABLES;
  let c = ~crc;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    c ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    c =
      t[0x700 | (c & 0xff)] ^
      t[0x600 | ((c >>> 8) & 0xff)] ^
      t[0x500 | ((c >>> 16) & 0xff)] ^
      t[0x400 | (c >>> 24)] ^
      t[0x300 | bytes[i + 4]] ^
      t[0x200 | bytes[i + 5]] ^
      t[0x100 | bytes[i + 6]] ^
      t[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) c = t[(c ^ bytes[i]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
};

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    tables[i] = c;
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256];
    tables[i] = tables[previous & 0xff] ^ (previous >>> 8);
  }
  return tables;
}

import { KvmError, latin1 } from '@libkvm/minidump-core';

const WINDOWS = 'this library reads FreeBSD and Linux dumps';

const COMPRESSED = 'openKvmFile of @libkvm/kvm-reader/node opens it as it is; elsewhere decompress it first';

interface Recognised {
  readonly name: string;
  readonly hint: string;
}

/** Files that are met in place of a core: what they are, and what to do. First bytes as hex. */
const RECOGNISED: readonly (readonly [string, Recognised])[] = [
  [
    '1f8b',
    { name: 'a gzip stream', hint: `${COMPRESSED}: gunzip vmcore.N.gz, or DecompressionStream in a browser` },
  ],
  ['28b52ffd', { name: 'a zstd stream', hint: `${COMPRESSED}: zstd -d vmcore.N.zst` }],
  ['fd377a585a00', { name: 'an xz stream', hint: 'decompress it first: xz -d' }],
  ['425a68', { name: 'a bzip2 stream', hint: 'decompress it first: bzip2 -d' }],
  ['4d444d5093a7', { name: 'a Windows minidump', hint: 'this library reads kernel minidumps of FreeBSD' }],
  ['5041474544554d50', { name: 'a Windows kernel dump', hint: WINDOWS }],
  ['5041474544553634', { name: 'a Windows kernel dump (64-bit)', hint: WINDOWS }],
  ['4b44554d50202020', { name: 'a Linux kdump file (makedumpfile)', hint: 'this version does not read it' }],
  ['4449534b44554d50', { name: 'a Linux diskdump file', hint: 'this version does not read it' }],
  [
    '454d694c',
    { name: 'a LiME memory image', hint: 'make it again with format=padded, which is a raw image' },
  ],
  [
    '6d616b6564756d7066696c65',
    { name: 'a flattened makedumpfile stream', hint: 'rearrange it: makedumpfile -R' },
  ],
];

/** Offset of `ustar` in a tar archive (POSIX pax, ustar interchange format). */
const TAR_MAGIC = 257;
const TAR: Recognised = {
  name: 'a tar archive',
  hint: 'a textdump (textdump.tar.N) holds text, not memory, see textdump(4); otherwise unpack it first',
};

/** The error for a file that no format takes: says what it is where that can be told. */
export function unknownFile(head: Uint8Array, size: number, knownFormats: readonly string[]): KvmError {
  if (size === 0) {
    return new KvmError('NOT_A_CORE', 'the file is empty', {
      offset: 0,
      hint: 'copy it again; savecore(8) leaves an empty file where the disk was full',
    });
  }
  const text = latin1(head.subarray(0, 32));
  if (text.startsWith('minidump ')) {
    return new KvmError(
      'UNSUPPORTED',
      `a minidump of an architecture that was not given: ${JSON.stringify(text)}`,
      {
        offset: 0,
        field: 'magic',
        hint: `it reads: ${knownFormats.join(', ')}`,
      },
    );
  }
  const known = recognise(head);
  if (known)
    return new KvmError('UNSUPPORTED', `not a core but ${known.name}`, { offset: 0, hint: known.hint });
  const start = Array.from(head.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return new KvmError('NOT_A_CORE', `no known core starts with ${start}`, {
    offset: 0,
    hint: `it reads: ${knownFormats.join(', ')}`,
  });
}

function recognise(head: Uint8Array): Recognised | undefined {
  const hex = Array.from(head.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  for (const [magic, what] of RECOGNISED) if (hex.startsWith(magic)) return what;
  return latin1(head.subarray(TAR_MAGIC, TAR_MAGIC + 5)) === 'ustar' ? TAR : undefined;
}

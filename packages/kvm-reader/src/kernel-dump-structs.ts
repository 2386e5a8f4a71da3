import { struct, type FieldKind, type FieldSpec } from '@libkvm/minidump-core';

/** Bytes of a dump header on any device; blocks that are larger are filled with zeros. */
export const DUMP_HEADER_BYTES = 512;
/** Where the parity lies in every version. */
export const PARITY_OFFSET = 508;

/** The three magics of a dump device: a dump, one that savecore(8) has saved, and a textdump (sys/sys/kerneldump.h). */
export const DUMP_MAGICS = {
  kernel: 'FreeBSD Kernel Dump',
  cleared: 'Cleared Kernel Dump',
  text: 'FreeBSD Text Dump',
} as const;

const field = <const K extends FieldKind>(at: number, kind: K, doc: string): FieldSpec & { kind: K } => ({
  ...{ at, kind, doc },
});

/** What stands at the same place in all versions. */
const common = {
  magic: field(0, 'char[20]', 'kind of dump'),
  architecture: field(20, 'char[12]', 'MACHINE_ARCH of the kernel: amd64, i386, armv7, aarch64, ...'),
  version: field(32, 'u32', 'version of this header'),
  architectureVersion: field(36, 'u32', 'version of the dump; does not follow that of the minidump'),
  dumpLength: field(40, 'u64', 'bytes of dump data, as stored'),
  parity: field(PARITY_OFFSET, 'u32', 'makes the exclusive or of all 128 words zero'),
} as const;

const EXTENT = 'bytes between the key and the trailing header';
const TIME = 'seconds since 1970';
const KEY = 'bytes of the key in front of the data; 0: not encrypted';
const BLOCK = "bytes of the device's blocks";
const COMPRESSION = '0 none, 1 gzip, 2 zstd';
const HOST = 'name of the machine';
const VERSION = "the kernel's version string";
const PANIC = 'what it panicked with';

/**
 * `struct kerneldumpheader` in its four versions (sys/sys/kerneldump.h): packed, and big-endian on every machine. 1 up to
 * FreeBSD 11, 2 with encryption, 3 with compression, 4 the same in an order that keeps to version 2 (12.0 on).
 */
export const dumpHeaderV1 = struct('kerneldumpheader v1', {
  ...common,
  dumpTime: field(48, 'u64', TIME),
  blockSize: field(56, 'u32', BLOCK),
  hostname: field(60, 'char[64]', HOST),
  versionString: field(124, 'char[192]', VERSION),
  panicString: field(316, 'char[192]', PANIC),
});

export const dumpHeaderV2 = struct('kerneldumpheader v2', {
  ...common,
  dumpTime: field(48, 'u64', TIME),
  keySize: field(56, 'u32', KEY),
  blockSize: field(60, 'u32', BLOCK),
  hostname: field(64, 'char[64]', HOST),
  versionString: field(128, 'char[192]', VERSION),
  panicString: field(320, 'char[188]', PANIC),
});

export const dumpHeaderV3 = struct('kerneldumpheader v3', {
  ...common,
  dumpExtent: field(48, 'u64', EXTENT),
  dumpTime: field(56, 'u64', TIME),
  keySize: field(64, 'u32', KEY),
  blockSize: field(68, 'u32', BLOCK),
  compression: field(72, 'u8', COMPRESSION),
  hostname: field(73, 'char[64]', HOST),
  versionString: field(137, 'char[192]', VERSION),
  panicString: field(329, 'char[179]', PANIC),
});

export const dumpHeaderV4 = struct('kerneldumpheader v4', {
  ...common,
  dumpTime: field(48, 'u64', TIME),
  keySize: field(56, 'u32', KEY),
  blockSize: field(60, 'u32', BLOCK),
  hostname: field(64, 'char[64]', HOST),
  versionString: field(128, 'char[192]', VERSION),
  panicString: field(320, 'char[175]', PANIC),
  compression: field(495, 'u8', COMPRESSION),
  dumpExtent: field(496, 'u64', EXTENT),
});

import { KvmError, latin1, readBytes, type ByteSource } from '@libkvm/minidump-core';
import {
  DUMP_HEADER_BYTES,
  DUMP_MAGICS,
  PARITY_OFFSET,
  dumpHeaderV1,
  dumpHeaderV2,
  dumpHeaderV3,
  dumpHeaderV4,
} from './kernel-dump-structs.js';

/** How a kernel compressed its dump; a number for a way that is not known. */
export type DumpCompression = 'none' | 'gzip' | 'zstd' | number;

/** What `struct kerneldumpheader` says of a dump (sys/sys/kerneldump.h). */
export interface KernelDumpHeader {
  /** A dump of memory, one that savecore(8) has saved already, or a textdump. */
  readonly kind: keyof typeof DUMP_MAGICS;
  /** Version of the header, 1 to 4. */
  readonly version: number;
  /** MACHINE_ARCH of the kernel: `amd64`, `i386`, `armv7`, `aarch64`, ... */
  readonly architecture: string;
  readonly architectureVersion: number;
  /** Bytes of the dump's data as stored, without headers and padding. */
  readonly dumpLength: number;
  /** Bytes that the data takes on the device. */
  readonly dumpExtent: number;
  /** Seconds since 1970. */
  readonly dumpTime: number;
  /** Bytes of the key in front of the data; 0 when the dump is not encrypted. */
  readonly keySize: number;
  /** Bytes of the device's blocks. */
  readonly blockSize: number;
  readonly compression: DumpCompression;
  readonly hostname: string;
  readonly versionString: string;
  readonly panicString: string;
  /** The parity as stored. */
  readonly parity: number;
  /** Whether the parity is right: a header that it does not fit is damaged. */
  readonly parityHolds: boolean;
}

/** What a dump header is written from; what is left out is empty, or as FreeBSD has it. */
export interface DumpHeaderFacts {
  /** MACHINE_ARCH of the kernel. */
  readonly architecture: string;
  /** As FreeBSD numbers the architecture's dumps, unless given. */
  readonly architectureVersion?: number;
  readonly dumpLength: number;
  /** `dumpLength` in whole blocks, unless given. */
  readonly dumpExtent?: number;
  /** Seconds since 1970; 0 unless given. */
  readonly dumpTime?: number;
  /** 512 unless given. */
  readonly blockSize?: number;
  readonly compression?: 'none' | 'gzip' | 'zstd';
  readonly hostname?: string;
  readonly versionString?: string;
  readonly panicString?: string;
}

const STRUCTS = [dumpHeaderV1, dumpHeaderV2, dumpHeaderV3, dumpHeaderV4] as const;
const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;
/** Devices with larger blocks are not met; and a block is read at once. */
const MAX_BLOCK = 65536;

/** Which magic the bytes of a header have, if any. */
export function dumpKind(bytes: Uint8Array): KernelDumpHeader['kind'] | undefined {
  const magic = latin1(bytes.subarray(0, 20));
  return (['kernel', 'cleared', 'text'] as const).find((kind) => DUMP_MAGICS[kind] === magic);
}

/**
 * Decodes a dump header by its version. A wrong parity is reported, not refused.
 *
 * @throws KvmError `TRUNCATED` for less than 512 bytes, `NOT_A_CORE` without a magic, `UNSUPPORTED` for a version that is
 *   not known, `CORRUPT` for a block size or a length that no device has
 */
export function readKernelDumpHeader(bytes: Uint8Array): KernelDumpHeader {
  const base = dumpHeaderV1.read(bytes, 0, 'big');
  const kind = dumpKind(bytes);
  if (kind === undefined) throw new KvmError('NOT_A_CORE', 'no kernel dump header', { offset: 0 });
  const { version, architecture, architectureVersion, parity } = base;
  const known = STRUCTS[version - 1];
  if (known === undefined) {
    throw new KvmError('UNSUPPORTED', `a kernel dump header of version ${version}`, {
      ...{ offset: 0, field: 'version', hint: 'versions 1 to 4 are read; save the core with savecore(8)' },
    });
  }
  const values = { dumpExtent: 0n, keySize: 0, compression: 0, ...known.read(bytes, 0, 'big') };
  const { blockSize, keySize, hostname, versionString, panicString } = values;
  requireThat(isBlockSize(blockSize), 'blockSize', blockSize);
  const dumpLength = exact(values.dumpLength, 'dumpLength');
  const dumpExtent = version < 3 ? roundUp(dumpLength, blockSize) : exact(values.dumpExtent, 'dumpExtent');
  return {
    ...{ kind, version, architecture, architectureVersion, dumpLength, dumpExtent, keySize, blockSize },
    dumpTime: Number(values.dumpTime),
    compression: COMPRESSIONS[values.compression] ?? values.compression,
    ...{ hostname: utf8(hostname), versionString: utf8(versionString), panicString: utf8(panicString) },
    ...{ parity, parityHolds: parityOf(bytes) === 0 },
  };
}

/**
 * The header at an offset of a source; undefined where there is none.
 *
 * @throws KvmError as {@link readKernelDumpHeader}
 */
export function dumpHeaderAt(
  source: ByteSource,
  offset: number,
): { bytes: Uint8Array; header: KernelDumpHeader } | undefined {
  if (offset < 0 || offset + DUMP_HEADER_BYTES > source.size) return undefined;
  const bytes = readBytes(source, offset, DUMP_HEADER_BYTES, 'kernel dump header');
  return dumpKind(bytes) === undefined ? undefined : { bytes, header: readKernelDumpHeader(bytes) };
}

/**
 * Encodes a dump header of version 4, with its parity.
 *
 * @throws KvmError `INVALID_ARGUMENT` for a block size that no device has, or a value that does not fit; strings of the
 *   version and the panic are cut, as the kernel cuts them
 */
export function writeKernelDumpHeader(facts: DumpHeaderFacts): Uint8Array<ArrayBuffer> {
  const { blockSize = 512, compression = 'none', dumpLength } = facts;
  if (!isBlockSize(blockSize)) {
    throw new KvmError('INVALID_ARGUMENT', `no device has blocks of ${blockSize} bytes`, {
      ...{ field: 'blockSize', hint: 'it is a power of two from 512 to 65536' },
    });
  }
  const bytes = new Uint8Array(DUMP_HEADER_BYTES);
  dumpHeaderV4.write(bytes, 0, 'big', {
    magic: DUMP_MAGICS.kernel,
    architecture: facts.architecture,
    version: 4,
    architectureVersion: facts.architectureVersion ?? (/^(amd64|i386)$/.test(facts.architecture) ? 2 : 1),
    dumpLength: BigInt(dumpLength),
    dumpExtent: BigInt(facts.dumpExtent ?? roundUp(dumpLength, blockSize)),
    dumpTime: BigInt(facts.dumpTime ?? 0),
    keySize: 0,
    blockSize,
    compression: COMPRESSIONS.indexOf(compression),
    hostname: cut(facts.hostname, 63),
    versionString: cut(facts.versionString, 191),
    panicString: cut(facts.panicString, 174),
  });
  new DataView(bytes.buffer).setUint32(PARITY_OFFSET, parityOf(bytes));
  return bytes;
}

/** Bytes in whole blocks. */
export function roundUp(length: number, blockSize: number): number {
  return Math.ceil(length / blockSize) * blockSize;
}

/** The exclusive or of the 128 words: 0 for a header that is whole. */
function parityOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, DUMP_HEADER_BYTES);
  let parity = 0;
  for (let at = 0; at < DUMP_HEADER_BYTES; at += 4) parity ^= view.getUint32(at);
  return parity >>> 0;
}

function isBlockSize(size: number): boolean {
  return size >= DUMP_HEADER_BYTES && size <= MAX_BLOCK && Math.log2(size) % 1 === 0;
}

function exact(value: bigint, field: string): number {
  requireThat(value < 1n << 53n, field, value);
  return Number(value);
}

function requireThat(sound: boolean, field: string, value: number | bigint): void {
  if (sound) return;
  throw new KvmError('CORRUPT', `the kernel dump header has ${field} ${value}`, {
    ...{ offset: 0, field, hint: 'the header is damaged; the dump behind it may still be cut out by hand' },
  });
}

function utf8(bytes: string): string {
  return new TextDecoder().decode(Uint8Array.from(bytes, (character) => character.charCodeAt(0)));
}

/** Names and messages are bytes, and fields end in a NUL. */
function cut(text = '', length: number): string {
  return String.fromCharCode(...new TextEncoder().encode(text).subarray(0, length));
}

import { KvmError, MemorySource, SubSource, readBytes, type ByteSource } from '@libkvm/minidump-core';
import {
  dumpHeaderAt,
  readKernelDumpHeader,
  roundUp,
  dumpKind,
  type KernelDumpHeader,
} from './kernel-dump-header.js';
import { DUMP_HEADER_BYTES } from './kernel-dump-structs.js';

/** A dump within a raw dump device, or within a stream that still has its header. */
export interface FoundDump {
  readonly header: KernelDumpHeader;
  /** Byte offset of the dump's data in the file. */
  readonly dataOffset: number;
  /** The data alone: a core, or a compressed one. */
  readonly data: ByteSource;
  /** Oddities that do not keep it from being read. */
  readonly warnings: readonly string[];
}

/** Block sizes of devices; each is right only where a header confirms it. */
const BLOCK_SIZES = [512, 4096, 1024, 2048, 8192, 16384, 32768, 65536];
/** The magic is as long; savecore(8) changes it in one of the two headers. */
const MAGIC_BYTES = 20;
/** Bytes that tell what a file is. */
const HEAD_BYTES = 4096;

/**
 * Finds a dump by its headers (sys/sys/kerneldump.h, dump_write_headers of sys/kern/kern_shutdown.c): a header in front,
 * or the two of a dump device at its end. Undefined where there is none.
 *
 * A dump that savecore(8) has cleared is still there until the device is swapped to, so it is found, with a warning.
 *
 * @param recognised whether data that starts with these bytes is a core, or a compressed one
 * @throws KvmError `UNSUPPORTED` for textdumps and encrypted dumps, `CORRUPT` when the headers contradict each other
 */
export function findDump(
  source: ByteSource,
  recognised: (head: Uint8Array) => boolean,
): FoundDump | undefined {
  const head = headAt(source, 0).subarray(0, DUMP_HEADER_BYTES);
  if (dumpKind(head) === 'text') throw textdump(0);
  if (dumpKind(head) !== undefined) {
    return dumpBehind(source, { bytes: head, header: readKernelDumpHeader(head) }, recognised);
  }
  for (const block of BLOCK_SIZES) {
    const offset = source.size - block;
    const last = offset < 0 ? undefined : confirmed(source, offset, block);
    if (last) return dumpBetween(source, offset, last);
  }
  return undefined;
}

/**
 * The header behind the data of a core: where a kernel writes that of a live dump (livedump_start of
 * sys/kern/kern_shutdown.c), and where an image of a device keeps its last one.
 *
 * @param end byte offset behind the core's data
 */
export function headerBehind(source: ByteSource, end: number): KernelDumpHeader | undefined {
  for (const block of BLOCK_SIZES) {
    const offset = source.size - block;
    const found = offset < end ? undefined : confirmed(source, offset, block);
    if (found) return found.header.kind === 'text' ? undefined : found.header;
  }
  return undefined;
}

interface HeaderBytes {
  readonly bytes: Uint8Array;
  readonly header: KernelDumpHeader;
}

/** A header at an offset that only devices with such blocks have. */
function confirmed(source: ByteSource, offset: number, block: number): HeaderBytes | undefined {
  if (offset + DUMP_HEADER_BYTES > source.size) return undefined;
  const bytes = readBytes(source, offset, DUMP_HEADER_BYTES, 'kernel dump header');
  if (dumpKind(bytes) === undefined) return undefined;
  const header = readKernelDumpHeader(bytes);
  return header.blockSize === block ? { bytes, header } : undefined;
}

/** The dump behind a header at the start of a stream; there may be another header behind it. */
function dumpBehind(
  source: ByteSource,
  { bytes, header }: HeaderBytes,
  recognised: (head: Uint8Array) => boolean,
): FoundDump {
  requireReadable(header, 0);
  const { blockSize, dumpLength } = header;
  // A stream may have lost the padding of its header.
  const starts = blockSize === DUMP_HEADER_BYTES ? [blockSize] : [blockSize, DUMP_HEADER_BYTES];
  const dataOffset = starts.find((start) => recognised(headAt(source, start))) ?? blockSize;
  const warnings = remarks(header, source.size - dataOffset);
  const last = dumpHeaderAt(source, dataOffset + roundUp(dumpLength, blockSize));
  if (last && !sameFacts(bytes, last.bytes)) warnings.push('the headers before and behind the dump differ');
  return { header, dataOffset, data: windowOf(source, dataOffset, dumpLength), warnings };
}

/** The dump of a device, by the header in its last block. */
function dumpBetween(source: ByteSource, trailer: number, { bytes, header }: HeaderBytes): FoundDump {
  requireReadable(header, trailer);
  const { blockSize, dumpExtent, dumpLength } = header;
  const dataOffset = trailer - dumpExtent;
  const leading = dataOffset - blockSize;
  if (leading < 0 || dumpLength > dumpExtent) {
    throw new KvmError(
      'CORRUPT',
      `a dump of ${dumpExtent} bytes does not fit the device in front of its header`,
      {
        ...{
          offset: trailer,
          field: 'dumpExtent',
          hint: 'the image of the device is not whole; copy it again',
        },
      },
    );
  }
  const first = dumpHeaderAt(source, leading);
  if (!first || !sameFacts(first.bytes, bytes)) {
    throw new KvmError(
      'CORRUPT',
      `no header at offset ${leading} confirms the one at the end of the device`,
      {
        offset: leading,
        hint: 'the dump was overwritten in part, or its device is not copied whole',
      },
    );
  }
  // savecore(8) clears the last magic without a new parity: the first header is as the kernel wrote it.
  const warnings = remarks({ ...header, parityHolds: first.header.parityHolds }, source.size - dataOffset);
  return { header, dataOffset, data: windowOf(source, dataOffset, dumpLength), warnings };
}

/** Both headers are the same, but for the magic of one that was cleared. */
function sameFacts(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = MAGIC_BYTES; i < DUMP_HEADER_BYTES; i++) if (a[i] !== b[i]) return false;
  return true;
}

function requireReadable({ kind, keySize, dumpLength }: KernelDumpHeader, offset: number): void {
  if (kind === 'text') throw textdump(offset);
  if (keySize > 0) throw encrypted('the dump is encrypted', { offset, field: 'dumpkeysize' });
  if (dumpLength > 0) return;
  throw new KvmError('CORRUPT', 'the kernel dump header has a dump of no bytes', {
    ...{ offset, field: 'dumplength', hint: 'the dump was not finished, or its header is damaged' },
  });
}

function textdump(offset: number): KvmError {
  return new KvmError('UNSUPPORTED', 'not a core but a textdump with its device header', {
    ...{ offset, hint: 'a textdump holds text, not memory; savecore(8) saves it, see textdump(4)' },
  });
}

/** The error for a dump that is ciphertext. */
export function encrypted(message: string, place: { offset?: number; field?: string }): KvmError {
  return new KvmError('UNSUPPORTED', message, {
    ...place,
    hint: 'save it with savecore(8), then decrypt it: decryptcore -p PRIVATE-KEY -k key.N -e vmcore_encrypted.N -c vmcore.N',
  });
}

function remarks({ kind, parityHolds, dumpLength }: KernelDumpHeader, there: number): string[] {
  const warnings: string[] = [];
  if (kind === 'cleared') {
    warnings.push(
      'savecore(8) has cleared this dump: what was written to the device since may have replaced it',
    );
  }
  if (!parityHolds) warnings.push('the parity of the kernel dump header is wrong: it may be damaged');
  if (dumpLength > there) {
    warnings.push(
      `the file is cut: its header says ${dumpLength} bytes of dump, ${Math.max(0, there)} are there`,
    );
  }
  return warnings;
}

function headAt(source: ByteSource, offset: number): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES);
  return head.subarray(0, offset < source.size ? source.readSync(offset, head, 0, HEAD_BYTES) : 0);
}

/** A part of a source; what is in memory stays in place. */
function windowOf(source: ByteSource, start: number, size: number): ByteSource {
  if (source instanceof MemorySource) return new MemorySource(source.bytes.subarray(start, start + size));
  return new SubSource(source, start, size);
}

import { struct } from '@libkvm/minidump-core';

/** The magic of FreeBSD/arm minidumps. */
export const MAGIC = 'minidump FreeBSD/arm';
/**
 * What versions of dumps with entries of mmuformat 3 are raised by. No reader but this one knows such entries, and libkvm
 * would take them for those of 4 bytes; it tests the version (lib/libkvm/kvm_minidump_arm.c), so that it refuses them.
 */
export const LPAE_VERSIONS = 0x100;

/**
 * Header of a FreeBSD/arm minidump, in the byte order of the kernel (sys/arm/include/minidump.h). `arch` and `mmuformat`
 * came with FreeBSD 11.0 without a new version; the zeros of older header pages stand for "unknown".
 */
export const armMinidumpHeader = struct('minidumphdr', {
  magic: { at: 0, kind: 'char[24]', doc: '`minidump FreeBSD/arm`' },
  version: { at: 24, kind: 'u32', doc: '1 or 2, with mmuformat 3 also 0x101 or 0x102; tells the byte order' },
  msgbufsize: { at: 28, kind: 'u32', doc: 'bytes of the message buffer, not rounded' },
  bitmapsize: { at: 32, kind: 'u32', doc: 'bytes of the page bitmap' },
  ptesize: { at: 36, kind: 'u32', doc: 'bytes of the page-table array' },
  kernbase: { at: 40, kind: 'u32', doc: 'first KVA that the page-table array covers' },
  arch: { at: 44, kind: 'u32', doc: '`__ARM_ARCH` of the kernel, 4 to 7; 0 in older dumps' },
  mmuformat: { at: 48, kind: 'u32', doc: '0 unknown, 1 V4, 2 V6, 3 V6_LPAE' },
  dumpavailsize: { at: 52, kind: 'u32', doc: 'bytes of the dump_avail array; version 2 only' },
});

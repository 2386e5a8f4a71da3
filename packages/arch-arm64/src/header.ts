import { struct } from '@libkvm/minidump-core';

/** Header of a FreeBSD/arm64 minidump, little-endian (sys/arm64/include/minidump.h). */
export const arm64MinidumpHeader = struct('minidumphdr', {
  magic: { at: 0, kind: 'char[24]', doc: '`minidump FreeBSD/arm64`' },
  version: { at: 24, kind: 'u32', doc: '1, 2 or 3' },
  msgbufsize: { at: 28, kind: 'u32', doc: 'bytes of the message buffer, not rounded' },
  bitmapsize: { at: 32, kind: 'u32', doc: 'bytes of the page bitmap' },
  pmapsize: { at: 36, kind: 'u32', doc: 'bytes of the page-table array' },
  kernbase: { at: 40, kind: 'u64', doc: 'first KVA that the page-table array covers' },
  dmapphys: { at: 48, kind: 'u64', doc: 'PA that dmapbase maps to' },
  dmapbase: { at: 56, kind: 'u64', doc: 'first KVA of the direct map' },
  dmapend: { at: 64, kind: 'u64', doc: 'KVA behind the direct map' },
  dumpavailsize: { at: 72, kind: 'u32', doc: 'bytes of the dump_avail array; versions 2 and 3' },
  flags: { at: 76, kind: 'u32', doc: 'bits 1:0 page size: 0 4 KB, 1 16 KB, 2 64 KB; version 3' },
});

import { struct } from '@libkvm/minidump-core';

/** Header of a FreeBSD/amd64 minidump, little-endian (sys/amd64/include/minidump.h). */
export const amd64MinidumpHeader = struct('minidumphdr', {
  magic: { at: 0, kind: 'char[24]', doc: '`minidump FreeBSD/amd64`' },
  version: { at: 24, kind: 'u32', doc: '1, 2 or 3' },
  msgbufsize: { at: 28, kind: 'u32', doc: 'bytes of the message buffer, not rounded' },
  bitmapsize: { at: 32, kind: 'u32', doc: 'bytes of the page bitmap' },
  pmapsize: { at: 36, kind: 'u32', doc: 'bytes of the page-table array (version 1: ptesize)' },
  kernbase: { at: 40, kind: 'u64', doc: 'first KVA that the page-table array covers' },
  dmapbase: { at: 48, kind: 'u64', doc: 'first KVA of the direct map' },
  dmapend: { at: 56, kind: 'u64', doc: 'KVA behind the direct map' },
  dumpavailsize: { at: 64, kind: 'u32', doc: 'bytes of the dump_avail array; version 3 only' },
});

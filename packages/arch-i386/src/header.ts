import { struct } from '@libkvm/minidump-core';

/** Header of a FreeBSD/i386 minidump, little-endian (sys/i386/include/minidump.h). */
export const i386MinidumpHeader = struct('minidumphdr', {
  magic: { at: 0, kind: 'char[24]', doc: '`minidump FreeBSD/i386`' },
  version: { at: 24, kind: 'u32', doc: '1 or 2' },
  msgbufsize: { at: 28, kind: 'u32', doc: 'bytes of the message buffer, not rounded' },
  bitmapsize: { at: 32, kind: 'u32', doc: 'bytes of the page bitmap' },
  ptesize: { at: 36, kind: 'u32', doc: 'bytes of the page-table array' },
  kernbase: { at: 40, kind: 'u32', doc: 'first KVA that the page-table array covers' },
  paemode: { at: 44, kind: 'u32', doc: '0: entries of 4 bytes; otherwise of 8 (PAE)' },
  dumpavailsize: { at: 48, kind: 'u32', doc: 'bytes of the dump_avail array; version 2 only' },
});

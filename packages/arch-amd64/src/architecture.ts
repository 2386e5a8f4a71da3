import type { Architecture } from '@libkvm/minidump-core';
import { amd64CpuNotes } from './cpu-notes.js';
import { findAmd64Root } from './full-dump.js';
import { amd64Minidump } from './minidump.js';
import { amd64TableEncoder } from './table-encoder.js';
import { amd64Walker } from './walker.js';

/** AMD64 and Intel 64 in 64-bit mode. */
export const amd64: Architecture = {
  name: 'amd64',
  bits: 64,
  elfMachines: [62],
  byteOrders: ['little'],
  pageSizes: [0x1000, 0x20_0000, 0x4000_0000],
  dialects: [amd64Minidump],
  walker: amd64Walker,
  tableEncoder: (pteFormat) => (pteFormat === 'amd64' ? amd64TableEncoder : undefined),
  findRoot: findAmd64Root,
  cpuNotes: amd64CpuNotes,
};

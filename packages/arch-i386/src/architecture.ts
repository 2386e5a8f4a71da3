import type { Architecture } from '@libkvm/minidump-core';
import { i386CpuNotes } from './cpu-notes.js';
import { findI386Root } from './full-dump.js';
import { i386Minidump } from './minidump.js';
import { i386TableEncoder } from './table-encoder.js';
import { i386Walker } from './walker.js';

/** 32-bit x86, with and without physical address extension. */
export const i386: Architecture = {
  name: 'i386',
  bits: 32,
  elfMachines: [3],
  byteOrders: ['little'],
  pageSizes: [0x1000, 0x20_0000, 0x40_0000],
  dialects: [i386Minidump],
  walker: i386Walker,
  tableEncoder: i386TableEncoder,
  findRoot: findI386Root,
  cpuNotes: i386CpuNotes,
};

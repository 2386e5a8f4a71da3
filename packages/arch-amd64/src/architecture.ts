import type { Architecture } from '@libkvm/minidump-core';
import { amd64Minidump } from './minidump.js';
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
};

import type { Architecture } from '@libkvm/minidump-core';
import { armMinidump } from './minidump.js';
import { armWalker } from './walker.js';

const KB = 0x400;
const MB = 0x10_0000;

/** ARM in 32-bit state: ARMv4 to ARMv7, and ARMv8 in AArch32. */
export const arm: Architecture = {
  name: 'arm',
  bits: 32,
  elfMachines: [40],
  byteOrders: ['little', 'big'],
  pageSizes: [KB, 4 * KB, 64 * KB, MB, 2 * MB, 16 * MB, 1024 * MB],
  dialects: [armMinidump],
  walker: armWalker,
};

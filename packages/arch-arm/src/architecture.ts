import { prstatusLayout, type Architecture } from '@libkvm/minidump-core';
import { findArmRoot } from './full-dump.js';
import { armMinidump } from './minidump.js';
import { armTableEncoder } from './table-encoder.js';
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
  tableEncoder: armTableEncoder,
  findRoot: findArmRoot,
  // pt_regs of Linux, arch/arm/include/uapi/asm/ptrace.h. No note has control registers.
  cpuNotes: [prstatusLayout(32, 'r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 sp lr pc cpsr')],
};

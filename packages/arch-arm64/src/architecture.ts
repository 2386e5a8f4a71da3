import { prstatusLayout, type Architecture } from '@libkvm/minidump-core';
import { arm64Minidump } from './minidump.js';
import { arm64TableEncoder } from './table-encoder.js';
import { arm64Walker } from './walker.js';

/** user_pt_regs of Linux, arch/arm64/include/uapi/asm/ptrace.h. */
const GENERAL_REGISTERS = [...Array.from({ length: 31 }, (_, i) => `x${i}`), 'sp', 'pc', 'pstate'];
const KB = 0x400;
const MB = 0x10_0000;

/** Arm in 64-bit state (AArch64). FreeBSD is little-endian only; tables may be big-endian. */
export const arm64: Architecture = {
  name: 'arm64',
  bits: 64,
  elfMachines: [183],
  byteOrders: ['little', 'big'],
  pageSizes: [4 * KB, 16 * KB, 64 * KB, 2 * MB, 32 * MB, 512 * MB, 1024 * MB],
  dialects: [arm64Minidump],
  walker: arm64Walker,
  tableEncoder: arm64TableEncoder,
  cpuNotes: [prstatusLayout(64, GENERAL_REGISTERS.join(' '))],
};

import { amd64KernelWorld, armKernelWorld, i386KernelWorld, type KernelWorld } from '@libkvm/fixtures';

/** Kernels of several releases; made when they are asked for. */
export const WORLDS: readonly (readonly [name: string, make: () => KernelWorld])[] = [
  ['amd64, loaded at 2 MB (to 13.0)', () => amd64KernelWorld()],
  ['amd64, at 2 MB, with 5-level paging off (13.0)', () => amd64KernelWorld({ la57: false })],
  [
    'amd64, relocated, with PT_DUMP_DELTA (15)',
    () => amd64KernelWorld({ kernphys: 0x1c00000, delta: 'kernload' }),
  ],
  ['amd64, a delta that is of KERNBASE', () => amd64KernelWorld({ kernphys: 0x1c00000, delta: 'kernbase' })],
  ['amd64, relocated, to be looked for (13.1 to 14)', () => amd64KernelWorld({ kernphys: 0x7aa00000 })],
  ['amd64, at the end of 4 GB', () => amd64KernelWorld({ kernphys: 0xffc00000 })],
  [
    'amd64, above 4 GB, which PT_DUMP_DELTA alone tells',
    () => amd64KernelWorld({ kernphys: 0x140000000, delta: 'kernload' }),
  ],
  [
    'amd64, above 4 GB, by a delta of KERNBASE',
    () => amd64KernelWorld({ kernphys: 0x140000000, delta: 'kernbase' }),
  ],
  ['amd64, with 5 levels', () => amd64KernelWorld({ la57: true })],
  ['amd64, with 5 levels, relocated', () => amd64KernelWorld({ la57: true, kernphys: 0x30000000 })],
  ['i386 (to 11)', () => i386KernelWorld({ release: 'classic', pae: false })],
  ['i386 PAE (to 11)', () => i386KernelWorld({ release: 'classic', pae: true })],
  ['i386 (12)', () => i386KernelWorld({ release: '12', pae: false })],
  ['i386 PAE (12)', () => i386KernelWorld({ release: '12', pae: true })],
  ['i386 (13)', () => i386KernelWorld({ release: '13', pae: false })],
  ['i386 PAE (13)', () => i386KernelWorld({ release: '13', pae: true })],
  ['armv7', () => armKernelWorld({ format: 'v6-afe' })],
  ['armv7, big-endian', () => armKernelWorld({ format: 'v6-afe', littleEndian: false })],
  ['armv7, by its symbols', () => armKernelWorld({ format: 'v6-afe', place: 'physaddr' })],
  ['armv6 (10)', () => armKernelWorld({ format: 'v6-afe', pmapKernTtb: false, place: 'physaddr' })],
  ['armv5', () => armKernelWorld({ format: 'v4' })],
  [
    'armv5, big-endian, by its symbols',
    () => armKernelWorld({ format: 'v4', littleEndian: false, place: 'physaddr' }),
  ],
  ['armv5, XScale', () => armKernelWorld({ format: 'xscale' })],
];

import type { Amd64Minidump } from '@libkvm/fixtures';
import { Amd64Machine, amd64Minidump, pagesOf } from '@libkvm/fixtures';

/** Where things are in the small machine. */
export const SMALL = {
  kernbase: 0xfffffe0000000000n,
  dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
  /** 4 KB pages: two in a row, a device, one that is not dumped, one read-only. */
  pages: 0xfffffe0000001000n,
  /** A superpage over all of RAM and its hole. */
  big: 0xfffffe0000200000n,
  ringKva: 0xfffff80000008000n,
} as const;

/** A machine whose dump has some 20 pages, with a hole in its RAM and one of each kind of mapping. */
export function smallMachine(): Amd64Machine {
  const common = { writable: true, executable: false, pageSize: 0x1000, pages: 1 } as const;
  return new Amd64Machine({
    ram: [
      { start: 0x1000, end: 0xa800 },
      { start: 0x10000, end: 0x18000 },
    ],
    patternSeed: 99,
    kernbase: SMALL.kernbase,
    kvaEnd: SMALL.kernbase + 0x400000n,
    dmap: SMALL.dmap,
    mappings: [
      { ...common, kva: SMALL.pages, pa: 0x2000, pages: 2 },
      { ...common, kva: SMALL.pages + 0x3000n, pa: 0xfee00000 },
      { ...common, kva: SMALL.pages + 0x4000n, pa: 0x14000 },
      { ...common, kva: SMALL.pages + 0x5000n, pa: 0x15000, writable: false, executable: true },
      { ...common, kva: SMALL.big, pa: 0, pageSize: 0x200000 },
    ],
    tablePool: pagesOf(0x10000, 0x14000),
    noDumpPages: [0x14000, 0x5000],
    messageBuffer: { pa: 0x8000, areaSize: 0x1000, text: 'small machine\npanic: hostile\n' },
  });
}

export function smallDump(version: 1 | 2 | 3): Amd64Minidump {
  return amd64Minidump(smallMachine(), { version });
}

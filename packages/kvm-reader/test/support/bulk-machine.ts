import type { Amd64Mapping } from '@libkvm/fixtures';
import { Amd64Machine, pagesOf, Prng } from '@libkvm/fixtures';

export const BULK = {
  kernbase: 0xfffffe0000000000n,
  dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
  /** 4 MB of 4 KB pages in a row of KVA, their frames in runs of 1 to 40 pages in any order. */
  scattered: { kva: 0xfffffe0000400000n, pages: 1024 },
  /** Right behind: two superpages, the second one below the first one in physical memory. */
  big: { kva: 0xfffffe0000800000n, pages: 2 },
  /** Right behind: one page that is not dumped, between two that are. */
  gap: { kva: 0xfffffe0000c00000n },
  /** A superpage of which single pages and one long stretch are not dumped. */
  torn: { kva: 0xfffffe0001000000n, pa: 0x1400000 },
  /** The last 2 MB of the address space. */
  top: { kva: 0xffffffffffe00000n, pa: 0x1600000 },
} as const;

/**
 * About 10 MB of dumped pages that reads of megabytes go through: scattered frames, superpages, gaps, the top of the
 * address space. Every page has its own pattern.
 */
export function bulkMachine(seed = 1): Amd64Machine {
  const prng = new Prng(seed);
  const common = { writable: true, executable: false } as const;
  const small: Amd64Mapping[] = [];
  const runs: number[][] = [];
  const frames = pagesOf(0x800000, 0x800000 + BULK.scattered.pages * 4096);
  while (frames.length > 0) runs.push(frames.splice(0, prng.between(1, 40)));
  let kva: bigint = BULK.scattered.kva;
  for (const run of prng.shuffle(runs)) {
    small.push({ ...common, kva, pa: run[0], pageSize: 0x1000, pages: run.length });
    kva += BigInt(run.length * 4096);
  }
  const noDumpPages = [0xe01000, 0x1403000, 0x1405000, ...pagesOf(0x1480000, 0x14c0000), 0x15ff000];
  return new Amd64Machine({
    ram: [
      { start: 0x1000, end: 0x9f000 },
      { start: 0x100000, end: 0x1800000 },
    ],
    patternSeed: seed,
    kernbase: BULK.kernbase,
    kvaEnd: 1n << 64n, // 2048 pages of page directories
    dmap: BULK.dmap,
    mappings: [
      ...small,
      { ...common, kva: BULK.big.kva, pa: 0x1200000, pageSize: 0x200000, pages: 1 },
      { ...common, kva: BULK.big.kva + 0x200000n, pa: 0x1000000, pageSize: 0x200000, pages: 1 },
      { ...common, kva: BULK.gap.kva, pa: 0xe00000, pageSize: 0x1000, pages: 3 },
      { ...common, kva: BULK.torn.kva, pa: BULK.torn.pa, pageSize: 0x200000, pages: 1 },
      { ...common, kva: BULK.top.kva, pa: BULK.top.pa, pageSize: 0x200000, pages: 1 },
    ],
    tablePool: pagesOf(0x100000, 0x200000),
    noDumpPages,
    extraRanges: [{ start: 0x200000, end: 0x480000 }],
  });
}

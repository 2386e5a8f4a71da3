/** The sizes of base pages, and of all tables but the root, that VMSAv8-64 knows (Arm ARM DDI 0487, D8.2). */
export type Granule = 0x1000 | 0x4000 | 0x1_0000;

/** log2 of the granule. */
export function pageShift(granule: Granule): number {
  return granule === 0x1000 ? 12 : granule === 0x4000 ? 14 : 16;
}

/**
 * log2 of the bytes that an entry of a level spans. Levels count from the leaves: 1 is the manual's level 3, 2 its level
 * 2, and so on. Every table but the root is one granule of 8-byte entries.
 */
export function levelShift(granule: Granule, level: number): number {
  const page = pageShift(granule);
  return page + (level - 1) * (page - 3);
}

/**
 * Whether an entry of the level may be a block: 2 MB and 1 GB with 4 KB granules, 32 MB with 16 KB, 512 MB with 64 KB (DDI
 * 0487, table D8-15 without FEAT_LPA).
 */
export function hasBlocks(granule: Granule, level: number): boolean {
  return level === 2 || (level === 3 && granule === 0x1000);
}

import { KVA_PAGE, type TableSource } from '@libkvm/minidump-core';

/** The direct map as a header gives it. */
export interface WrittenDirectMap {
  readonly dmapbase: bigint;
  readonly dmapend: bigint;
}

const NONE: WrittenDirectMap = { dmapbase: 0n, dmapend: 0n };
const TOP = 1n << 64n;
const HALF = 1n << 63n;

/**
 * The direct map of a source in the terms of an amd64 header, where PA 0 is at dmapbase. One that starts at another PA is
 * prolonged downwards, where nothing is mapped there and it stays in its half of the address space; otherwise it is lost.
 */
export function writtenDirectMap(source: TableSource): WrittenDirectMap {
  const { directMap } = source.source.machine;
  if (directMap === undefined) return NONE;
  const { base, end, phys } = directMap;
  const { losses } = source;
  const dmapbase = base - BigInt(phys);
  if (phys > 0 && !canStartAt(source, dmapbase, base)) {
    losses.add('directMap', 'the direct map: it does not start with PA 0', Number(end - base));
    return NONE;
  }
  const { ranges } = source.source.memory;
  const firstPage = ranges.nextPage(0);
  if (firstPage >= 0 && firstPage * ranges.pageSize < phys)
    losses.add('directMap', `the direct map reaches from PA 0 on, not from ${phys}`);
  if (end < TOP) return { dmapbase, dmapend: end };
  // dmapend has 64 bits.
  losses.add('directMap', 'the last page of the direct map: the header has no 2^64', KVA_PAGE);
  return { dmapbase, dmapend: end - BigInt(KVA_PAGE) };
}

/** Whether the KVAs from `dmapbase` to the direct map's base exist, and are mapped nowhere. */
function canStartAt(source: TableSource, dmapbase: bigint, base: bigint): boolean {
  if (dmapbase < 0n || (dmapbase < HALF && base >= HALF)) return false;
  const from = Number(dmapbase >> 12n);
  const to = Number(base >> 12n);
  for (const { page, length } of source.mappings())
    if (page < to && page + length / KVA_PAGE > from) return false;
  return true;
}

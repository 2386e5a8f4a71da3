import { KVA_PAGE, MAPPED, Mapping, TABLE_ABSENT, TABLE_LOOP, TABLE_TRUNCATED } from './address-space.js';
import type { DirectMap } from './core.js';
import type { DumpSource } from './dump-source.js';
import { KvmError } from './errors.js';
import { KvaParts } from './kva.js';
import { checkMachine, MappingOrder } from './source-check.js';

/** A part of the address space. */
export interface KvaWindow {
  /** First KVA whose mappings are dumped; the lowest one unless given. */
  readonly from?: number | bigint;
  /** KVA behind the last one. */
  readonly to?: number | bigint;
}

/** Page tables that could not be read, and entries that could not be understood. */
export interface WalkDamage {
  tablesAbsent: number;
  tablesTruncated: number;
  loops: number;
  unsupportedEntries: number;
}

/**
 * What a source's address space says of a window: the same each time it is asked, as a dump is planned and written by
 * walking it over and over. The direct map is left out, since it is told by its three numbers.
 */
export class SourceWalk {
  /** The window in pages (KVA >> 12). */
  readonly fromPage: number;
  readonly toPage: number;
  /** The direct map's pages; an empty window behind all others where there is none. */
  readonly dmapFrom: number;
  readonly dmapTo: number;

  /** @throws KvmError `INVALID_ARGUMENT` for facts of the source or a window that cannot be */
  constructor(
    readonly source: DumpSource,
    window: KvaWindow = {},
  ) {
    const { bits, directMap } = source.machine;
    checkMachine(source);
    [this.fromPage, this.toPage] = pagesOf(bits, window);
    [this.dmapFrom, this.dmapTo] = directMapPages(bits, directMap);
  }

  /** The mappings, ascending. The object is reused. */
  *mappings(): Generator<Mapping, void, undefined> {
    for (const mapping of this.all()) if (mapping.outcome === MAPPED) yield mapping;
  }

  /**
   * Mappings, and what cannot be told, ascending. The object is reused.
   *
   * @throws KvmError `INVALID_ARGUMENT` for mappings that are none: an address space may be anybody's code
   */
  *all(): Generator<Mapping, void, undefined> {
    const mapping = new Mapping();
    const windows = [
      [this.fromPage, Math.min(this.toPage, this.dmapFrom)],
      [Math.max(this.fromPage, this.dmapTo), this.toPage],
    ];
    for (const [from, to] of windows) {
      if (from >= to) continue;
      const cursor = this.source.addressSpace.mappings(from, to);
      const order = new MappingOrder(from, to);
      while (cursor.next(mapping)) {
        if (mapping.outcome === MAPPED) order.check(mapping);
        yield mapping;
      }
    }
  }
}

/** Damage of a walk that found none yet. */
export function noDamage(): WalkDamage {
  return { tablesAbsent: 0, tablesTruncated: 0, loops: 0, unsupportedEntries: 0 };
}

/** Counts an outcome that is no mapping. */
export function countDamage(damage: WalkDamage, outcome: number): void {
  if (outcome === TABLE_ABSENT) damage.tablesAbsent++;
  else if (outcome === TABLE_TRUNCATED) damage.tablesTruncated++;
  else if (outcome === TABLE_LOOP) damage.loops++;
  else damage.unsupportedEntries++;
}

function pagesOf(bits: 32 | 64, { from, to }: KvaWindow): [number, number] {
  const parts = new KvaParts(bits);
  const end = bits === 32 ? 2 ** 20 : 2 ** 52;
  const first = from === undefined ? 0 : (parts.set(from), parts.page);
  if (to === undefined || BigInt(to) >= BigInt(end) * BigInt(KVA_PAGE)) return [first, end];
  parts.set(to);
  const last = parts.page + (parts.offset > 0 ? 1 : 0);
  if (last >= first) return [first, last];
  throw new KvmError(
    'INVALID_ARGUMENT',
    `the KVA window ends before it starts: ${String(from)} to ${String(to)}`,
    {
      field: 'kva',
    },
  );
}

/** The pages of the direct map; an empty window behind all others where there is none. */
function directMapPages(bits: 32 | 64, directMap: DirectMap | undefined): [number, number] {
  if (directMap === undefined) return [2 ** 52, 2 ** 52];
  const parts = new KvaParts(bits);
  parts.set(directMap.base);
  const from = parts.page;
  parts.set(directMap.end - 1n);
  return [from, parts.page + 1];
}

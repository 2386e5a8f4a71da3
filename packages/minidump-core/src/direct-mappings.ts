import { GLOBAL, KVA_PAGE, MAPPED, Mapping, READ, SYNTHESISED, WRITE } from './address-space.js';
import type { PhysicalRun } from './memory-runs.js';
import type { SourceWalk } from './source-walk.js';

/** Pages as large as a run allows: the direct map says nothing of their size. */
const ANY_SIZE = 2 ** 40;

/**
 * The mappings of a walk with those of the direct map at their place among them: of the memory that is dumped, run by run,
 * readable and writable. Ascending; the object is reused.
 *
 * @param runs the memory that is dumped, ascending
 */
export function* withDirectMap(
  walk: SourceWalk,
  runs: Iterable<PhysicalRun>,
): Generator<Mapping, void, undefined> {
  let pending = walk.source.machine.directMap !== undefined;
  for (const mapping of walk.mappings()) {
    if (pending && mapping.page >= walk.dmapTo) {
      pending = false;
      yield* directMappings(walk, runs);
    }
    yield mapping;
  }
  if (pending) yield* directMappings(walk, runs);
}

function* directMappings(walk: SourceWalk, runs: Iterable<PhysicalRun>): Generator<Mapping, void, undefined> {
  const { fromPage, toPage, dmapFrom, dmapTo } = walk;
  const phys = walk.source.machine.directMap?.phys ?? 0;
  const paOf = (page: number): number => phys + (page - dmapFrom) * KVA_PAGE;
  const from = paOf(Math.max(fromPage, dmapFrom));
  const to = paOf(Math.min(toPage, dmapTo));
  const out = new Mapping();
  out.outcome = MAPPED;
  out.flags = READ | WRITE | GLOBAL | SYNTHESISED;
  out.pageSize = ANY_SIZE;
  for (const { pa, length } of runs) {
    out.pa = Math.max(pa, from);
    out.length = Math.min(pa + length, to) - out.pa;
    if (out.length <= 0) continue;
    out.page = dmapFrom + (out.pa - phys) / KVA_PAGE;
    yield out;
  }
}

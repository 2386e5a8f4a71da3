import type { Mapping } from './address-space.js';
import { PhysicalUse } from './physical-use.js';
import { PHYSICAL_LIMIT } from './source-check.js';

/** Addresses of the smallest map of what is in use, and by how much the next one is larger. */
const FIRST_LIMIT = 2 ** 32;
const GROWTH = 16;

/**
 * Where pages may be made up: the lowest PA from `from` on that has `bytes` bytes of no use to anybody, but for rounding up
 * to the blocks of {@link PhysicalUse}. A mapping may lead there without RAM, to the registers of a device; were a page made
 * up at its PA, it would read as the device's.
 *
 * @param from the end of all RAM, a multiple of 4096
 * @param mappings all mappings of the dump, each time anew
 * @returns undefined when there is no room below 2^52
 */
export function sparePlace(
  from: number,
  bytes: number,
  mappings: () => Iterable<Mapping>,
): number | undefined {
  for (let limit = FIRST_LIMIT; limit <= PHYSICAL_LIMIT; limit *= GROWTH) {
    if (from + bytes > limit) continue;
    const use = new PhysicalUse(limit);
    use.addRam(0, from);
    for (const { pa, length } of mappings()) use.add(pa, length);
    const place = use.find(bytes, 4096);
    if (place !== undefined) return place;
  }
  return undefined;
}

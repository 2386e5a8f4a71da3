import { KVA_PAGE } from './address-space.js';
import type { DirectMap } from './core.js';
import { KvmError, toHex } from './errors.js';

/** PAs are numbers, exact below this. */
const EXACT = 2n ** 53n;

/**
 * The direct map that a minidump's header describes, checked.
 *
 * One that is turned round, or so wide that its PAs would not be exact (2^53), is ignored with a warning: the tables are
 * more to be trusted. It may well be wider than physical memory: FreeBSD with 5-level paging reserves 8 PB. Addresses go
 * through the direct map before they go through the tables, so one that holds kernbase is worth a warning too.
 *
 * @param warnings gets a sentence for what is odd
 * @throws KvmError `CORRUPT` when it starts or ends inside a page: every PA would be another byte than the kernel meant
 */
export function checkedDirectMap(
  { base, end, phys }: { readonly base: bigint; readonly end: bigint; readonly phys: bigint },
  kernbase: bigint,
  warnings: string[],
): { directMap?: DirectMap } {
  if (base === end) return {};
  requireAligned('dmapbase', base);
  requireAligned('dmapend', end);
  requireAligned('dmapphys', phys);
  const range = `[${toHex(base)}, ${toHex(end)}) at PA ${toHex(phys)}`;
  if (base > end || phys + (end - base) > EXACT) {
    warnings.push(`no direct map can be ${range}; it is ignored`);
    return {};
  }
  if (base <= kernbase && kernbase < end)
    warnings.push(`the direct map ${range} hides what is mapped from kernbase on`);
  return { directMap: { base, end, phys: Number(phys) } };
}

function requireAligned(field: string, address: bigint): void {
  if (address % BigInt(KVA_PAGE) === 0n) return;
  throw new KvmError('CORRUPT', `${field} ${toHex(address)} is not aligned to a page`, {
    field,
    hint: 'the header is damaged; pass the right value as an override',
  });
}

import { KVA_PAGE } from './address-space.js';
import type { DirectMap } from './core.js';
import { KvmError, toHex } from './errors.js';

/**
 * The direct map that a minidump's header describes, checked.
 *
 * One that is turned round, or wider than physical memory can be, is ignored with a warning: the tables are more to be
 * trusted. Addresses go through the direct map before they go through the tables, so one that holds kernbase is worth a
 * warning too.
 *
 * @param limit the first physical address that the architecture cannot have
 * @param warnings gets a sentence for what is odd
 * @throws KvmError `CORRUPT` when it starts or ends inside a page: every PA would be another byte than the kernel meant
 */
export function checkedDirectMap(
  { base, end, phys }: { readonly base: bigint; readonly end: bigint; readonly phys: bigint },
  kernbase: bigint,
  limit: number,
  warnings: string[],
): { directMap?: DirectMap } {
  if (base === end) return {};
  requireAligned('dmapbase', base);
  requireAligned('dmapend', end);
  requireAligned('dmapphys', phys);
  const range = `[${toHex(base)}, ${toHex(end)}) at PA ${toHex(phys)}`;
  if (base > end || phys + (end - base) > BigInt(limit)) {
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

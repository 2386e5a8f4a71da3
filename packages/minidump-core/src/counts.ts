import type { PageCounts } from './physical-memory.js';
import type { StoredBitmap } from './stored-bitmap.js';

/** `1 page`, `2 pages`: a count with its noun. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** What of its pages a file lacks, as a clause: `1 of 20 pages is missing, 1 page is cut`; undefined when it lacks none. */
export function cutShort({ missing, partial, dumped }: PageCounts): string | undefined {
  const clauses = [
    ...(missing > 0 ? [`${missing} of ${counted(dumped, 'page')} ${isOrAre(missing)} missing`] : []),
    ...(partial > 0 ? [`${counted(partial, 'page')} ${isOrAre(partial)} cut`] : []),
  ];
  return clauses.length > 0 ? clauses.join(', ') : undefined;
}

/** That bits are set which stand for no page, as a clause; undefined when there are none. */
export function setBehindPages({ paddingCount: count, paddingCounted }: StoredBitmap): string | undefined {
  if (count === 0) return undefined;
  return `${paddingCounted ? '' : 'at least '}${counted(count, 'bit')} ${isOrAre(count)} set behind the last page`;
}

function isOrAre(count: number): string {
  return count === 1 ? 'is' : 'are';
}

import { KVA_PAGE, Mapping } from './address-space.js';
import { offsetIn } from './radix-space.js';

/** A mapping of a page whose quarters have flags of their own. */
export class QuarteredMapping extends Mapping {
  /** The flags of each quarter, `flags` being those of the first; undefined where all have the same. */
  quarters: number[] | undefined;
}

/**
 * Puts together what a walk gives in parts because the rights of a page differ by quarters (Arm ARM DDI 0100, B3.7.3).
 * Parts that do not make up a whole page are passed on as they came.
 *
 * @param sizes the sizes of such pages, in bytes
 */
export function* joinedQuarters(
  mappings: Iterable<Mapping>,
  sizes: readonly number[],
): Generator<QuarteredMapping, void, undefined> {
  const out = new QuarteredMapping();
  let parts: Mapping[] = [];
  const passOn = function* (): Generator<QuarteredMapping, void, undefined> {
    for (const part of parts.splice(0)) yield Object.assign(out, part, { quarters: undefined });
  };
  for (const mapping of mappings) {
    if (parts.length > 0 && !continues(parts, mapping)) yield* passOn();
    if (parts.length === 0 && !(sizes.includes(mapping.pageSize) && startsPage(mapping))) {
      yield Object.assign(out, mapping, { quarters: undefined });
      continue;
    }
    parts.push(Object.assign(new Mapping(), mapping));
    if (bytesOf(parts) < mapping.pageSize) continue;
    yield joined(parts, out);
    parts = [];
  }
  yield* passOn();
}

/** Whether a mapping is the first quarters of a page, and not all of it. */
function startsPage({ page, offset, pa, length, pageSize }: Mapping): boolean {
  if (length >= pageSize || length % (pageSize / 4) !== 0) return false;
  return pa % pageSize === 0 && offsetIn(pageSize, page, offset) === 0;
}

/** Whether a mapping is the next quarters of the same page. */
function continues(parts: readonly Mapping[], { page, offset, pa, length, pageSize }: Mapping): boolean {
  const [first] = parts;
  const done = bytesOf(parts);
  return (
    pageSize === first.pageSize &&
    pa === first.pa + done &&
    (page - first.page) * KVA_PAGE + offset - first.offset === done &&
    length % (pageSize / 4) === 0 &&
    done + length <= pageSize
  );
}

function joined(parts: readonly Mapping[], out: QuarteredMapping): QuarteredMapping {
  const [first] = parts;
  const quarter = first.pageSize / 4;
  const quarters = parts.flatMap(({ flags, length }) => new Array<number>(length / quarter).fill(flags));
  const same = quarters.every((flags) => flags === first.flags);
  return Object.assign(out, first, { length: first.pageSize, quarters: same ? undefined : quarters });
}

function bytesOf(parts: readonly Mapping[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

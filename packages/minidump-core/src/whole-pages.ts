import { EXECUTE, KVA_PAGE, Mapping, USER, WRITE } from './address-space.js';
import type { Losses } from './losses.js';

/** Whole pages of 4 KB. */
export type PageMapping = Mapping & {
  /** The flags of each 1 KB of the page, of which there is one, where they differ; `flags` is what all of them allow. */
  readonly quarters?: readonly number[] | undefined;
};

const REASON = '1 KB pages that do not make up a page of 4 KB';
const QUARTER = 1024;
/** What a joined page allows only where all of its parts do. */
const RIGHTS = WRITE | EXECUTE | USER;

/**
 * Mappings as entries of 4 KB can hold them: cut at pages, and parts of a page (ARM's 1 KB pages and subpages) joined
 * where together they map a page to a page. The object is reused.
 *
 * @throws KvmError `UNSUPPORTED` for parts that do not, unless such mappings are left out
 */
export function* wholePages(
  mappings: Iterable<Mapping>,
  losses: Losses,
): Generator<PageMapping, void, undefined> {
  const joiner = new PageJoiner(losses);
  const part = new Mapping();
  for (const mapping of mappings) {
    const { offset, pa, length } = mapping;
    if (offset === 0 && (pa | length) % KVA_PAGE === 0) {
      joiner.end();
      yield mapping;
      continue;
    }
    for (let done = 0; done < length; done += part.length) {
      copyPart(mapping, done, part);
      if (part.length >= KVA_PAGE && part.pa % KVA_PAGE === 0) {
        joiner.end();
        yield part;
      } else if (joiner.add(part)) yield joiner.page;
    }
  }
  joiner.end();
}

/** The part of a mapping from `done` on: to the end of its page, or as many whole pages as there are. */
function copyPart(mapping: Mapping, done: number, out: Mapping): void {
  Object.assign(out, mapping);
  const at = mapping.offset + done;
  out.page = mapping.page + Math.floor(at / KVA_PAGE);
  out.offset = at % KVA_PAGE;
  out.pa = mapping.pa + done;
  const left = mapping.length - done;
  const whole = out.offset === 0 && left >= KVA_PAGE;
  out.length = whole ? left - (left % KVA_PAGE) : Math.min(left, KVA_PAGE - out.offset);
}

class JoinedPage extends Mapping {
  quarters: readonly number[] | undefined;
}

/** Joins parts of one page. */
class PageJoiner {
  readonly page = new JoinedPage();
  private readonly flags = [0, 0, 0, 0];
  /** Bytes of the page joined so far. */
  private joined = 0;

  constructor(private readonly losses: Losses) {}

  /** Takes the next part; true when `page` is whole with it. */
  add(part: Mapping): boolean {
    const { page, joined } = this;
    const continues =
      joined > 0 && part.page === page.page && part.offset === joined && part.pa === page.pa + joined;
    if (!continues) {
      this.end();
      if (part.offset !== 0 || part.pa % KVA_PAGE !== 0) {
        this.losses.mapping(part, REASON);
        return false;
      }
      Object.assign(page, part);
    } else {
      if (part.entryLow !== page.entryLow || part.entryHigh !== page.entryHigh) page.entryBits = 0;
      page.flags &= part.flags | ~RIGHTS;
    }
    this.flags.fill(part.flags, part.offset / QUARTER, (part.offset + part.length) / QUARTER);
    page.length = this.joined = part.offset + part.length;
    if (this.joined < KVA_PAGE) return false;
    this.joined = 0;
    page.quarters = this.flags.every((flags) => flags === part.flags) ? undefined : this.flags;
    return true;
  }

  /** What was begun will not be whole. */
  end(): void {
    if (this.joined > 0) this.losses.mapping(this.page, REASON);
    this.joined = 0;
  }
}

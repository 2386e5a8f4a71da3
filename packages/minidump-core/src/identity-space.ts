import {
  EXECUTE,
  KVA_PAGE,
  MAPPED,
  NOT_CANONICAL,
  READ,
  WRITE,
  type AddressSpace,
  type Mapping,
  type MappingCursor,
  type Outcome,
  type Translation,
} from './address-space.js';

/** No hole is reported longer than this, so that lengths stay exact. */
const MAX_HOLE = 2 ** 52;

/**
 * The address space of a processor that does not page (x86 with CR0.PG clear, ARM with SCTLR.M clear): every address is
 * its own physical address, readable, writable and executable. Addresses behind the end do not exist.
 */
export class IdentitySpace implements AddressSpace {
  /** @param endPage the page behind the last one; 2^20 (4 GB), as all processors that can do without paging have it */
  constructor(readonly endPage: number = 2 ** 20) {}

  translate(page: number, offset: number, out: Translation): Outcome {
    out.setEntry(0, 0, 0, 0);
    if (page >= this.endPage) {
      return out.miss(NOT_CANONICAL, Math.min((2 ** 52 - page) * KVA_PAGE, MAX_HOLE) - offset);
    }
    return setRun(out, page, offset, this.endPage);
  }

  /** One run for the whole window: without tables there is nothing to tell its pages apart. */
  mappings(fromPage: number, toPage: number): MappingCursor {
    const end = Math.min(toPage, this.endPage);
    let done = fromPage >= end;
    return {
      next(out: Mapping): boolean {
        if (done) return false;
        done = true;
        out.setEntry(0, 0, 0, 0);
        out.page = fromPage;
        out.offset = 0;
        setRun(out, fromPage, 0, end);
        return true;
      },
    };
  }
}

function setRun(out: Translation, page: number, offset: number, endPage: number): Outcome {
  out.outcome = MAPPED;
  out.pa = page * KVA_PAGE + offset;
  out.length = (endPage - page) * KVA_PAGE - offset;
  out.flags = READ | WRITE | EXECUTE;
  out.pageSize = KVA_PAGE;
  return MAPPED;
}

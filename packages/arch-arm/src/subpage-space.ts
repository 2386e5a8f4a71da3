import {
  MAPPED,
  Mapping,
  RadixSpace,
  type MappingCursor,
  type Outcome,
  type Translation,
} from '@libkvm/minidump-core';
import { ALL_RIGHTS, apRights } from './access.js';

/**
 * Page tables of {@link ArmV4Format}, in which each quarter of a large or small page has access bits of its own (Arm ARM
 * DDI 0100, B3.7.3). A page whose quarters agree is one mapping; otherwise each quarter is one, of the same page size and
 * entry, and what is said of an address goes no further than its quarter.
 */
export class SubpageSpace extends RadixSpace {
  override translate(page: number, offset: number, out: Translation): Outcome {
    const outcome = super.translate(page, offset, out);
    if (quartersDiffer(out)) narrow(out);
    return outcome;
  }

  override mappings(fromPage: number, toPage: number): MappingCursor {
    return new SubpageCursor(super.mappings(fromPage, toPage));
  }
}

/** Splits the mappings of another cursor where the rights of their quarters differ. */
class SubpageCursor implements MappingCursor {
  /** What is left of the page that is being given out by quarters; its length is 0 when there is none. */
  private readonly rest = new Mapping();

  constructor(private readonly pages: MappingCursor) {}

  next(out: Mapping): boolean {
    const { rest } = this;
    if (rest.length === 0) {
      if (!this.pages.next(out)) return false;
      if (!quartersDiffer(out)) return true;
      Object.assign(rest, out);
    }
    Object.assign(out, rest);
    narrow(out);
    rest.pa += out.length;
    rest.length -= out.length;
    rest.page += Math.floor((rest.offset + out.length) / 4096);
    rest.offset = (rest.offset + out.length) % 4096;
    return true;
  }
}

/** Whether an answer comes from a large or small page (types 1 and 2) whose four AP fields are not all the same. */
function quartersDiffer({ outcome, level, entryLow }: Translation): boolean {
  const type = entryLow & 3;
  if (outcome !== MAPPED || level !== 1 || (type !== 1 && type !== 2)) return false;
  const fields = (entryLow >>> 4) & 0xff;
  return fields !== (fields & 3) * 0x55;
}

/** Cuts an answer to the quarter of its first byte, and gives it the rights of that quarter. */
function narrow(out: Translation): void {
  const quarterBytes = out.pageSize / 4;
  out.flags = (out.flags & ~ALL_RIGHTS) | quarterRights(out.entryLow, out.pa);
  out.length = Math.min(out.length, quarterBytes - (out.pa % quarterBytes));
}

/** What a second-level descriptor allows at a PA in its page: by quarters in large and small pages (types 1 and 2). */
export function quarterRights(low: number, pa: number): number {
  const type = low & 3;
  const quarterBytes = type === 1 ? 0x4000 : 0x400;
  const quarter = type === 3 ? 0 : Math.floor(pa / quarterBytes) % 4;
  return apRights((low >>> (4 + 2 * quarter)) & 3);
}

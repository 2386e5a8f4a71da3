import { KVA_PAGE, MAPPED, Mapping } from './address-space.js';
import type { BlockCache } from './block-cache.js';
import type { Core } from './core.js';
import { cutShort, setBehindPages } from './counts.js';
import type { Crc32 } from './crc32.js';
import { isKvmError, toHex, type KvmError, type KvmErrorCode } from './errors.js';
import { kvaOf } from './kva.js';
import { SparsePages } from './sparse-pages.js';
import { verifyPortableFile } from './verify-portable.js';

/** A claim of a file that does not hold. */
export interface Problem {
  /** `CORRUPT`, `TRUNCATED`, or the code of the error that kept a part from being checked. */
  readonly code: KvmErrorCode;
  /** The section or field. */
  readonly where: string;
  readonly message: string;
  /** Byte offset in the file, where there is one. */
  readonly offset?: number;
}

/** What a check of a file found. */
export interface VerifyReport {
  readonly format: string;
  /** Whether there is no problem. */
  readonly sound: boolean;
  readonly problems: readonly Problem[];
  /** What is worth knowing and no fault: mapped pages that are not in the file, and the like. */
  readonly notes: readonly string[];
  /** How much was looked at. */
  readonly checked: Readonly<Record<string, number>>;
}

/** Stretches of mapped memory that are looked up; more than that is a file made to keep a reader busy. */
const MAX_STEPS = 2 ** 28;
/** No more problems than this are listed; the rest are counted. */
const MAX_PROBLEMS = 1000;

/** Collects problems, and counts them where there are very many. */
export class ProblemList {
  readonly problems: Problem[] = [];
  private more = 0;

  add(where: string, message: string, offset?: number, code: KvmErrorCode = 'CORRUPT'): void {
    if (this.problems.length >= MAX_PROBLEMS) this.more++;
    else this.problems.push({ code, where, message, ...(offset !== undefined && { offset }) });
  }

  addError(error: KvmError, where: string): void {
    this.add(error.field ?? where, error.message, error.offset, error.code);
  }

  /** Runs a check; an error of this library is a problem, another is passed on. */
  attempt<T>(where: string, check: () => T): T | undefined {
    try {
      return check();
    } catch (error) {
      if (!isKvmError(error)) throw error;
      this.addError(error, where);
      return undefined;
    }
  }

  /** The list, with a last entry for those that did not fit. */
  all(): Problem[] {
    if (this.more === 0) return this.problems;
    return [...this.problems, { code: 'CORRUPT', where: 'file', message: `and ${this.more} more problems` }];
  }
}

/**
 * Checks every claim that a core makes: sizes, order, checksums where the format has them, the rank of the bitmap
 * against the file's length, padding, and every mapping of the address space. It reads the whole file once.
 *
 * @param cache the file
 * @param open opens it; its errors become problems
 * @param crc32 a faster checksum than the portable one
 */
export function verifyCore(cache: BlockCache, open: () => Core, crc32?: Crc32): VerifyReport {
  const list = new ProblemList();
  const notes: string[] = [];
  const checked: Record<string, number> = {};
  const core = list.attempt('file', open);
  verifyPortableFile(cache, list, checked, crc32);
  if (core) {
    checkPages(core, list, checked);
    list.attempt('addressSpace', () => checkMappings(core, list, notes, checked));
    for (const warning of core.warnings) notes.push(warning);
  }
  const problems = list.all();
  return { format: core?.format ?? 'unknown', sound: problems.length === 0, problems, notes, checked };
}

/** Sections within the file, pages within the file, nothing but zeros in padding bits, no page in two ranges. */
function checkPages(
  { memory, sections, cache }: Core,
  list: ProblemList,
  checked: Record<string, number>,
): void {
  for (const { name, offset, length } of sections) {
    if (offset + length > cache.size && name !== 'pages')
      list.add(name, 'reaches past the end of the file', offset);
  }
  checked.pages = memory.pages.dumped;
  const cut = cutShort(memory.pages);
  if (cut !== undefined) list.add('pages', `the file is cut short: ${cut}`, cache.size, 'TRUNCATED');
  const padding = memory instanceof SparsePages ? setBehindPages(memory.bitmap) : undefined;
  if (padding !== undefined) list.add('bitmap', padding);
  const { ranges, pageSize } = memory.ranges;
  ranges.forEach(({ start, end }, i) => {
    const shared = i > 0 && Math.ceil(ranges[i - 1].end / pageSize) > Math.floor(start / pageSize);
    if (shared)
      list.add(`ranges[${i}]`, `shares a page with the range before it: ${toHex(start)} to ${toHex(end)}`);
  });
}

/** Walks every mapping: tables that cannot be read are problems, mapped pages that are absent are notes. */
function checkMappings(
  core: Core,
  list: ProblemList,
  notes: string[],
  checked: Record<string, number>,
): void {
  const { addressSpace, memory } = core;
  const cursor = addressSpace?.mappings(0, core.bits === 32 ? 2 ** 20 : 2 ** 52);
  const mapping = new Mapping();
  let mappings = 0;
  let outside = 0;
  let absent = 0;
  // Mappings may alias: what they come to is not bounded by the file's size, only by its square.
  let steps = 0;
  while (steps < MAX_STEPS && cursor?.next(mapping) === true) {
    if (mapping.outcome !== MAPPED) {
      list.add('table', `the mappings from ${toHex(kvaOf(mapping.page, mapping.offset))} on cannot be told`);
      continue;
    }
    mappings++;
    for (let at = 0; at < mapping.length; steps++) {
      const pa = mapping.pa + at;
      const rest = mapping.length - at;
      if (memory.locate(pa) >= 0) at += memory.run(pa, rest);
      else {
        const length = memory.hole(pa, rest);
        if (memory.ranges.has(pa)) absent += length;
        else outside += length;
        at += length;
      }
    }
  }
  checked.mappings = mappings;
  if (steps >= MAX_STEPS)
    notes.push(`only the first ${mappings} mappings were looked at: they come to too many pages`);
  if (absent > 0) notes.push(`${Math.ceil(absent / KVA_PAGE)} mapped pages of RAM are not in the file`);
  if (outside > 0) notes.push(`${Math.ceil(outside / KVA_PAGE)} mapped pages lie outside of RAM (devices)`);
}

import type { EncodedLeaf, PageMapping } from '@libkvm/minidump-core';
import { ALL_RIGHTS } from './access.js';
import { ArmLeafEncoder, isLarge, LARGE_PAGE, SECTION, type ArmLeafOptions } from './leaf-encoder.js';
import { armOldTableEncoder } from './old-table-encoder.js';
import type { ArmPteFormat } from './pte-format.js';
import { quarterRights } from './subpage-space.js';
import { ArmV4Format } from './v4-format.js';

/** The formats that mmuformat 1 stands for. */
export type OldPteFormat = Exclude<ArmPteFormat, 'v6' | 'lpae'>;

/**
 * What FreeBSD's dumper makes of 4 KB of a section (sys/arm/arm/pmap-v4.c): a small page that privileged code may write in
 * all quarters, not cacheable; on XScale an extended small page.
 */
const FREEBSD_PART = 0x552;
const FREEBSD_XSCALE_PART = 0x013;
/** Last-level entries of minidumps stand for 4 KB. */
const SHIFT = 12;
const QUARTER = 0x400;
/** Type of the descriptor of an extended small page. */
const EXTENDED = 3;

export interface ArmV4LeafOptions extends ArmLeafOptions {
  readonly pteFormat: OldPteFormat;
  /** Whether parts of sections get what FreeBSD's dumper gives them, whatever the section allowed. */
  readonly fixedParts: boolean;
  /** Whether exact entries of extended small pages are kept: before ARMv6 XScale alone has them, and libkvm none. */
  readonly extended: boolean;
}

/**
 * Entries of mmuformat 1. Exact entries are kept, with what their quarters allow, as the kernel does; pages without one get
 * access bits for each quarter where these differ.
 */
export class ArmV4LeafEncoder extends ArmLeafEncoder {
  readonly format = new ArmV4Format('v4', { extendedSmallPages: true });
  readonly repeated = LARGE_PAGE;
  private readonly fixedPart: number | undefined;
  private readonly extended: boolean;

  constructor(options: ArmV4LeafOptions) {
    super(armOldTableEncoder(options.pteFormat, options.byteOrder), options);
    this.extended = options.extended;
    const xscale = options.pteFormat === 'xscale' || options.pteFormat === 'xscale3';
    if (options.fixedParts) this.fixedPart = xscale ? FREEBSD_XSCALE_PART : FREEBSD_PART;
  }

  override encode(mapping: PageMapping, out: EncodedLeaf): string | undefined {
    const reason = super.encode(mapping, out);
    if (reason === undefined && mapping.pageSize >= SECTION && this.fixedPart !== undefined)
      out.low = (mapping.pa | this.fixedPart) >>> 0;
    return reason;
  }

  /** Without it a reader would take the rights of the first quarter for those of all. */
  flagsAt({ low }: EncodedLeaf, pa: number): number {
    this.format.decode(1, low, 0, this.entry, SHIFT);
    return (this.entry.flags & ~ALL_RIGHTS) | quarterRights(low, pa);
  }

  protected override keep(mapping: PageMapping, out: EncodedLeaf): boolean {
    const { level, entryLow, pageSize } = mapping;
    if (level !== 1 || !allowsSame(mapping)) return false;
    if (!this.extended && (entryLow & 3) === EXTENDED) return false;
    out.low = entryLow >>> 0;
    out.high = 0;
    if (pageSize === LARGE_PAGE) out.step = 0;
    return true;
  }

  protected override make(mapping: PageMapping, out: EncodedLeaf): void {
    const { anew } = this;
    const [small, large] = anew.leaves;
    const { pa, flags, quarters } = mapping;
    if (isLarge(mapping)) {
      out.step = 0;
      anew.encodeLeaf(large, pa - (pa % LARGE_PAGE), flags, out);
    } else if (quarters === undefined || anew.encodeQuarters?.(small, pa, quarters, out) !== true) {
      anew.encodeLeaf(small, pa, flags, out);
    }
  }
}

/** Whether the exact entry of a mapping allows in each quarter what the mapping does. */
function allowsSame({ entryLow, pa, length, flags, quarters }: PageMapping): boolean {
  for (let at = 0; at < length; at += QUARTER) {
    const wanted = quarters?.[at / QUARTER] ?? flags;
    if (((quarterRights(entryLow, pa + at) ^ wanted) & ALL_RIGHTS) !== 0) return false;
  }
  return true;
}

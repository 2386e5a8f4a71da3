import { EXECUTE, USER, WRITE, type EncodedLeaf, type PageMapping } from '@libkvm/minidump-core';
import { ArmLeafEncoder, isLarge, LARGE_PAGE, type ArmLeafOptions } from './leaf-encoder.js';
import { armV6TableEncoder } from './short-table-encoder.js';
import { ArmV6Format } from './v6-format.js';

const SECTION_FRAME = 0xfff;

/** Where the attributes of a section are, and where those of a small page: pmap_dump_kextract in sys/arm/arm/pmap-v6.c. */
const MOVED: readonly (readonly [section: number, small: number])[] = [
  [4, 0], // XN
  [2, 2], // B
  [3, 3], // C
  [10, 4], // AP[0]
  [11, 5], // AP[1]
  [12, 6], // TEX[0]
  [13, 7], // TEX[1]
  [14, 8], // TEX[2]
  [15, 9], // AP[2]
  [16, 10], // S
  [17, 11], // nG
];

/** AP[1], user access, and AP[2], no write access, where the access flag is enabled; XN of both kinds of page. */
const AP1 = 1 << 5;
const AP2 = 1 << 9;
const SMALL_XN = 1 << 0;
const LARGE_XN = 1 << 15;

/**
 * Entries of mmuformat 2: sections bit by bit as FreeBSD's dumper has them, those with PXN too, and supersections with
 * their true PA; large pages by the same descriptor for each 4 KB.
 *
 * Their reader takes AP[0] for the access flag. Where a kernel without it (Linux) gives other rights by the same bits, and
 * where a table takes execution away, the bits of an exact entry are set so that they read as the rights do.
 */
export class ArmV6LeafEncoder extends ArmLeafEncoder {
  readonly format = new ArmV6Format({ accessFlag: true });
  readonly repeated = LARGE_PAGE;

  constructor(options: ArmLeafOptions) {
    super(armV6TableEncoder(options.byteOrder), options);
  }

  protected override keep({ level, pa, flags, pageSize, entryLow }: PageMapping, out: EncodedLeaf): boolean {
    if (!this.isOfKind(flags)) return false;
    const large = pageSize === LARGE_PAGE;
    out.high = 0;
    out.low = level === 2 ? smallOf(entryLow, pa) : entryLow >>> 0;
    if (large) out.step = 0;
    if (level === 2 || !this.hasRights(flags)) setRights(out, flags, large ? LARGE_XN : SMALL_XN);
    return true;
  }

  protected override make(mapping: PageMapping, out: EncodedLeaf): void {
    const [small, large] = this.anew.leaves;
    const { pa, flags } = mapping;
    if (!isLarge(mapping)) return this.anew.encodeLeaf(small, pa, flags, out);
    out.step = 0;
    this.anew.encodeLeaf(large, pa - (pa % LARGE_PAGE), flags, out);
  }
}

/** The descriptor of the small page at `pa` with the attributes of a section or supersection. */
function smallOf(section: number, pa: number): number {
  const attributes = MOVED.reduce((sum, [from, to]) => sum | (((section >>> from) & 1) << to), 2);
  return ((pa & ~SECTION_FRAME) | attributes) >>> 0;
}

function setRights(out: EncodedLeaf, flags: number, never: number): void {
  const rights = (flags & USER ? AP1 : 0) | (flags & WRITE ? 0 : AP2) | (flags & EXECUTE ? 0 : never);
  out.low = ((out.low & ~(AP1 | AP2 | never)) | rights) >>> 0;
}

import { KVA_PAGE, SYNTHESISED, type Mapping } from './address-space.js';
import { toHex } from './errors.js';
import { joinedQuarters } from './joined-quarters.js';
import { COMPARED_FLAGS, countFlagLosses, sizeText } from './leaf-losses.js';
import type { Losses } from './losses.js';
import { ENTRY_LEAF, TableEntry } from './radix-format.js';
import { offsetIn } from './radix-space.js';
import type { EntryHalves, LeafKind, TableEncoder } from './table-encoder.js';

/** One page as hardware will map it. */
export interface TableLeaf {
  /** Page number of its first byte (KVA >> 12), and the offset in that page: not 0 only for 1 KB pages. */
  page: number;
  offset: number;
  pa: number;
  kind: LeafKind;
  /** What maps it in the source. */
  mapping: Mapping & { readonly quarters?: readonly number[] | undefined };
}

/** Takes mappings apart into the pages that a format has, and makes their entries. */
export class TableLeaves {
  /** Whether a mapping was met that this format cannot hold and its alternative may. */
  needsAlternative = false;
  private readonly entry = new TableEntry();

  constructor(private readonly encoder: TableEncoder) {}

  /**
   * The pages of mappings, ascending. The object is reused.
   *
   * @param losses told of pages that become smaller ones, and of mappings that cannot be held
   * @throws KvmError `UNSUPPORTED` for such a mapping, unless `losses` lets them be left out
   */
  *of(mappings: Iterable<Mapping>, losses: Losses): Generator<TableLeaf, void, undefined> {
    const { encoder } = this;
    const { quarteredSizes } = encoder;
    const whole = quarteredSizes === undefined ? mappings : joinedQuarters(mappings, quarteredSizes);
    const leaf = { page: 0, offset: 0, pa: 0, kind: encoder.leaves[0] } as TableLeaf;
    for (const mapping of whole) {
      leaf.mapping = mapping;
      for (let done = 0; done < mapping.length; done += leaf.kind.size) {
        const at = mapping.offset + done;
        leaf.page = mapping.page + Math.floor(at / KVA_PAGE);
        leaf.offset = at % KVA_PAGE;
        leaf.pa = mapping.pa + done;
        const kind = this.kindOf(leaf, mapping.length - done);
        if (kind === undefined) {
          if (encoder.alternative !== undefined) {
            this.needsAlternative = true;
            return;
          }
          this.refuse(leaf, mapping, done, losses);
          break;
        }
        leaf.kind = kind;
        if (kind.size !== mapping.pageSize && (mapping.flags & SYNTHESISED) === 0) {
          const text = `pages of ${sizeText(mapping.pageSize)} become ${sizeText(kind.size)} ones`;
          losses.add('pageSize', text, kind.size);
        }
        yield leaf;
      }
    }
  }

  /** Makes the entry of a page: the source's own where it has one that says the same here. */
  encode(leaf: TableLeaf, out: EntryHalves): void {
    const { mapping, kind, pa } = leaf;
    if (mapping.quarters === undefined && this.keepsEntry(leaf)) {
      out.low = mapping.entryLow;
      out.high = mapping.entryHigh;
    } else if (
      mapping.quarters === undefined ||
      this.encoder.encodeQuarters?.(kind, pa, mapping.quarters, out) !== true
    ) {
      this.encoder.encodeLeaf(kind, pa, mapping.flags, out);
    }
  }

  /** Reads back the entry of a page and counts what is lost. */
  check({ mapping, kind, pa }: TableLeaf, { low, high }: EntryHalves, losses: Losses): void {
    const { entry } = this;
    this.decode(kind, low, high);
    if (entry.kind !== ENTRY_LEAF || entry.pa !== pa || entry.size !== kind.size) {
      throw new Error(`the entry for ${toHex(pa)} reads back as ${toHex(entry.pa)}`);
    }
    if ((mapping.flags & SYNTHESISED) !== 0) return;
    countFlagLosses(mapping.flags, entry.flags, mapping.pageSize, kind.size, losses);
    const same = mapping.entryLow >>> 0 === low >>> 0 && mapping.entryHigh >>> 0 === high >>> 0;
    if (mapping.entryBits > 0 && !same) losses.add('entry', 'exact entries: they are made anew', kind.size);
  }

  /** The largest kind of page, up to the size that the source has, that can start here. */
  private kindOf({ page, offset, pa, mapping }: TableLeaf, left: number): LeafKind | undefined {
    const { leaves, hole } = this.encoder;
    if (hole !== undefined && page >= hole.fromPage && page < hole.toPage) return undefined;
    for (let i = leaves.length - 1; i >= 0; i--) {
      const { size, physicalLimit } = leaves[i];
      if (size > mapping.pageSize || size > left || pa % size !== 0 || pa + size > physicalLimit) continue;
      if (offsetIn(size, page, offset) === 0) return leaves[i];
    }
    return undefined;
  }

  private keepsEntry({ mapping, kind, pa }: TableLeaf): boolean {
    const { format } = this.encoder;
    if (mapping.entryBits !== format.entryBytes * 8 || mapping.level !== kind.level) return false;
    const { entry } = this;
    this.decode(kind, mapping.entryLow, mapping.entryHigh);
    return (
      entry.kind === ENTRY_LEAF &&
      entry.pa === pa &&
      entry.size === kind.size &&
      ((entry.flags ^ mapping.flags) & COMPARED_FLAGS) === 0
    );
  }

  private decode({ level }: LeafKind, low: number, high: number): void {
    const { format, levels } = this.encoder;
    format.decode(level, low, high, this.entry, levels[level - 1].shift);
  }

  /** The rest of a mapping that cannot be held. */
  private refuse({ page, offset, pa }: TableLeaf, mapping: Mapping, done: number, losses: Losses): void {
    const rest = Object.assign(Object.create(Object.getPrototypeOf(mapping) as object), mapping) as Mapping;
    Object.assign(rest, { page, offset, pa, length: mapping.length - done });
    losses.mapping(rest, this.reason(rest));
  }

  private reason({ page, offset, pa, pageSize }: Mapping): string {
    const { leaves, hole, format } = this.encoder;
    const [least] = leaves;
    if (hole !== undefined && page >= hole.fromPage && page < hole.toPage) {
      return `${format.name} page tables have no such address`;
    }
    if (pageSize < least.size || pa % least.size !== 0 || offsetIn(least.size, page, offset) !== 0) {
      return `${format.name} page tables have no pages of less than ${sizeText(least.size)}`;
    }
    return `its PA ${toHex(pa)} does not fit into a page-table entry of ${format.name}`;
  }
}

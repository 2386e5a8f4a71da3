import { KvaParts } from '@libkvm/minidump-core';
import type { SymbolRecords } from './symbol-records.js';
import { STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, STT_TLS } from './symbol-rows.js';

const DOLLAR = 0x24;
const DOT = 0x2e;

/**
 * Symbols by address: row numbers in the order of their values, and for each the nearest one before it that reaches
 * further, so that the symbol which covers an address is found without a walk over all that start below it.
 */
export class SymbolAddresses {
  /** Rows by value; of rows with one value the preferred is the last. */
  private readonly order: Uint32Array;
  /** Index in `order` of the nearest forerunner that ends behind this one (has any size, for one without size), or -1. */
  private readonly outer: Int32Array;

  constructor(private readonly records: SymbolRecords) {
    const rows = new Uint32Array(records.count);
    let count = 0;
    for (let row = 1; row < records.count; row++) if (hasAddress(records, row)) rows[count++] = row;
    this.order = rows.slice(0, count).sort((a, b) => compareRows(records, a, b));
    this.outer = outerOf(records, this.order);
  }

  /**
   * The row that an address belongs to, or 0: the innermost symbol whose size covers it; else the nearest one below,
   * when that has no size. A symbol without size reaches as far as the next symbol, one with a size only as far as it
   * says.
   */
  at(kva: number | bigint, parts: KvaParts): number {
    parts.set(kva);
    const high = Math.floor(parts.page / 0x10_0000);
    const low = (((parts.page & 0xf_ffff) << 12) | parts.offset) >>> 0;
    const last = this.lastAtOrBelow(high, low);
    for (let i = last; i >= 0; i = this.outer[i]) {
      if (covers(this.records, this.order[i], high, low)) return this.order[i];
    }
    return last >= 0 && this.isLabel(last) ? this.order[last] : 0;
  }

  /** Whether no symbol at the value of `order[index]` has a size. */
  private isLabel(index: number): boolean {
    const { records, order } = this;
    for (let i = index; i >= 0 && compareValues(records, order[i], order[index]) === 0; i--) {
      if (hasSize(records, order[i])) return false;
    }
    return true;
  }

  /** Index in `order` of the last row with a value at or below the address, or -1. */
  private lastAtOrBelow(high: number, low: number): number {
    const { records, order } = this;
    let from = 0;
    let to = order.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const above = records.valueHigh(order[middle]) - high || records.valueLow(order[middle]) - low;
      if (above > 0) to = middle;
      else from = middle + 1;
    }
    return from - 1;
  }
}

/** Named, with a value that is an address. */
function hasAddress(records: SymbolRecords, row: number): boolean {
  return records.isNamed(row) && records.type(row) !== STT_TLS && !isMappingSymbol(records, row);
}

/**
 * `$a`, `$d`, `$t`, `$x`, and these with a suffix after a dot: marks where code and data begin, not things (ELF for the
 * Arm Architecture, "Mapping symbols").
 */
function isMappingSymbol(records: SymbolRecords, row: number): boolean {
  const at = records.nameOffset(row);
  const { names } = records;
  if (names[at] !== DOLLAR || records.type(row) !== STT_NOTYPE || records.rank(row) > 0) return false;
  const behind = at + 2 < names.length ? names[at + 2] : 0;
  return behind === 0 || behind === DOT;
}

function hasSize(records: SymbolRecords, row: number): boolean {
  return records.sizeLow(row) !== 0 || records.sizeHigh(row) !== 0;
}

/** Whether value <= address < value + size, for an address at or above the value. */
function covers(records: SymbolRecords, row: number, high: number, low: number): boolean {
  const borrow = low < records.valueLow(row) ? 1 : 0;
  const offsetHigh = high - records.valueHigh(row) - borrow;
  const offsetLow = low - records.valueLow(row) + borrow * 0x1_0000_0000;
  const more = records.sizeHigh(row) - offsetHigh || records.sizeLow(row) - offsetLow;
  return more > 0;
}

function compareValues(records: SymbolRecords, a: number, b: number): number {
  return records.valueHigh(a) - records.valueHigh(b) || records.valueLow(a) - records.valueLow(b);
}

/** By value; then functions and objects behind others, global behind weak behind local, early rows behind late ones. */
function compareRows(records: SymbolRecords, a: number, b: number): number {
  return (
    compareValues(records, a, b) ||
    kindRank(records, a) - kindRank(records, b) ||
    records.rank(a) - records.rank(b) ||
    b - a
  );
}

function kindRank(records: SymbolRecords, row: number): number {
  const type = records.type(row);
  return type === STT_FUNC || type === STT_OBJECT || type === STT_GNU_IFUNC ? 1 : 0;
}

/** For each of the ordered rows the nearest one before it that ends behind it: one pass with a stack. */
function outerOf(records: SymbolRecords, order: Uint32Array): Int32Array {
  const outer = new Int32Array(order.length);
  const stack = new Int32Array(order.length);
  let depth = 0;
  for (let i = 0; i < order.length; i++) {
    const sized = hasSize(records, order[i]);
    if (sized) while (depth > 0 && !endsBehind(records, order[stack[depth - 1]], order[i])) depth--;
    outer[i] = depth > 0 ? stack[depth - 1] : -1;
    if (sized) stack[depth++] = i;
  }
  return outer;
}

/** Whether `a` ends behind `b`; the value of `a` is not above that of `b`. */
function endsBehind(records: SymbolRecords, a: number, b: number): boolean {
  const low = records.valueLow(b) + records.sizeLow(b);
  const carry = low >= 0x1_0000_0000 ? 1 : 0;
  const otherLow = records.valueLow(a) + records.sizeLow(a);
  const otherCarry = otherLow >= 0x1_0000_0000 ? 1 : 0;
  const high = records.valueHigh(b) + records.sizeHigh(b) + carry;
  const otherHigh = records.valueHigh(a) + records.sizeHigh(a) + otherCarry;
  return (otherHigh - high || (otherLow >>> 0) - (low >>> 0)) > 0;
}

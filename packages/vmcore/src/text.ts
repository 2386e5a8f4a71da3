import { toHex } from '@libkvm/minidump-core';

const UNITS = ['KB', 'MB', 'GB', 'TB', 'PB'];

/** `4096` as `4 KB`, 101683200 as `97 MB`; empty for less than 1 KB. */
export function inUnits(bytes: number): string {
  if (bytes < 1024) return '';
  let value = bytes;
  let unit = -1;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = Number.isInteger(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** `4096 bytes (4 KB)`. */
export function bytesInUnits(bytes: number): string {
  const units = inUnits(bytes);
  return `${bytes} bytes${units === '' ? '' : ` (${units})`}`;
}

/** The size of a mapping, short: `4K`, `2M`, `1G`. */
export function pageSizeName(bytes: number): string {
  return inUnits(bytes).replace(/ (.)B$/, '$1') || String(bytes);
}

/** An address or nothing, padded to the widest that a column of them can have. */
export function hexColumn(value: number | bigint | undefined, width: number): string {
  return (value === undefined ? '-' : toHex(value)).padEnd(width);
}

/** `1 page`, `2 pages`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Sentences and values one below the other: names on the left, all values starting in one column. */
export function sheet(
  rows: readonly (readonly [name: string, value: string])[],
  style = (name: string) => name,
): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${style(name.padEnd(width))}  ${value}\n`).join('');
}

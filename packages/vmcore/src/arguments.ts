import { KvmError } from '@libkvm/minidump-core';
import type { Symbols } from '@libkvm/kvm-reader';

const ADDRESS_LIMIT = 1n << 64n;
/** What is echoed of an argument that makes no sense. */
const ECHO = 80;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const ADDRESS_HINT = 'addresses are 0x… in hex, decimal numbers, or with --kernel NAME or NAME+OFFSET';

/** An address as it was written: a symbol or none, and a number to add to it. */
export interface AddressTerm {
  readonly text: string;
  readonly symbol?: string;
  readonly offset: bigint;
}

/** A read as it was written. */
export interface ReadTerm {
  readonly address: AddressTerm;
  readonly length: number;
}

/**
 * Takes an address apart: `0xffffffff80200000`, `1234`, `panicstr`, `dumppcb+0x40`.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseAddress(text: string): AddressTerm {
  const number = parseInteger(text);
  if (number !== undefined) return { text, offset: checkAddress(number, text) };
  const plus = text.lastIndexOf('+');
  const offset = plus > 0 ? parseInteger(text.slice(plus + 1)) : undefined;
  const base = offset === undefined ? text : text.slice(0, plus);
  if (base === '' || /^[-+\d]|\s/.test(base)) throw notAnAddress(text);
  return { text, symbol: base, offset: checkAddress(offset ?? 0n, text) };
}

/**
 * The address that was meant.
 *
 * @throws KvmError `NO_SYMBOL`, `INVALID_ARGUMENT`
 */
export function addressOf({ text, symbol, offset }: AddressTerm, symbols: Symbols): bigint {
  if (symbol === undefined) return offset;
  if (symbols.kernel === undefined) {
    throw new KvmError('INVALID_ARGUMENT', `${quoted(symbol)} is no number, and without a kernel no symbol`, {
      field: 'kva',
      hint: /^[\da-f]+$/i.test(symbol)
        ? `a hex address starts with 0x: 0x${symbol}`
        : 'give the kernel of this core with --kernel FILE',
    });
  }
  return checkAddress(symbols.address(symbol) + offset, text);
}

/**
 * A number of bytes: decimal or 0x…, with K, M, G or T for powers of 1024.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseSize(text: string, what: string): number {
  return parseNumber(
    text,
    what,
    'a number of bytes',
    'numbers of bytes are decimal or 0x… in hex, with K, M, G or T behind them for powers of 1024',
  );
}

/**
 * A physical address, written as a number of bytes is.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parsePhysical(text: string, what: string): number {
  return parseNumber(
    text,
    what,
    'a physical address',
    'physical addresses are 0x… in hex or decimal, below 2^53; 4G is 0x100000000',
  );
}

/**
 * A number that counts: a version, a processor.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseCount(text: string, what: string): number {
  return parseNumber(text, what, 'a number', 'e.g. 0, 1, 2');
}

function parseNumber(text: string, what: string, kind: string, hint: string): number {
  const [, digits, unit] = /^(0x[\da-f]+|\d+)([KMGT]?)$/i.exec(text) ?? [];
  const number = digits === undefined ? NaN : Number(digits) * UNITS[unit.toUpperCase()];
  if (Number.isSafeInteger(number)) return number;
  throw new KvmError('INVALID_ARGUMENT', `${what} is ${kind}, not ${quoted(text)}`, {
    field: what,
    hint,
  });
}

/**
 * A line of a batch of reads: `ADDR LEN`.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseRead(line: string): ReadTerm {
  const [address, length, ...rest] = line.split(/\s+/);
  if (length === undefined || rest.length > 0) {
    throw new KvmError('INVALID_ARGUMENT', `a line is ADDR LEN, not ${quoted(line)}`, { field: 'line' });
  }
  return { address: parseAddress(address), length: parseSize(length, 'LEN') };
}

/**
 * A window `FROM-TO` of addresses, half-open; either may be left out.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseWindow(text: string): { from?: bigint; to?: bigint } {
  const parts = text.split('-');
  const [from, to] = parts.map((part) => (part === '' ? undefined : parseInteger(part)));
  const read = parts.length === 2 && parts.every((part, i) => part === '' || [from, to][i] !== undefined);
  const inOrder = (from ?? 0n) <= (to ?? ADDRESS_LIMIT) && (to ?? 0n) <= ADDRESS_LIMIT;
  if (read && inOrder) return { ...(from !== undefined && { from }), ...(to !== undefined && { to }) };
  throw new KvmError('INVALID_ARGUMENT', `${quoted(text)} is no window of addresses`, {
    field: 'kva',
    hint: 'a window is FROM-TO, e.g. 0xfffffe0000000000-0xfffffe0000200000; TO is not part of it',
  });
}

/**
 * A field of the header and its value: `kernbase=0xfffffe0000000000`.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseHeaderField(text: string): readonly [field: string, value: bigint] {
  const equals = text.indexOf('=');
  const value = equals > 0 ? parseInteger(text.slice(equals + 1)) : undefined;
  if (value !== undefined) return [text.slice(0, equals), value];
  throw new KvmError('INVALID_ARGUMENT', `${quoted(text)} is no FIELD=NUMBER`, {
    field: 'header',
    hint: 'e.g. --header kernbase=0xfffffe0000000000',
  });
}

/**
 * A control register and its value: `CR3=0x1000`. Names are taken in upper case.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseRegister(text: string): readonly [name: string, value: bigint] {
  const equals = text.indexOf('=');
  const value = equals > 0 ? parseInteger(text.slice(equals + 1)) : undefined;
  if (value !== undefined) return [text.slice(0, equals).toUpperCase(), value];
  throw new KvmError('INVALID_ARGUMENT', `${quoted(text)} is no NAME=VALUE`, {
    field: 'reg',
    hint: 'e.g. --reg CR3=0x1000 --reg CR4=0x6f0',
  });
}

/**
 * Where a raw image lies: `PA`, `PA:OFFSET` or `PA:OFFSET:LENGTH`.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function parseRawRange(text: string): { pa: number; offset?: number; length?: number } {
  const parts = text.split(':');
  if (parts.length > 3) {
    throw new KvmError('INVALID_ARGUMENT', `${quoted(text)} is no PA[:OFFSET[:LENGTH]]`, { field: 'base' });
  }
  const [pa, offset, length] = parts.map((part) => parseSize(part, '--base'));
  return { pa, ...(offset !== undefined && { offset }), ...(length !== undefined && { length }) };
}

/** What was written, shortened, for a message or an answer. */
export function echoed(text: string): string {
  return text.length > ECHO ? `${text.slice(0, ECHO)}…` : text;
}

/** A hex or decimal integer, not negative; undefined for anything else. */
function parseInteger(text: string): bigint | undefined {
  // Longer ones are no numbers that could be meant, and take their time.
  return text.length <= 40 && /^(0x[\da-f]+|\d+)$/i.test(text) ? BigInt(text) : undefined;
}

function checkAddress(value: bigint, text: string): bigint {
  if (value < ADDRESS_LIMIT) return value;
  throw new KvmError('INVALID_ARGUMENT', `${quoted(text)} does not fit in 64 bits`, { field: 'kva' });
}

function notAnAddress(text: string): KvmError {
  const message = `${quoted(text)} is no address`;
  return new KvmError('INVALID_ARGUMENT', message, { field: 'kva', hint: ADDRESS_HINT });
}

function quoted(text: string): string {
  return JSON.stringify(echoed(text));
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  fieldSize,
  latin1,
  struct,
  type ByteOrder,
  type FieldKind,
  type FieldValue,
  type StructSpec,
} from '../src/struct.js';
import { expectCode } from './expect-code.js';
import { runs } from './runs.js';

const hex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (b) => parseInt(b, 16));

/** sys/amd64/include/minidump.h, as freebsd-dumps.md 2.1.1 has it. */
const amd64 = struct('minidumphdr', {
  magic: { at: 0, kind: 'char[24]', doc: 'magic' },
  version: { at: 24, kind: 'u32', doc: 'version' },
  msgbufsize: { at: 28, kind: 'u32', doc: 'bytes of the message buffer' },
  bitmapsize: { at: 32, kind: 'u32', doc: 'bytes of the bitmap' },
  pmapsize: { at: 36, kind: 'u32', doc: 'bytes of the table' },
  kernbase: { at: 40, kind: 'u64', doc: 'first KVA' },
  dmapbase: { at: 48, kind: 'u64', doc: 'direct map' },
  dmapend: { at: 56, kind: 'u64', doc: 'its end' },
  dumpavailsize: { at: 64, kind: 'u32', doc: 'bytes of dump_avail' },
});

/** All kinds, with gaps (5 to 7, 39). */
const mixed = struct('mixed', {
  a: { at: 0, kind: 'u8', doc: 'a' },
  b: { at: 1, kind: 'u16', doc: 'b' },
  c: { at: 4, kind: 'u8', doc: 'c' },
  d: { at: 8, kind: 'u64', doc: 'd' },
  e: { at: 16, kind: 'u32', doc: 'e' },
  text: { at: 20, kind: 'char[7]', doc: 'text' },
  raw: { at: 27, kind: 'bytes[12]', doc: 'raw' },
  last: { at: 40, kind: 'u16', doc: 'last' },
});

const amd64V3 = {
  bytes: hex(`
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 03 00 00 00 70 7f 01 00
    00 80 00 00 00 f0 7f 00 00 00 00 00 00 fe ff ff
    00 00 00 00 00 f8 ff ff 00 00 00 00 00 fc ff ff
    00 10 00 00`),
  values: {
    magic: 'minidump FreeBSD/amd64',
    version: 3,
    msgbufsize: 0x17f70,
    bitmapsize: 0x8000,
    pmapsize: 0x7ff000,
    kernbase: 0xfffffe0000000000n,
    dmapbase: 0xfffff80000000000n,
    dmapend: 0xfffffc0000000000n,
    dumpavailsize: 0x1000,
  },
};

const amd64V1 = {
  bytes: hex(`
    6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44
    2f 61 6d 64 36 34 00 00 01 00 00 00 e0 ff 00 00
    00 80 00 00 00 00 40 00 00 00 00 80 ff ff ff ff
    00 00 00 00 00 ff ff ff 00 00 00 00 80 ff ff ff
    00 00 00 00`),
  values: {
    ...{ magic: 'minidump FreeBSD/amd64', version: 1, msgbufsize: 0xffe0, bitmapsize: 0x8000 },
    ...{ pmapsize: 0x400000, kernbase: 0xffffffff80000000n },
    ...{ dmapbase: 0xffffff0000000000n, dmapend: 0xffffff8000000000n, dumpavailsize: 0 },
  },
};

const mixedValues = {
  ...{ a: 0xfe, b: 0xc0de, c: 1, d: 0x0102030405060708n, e: 0x89abcdef, text: 'FreeBSD' },
  ...{ raw: hex('00 ff 01 fe 02 fd 03 fc 04 fb 00 00'), last: 0xfffe },
};
const mixedLittle = hex(`
  fe de c0 00 01 00 00 00 08 07 06 05 04 03 02 01 ef cd ab 89 46 72 65 65 42 53 44
  00 ff 01 fe 02 fd 03 fc 04 fb 00 00 00 fe ff`);
const mixedBig = hex(`
  fe c0 de 00 01 00 00 00 01 02 03 04 05 06 07 08 89 ab cd ef 46 72 65 65 42 53 44
  00 ff 01 fe 02 fd 03 fc 04 fb 00 00 00 ff fe`);

describe.each([
  { name: 'amd64 v3 (7.1)', spec: amd64, order: 'little' as ByteOrder, ...amd64V3 },
  { name: 'amd64 v1 (7.2)', spec: amd64, order: 'little' as ByteOrder, ...amd64V1 },
  { name: 'all kinds', spec: mixed, order: 'little' as ByteOrder, values: mixedValues, bytes: mixedLittle },
  { name: 'all kinds', spec: mixed, order: 'big' as ByteOrder, values: mixedValues, bytes: mixedBig },
])('$name, $order-endian', ({ spec, order, values, bytes }) => {
  const table = spec as unknown as ReturnType<typeof struct<StructSpec>>;

  it('has the size of its bytes', () => {
    expect(table.size).toBe(bytes.length);
  });

  it('reads', () => {
    expect(table.read(bytes, 0, order)).toEqual(values);
  });

  it('writes', () => {
    const target = new Uint8Array(bytes.length);
    table.write(target, 0, order, values);
    expect(target).toEqual(bytes);
  });

  it('reads what it wrote, at any offset, and touches nothing around it', () => {
    const target = new Uint8Array(bytes.length + 12).fill(0x5a);
    table.write(target, 5, order, values);
    expect(table.read(target, 5, order)).toEqual(values);
    expect([...target.subarray(0, 5), ...target.subarray(5 + bytes.length)]).toEqual(
      new Array<number>(12).fill(0x5a),
    );
  });

  it('writes what it read', () => {
    const target = new Uint8Array(bytes.length);
    table.write(target, 0, order, table.read(bytes, 0, order));
    expect(target).toEqual(bytes);
  });

  it('reads from a view into a larger buffer', () => {
    const large = new Uint8Array(bytes.length + 9);
    large.set(bytes, 7);
    expect(table.read(large.subarray(4), 3, order)).toEqual(values);
  });
});

describe('Struct', () => {
  const integers = struct('integers', {
    a: { at: 0, kind: 'u64', doc: '' },
    b: { at: 8, kind: 'u32', doc: '' },
    c: { at: 12, kind: 'u16', doc: '' },
    d: { at: 14, kind: 'u8', doc: '' },
    e: { at: 15, kind: 'bytes[5]', doc: '' },
  });
  const order = fc.constantFrom<ByteOrder>('little', 'big');

  it('keeps every byte of a structure without text over read and write', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), order, (bytes, order) => {
        const target = new Uint8Array(20);
        integers.write(target, 0, order, integers.read(bytes, 0, order));
        expect(target).toEqual(bytes);
      }),
      runs(200),
    );
  });

  it('keeps every value over write and read', () => {
    const values = fc.record({
      a: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      b: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      c: fc.integer({ min: 0, max: 65535 }),
      d: fc.integer({ min: 0, max: 255 }),
      e: fc.uint8Array({ minLength: 5, maxLength: 5 }),
    });
    fc.assert(
      fc.property(values, order, (values, order) => {
        const target = new Uint8Array(20).fill(0xff);
        integers.write(target, 0, order, values);
        expect(integers.read(target, 0, order)).toEqual(values);
        // The oracle of byte orders: digits.
        const digits = [...target.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0'));
        if (order === 'little') digits.reverse();
        expect(digits.join('')).toBe(values.a.toString(16).padStart(16, '0'));
      }),
      runs(200),
    );
  });

  it('is exact for u64 where a number is not', () => {
    const target = new Uint8Array(20);
    for (const a of [2n ** 53n + 1n, 0xffffffff80200001n, 2n ** 64n - 1n, 2n ** 63n + 1n]) {
      integers.write(target, 0, 'big', { a });
      expect(integers.read(target, 0, 'big').a).toBe(a);
    }
  });

  it('leaves fields alone that are not given', () => {
    const target = mixedLittle.slice();
    mixed.write(target, 0, 'little', { e: 0 });
    const expected = mixedLittle.slice();
    expected.fill(0, 16, 20);
    expect(target).toEqual(expected);
  });

  it('gives bytes as a copy', () => {
    const bytes = mixedLittle.slice();
    const { raw } = mixed.read(bytes, 0, 'little');
    raw.fill(9);
    expect(bytes).toEqual(mixedLittle);
  });

  it('refuses integers that do not fit, and leaves the field alone', () => {
    const cases: [string, unknown[]][] = [
      ['a', [256, -1, 0.5, NaN, Infinity, 256n, -1n, '1', true, null]],
      ['b', [65536, -1, 1e9]],
      ['e', [2 ** 32, -1, 2 ** 53, 2n ** 32n, -(2n ** 40n)]],
      ['d', [2n ** 64n, -1n, 2n ** 70n, -1, 2 ** 53, 1.5]],
    ];
    for (const [field, values] of cases) {
      for (const value of values) {
        const target = mixedLittle.slice();
        const error = expectCode('INVALID_ARGUMENT', () =>
          mixed.write(target, 0, 'little', { [field]: value }),
        );
        expect(error.field).toBe(`mixed.${field}`);
        expect(target).toEqual(mixedLittle);
      }
    }
  });

  it('takes a number for u64 and a bigint for less, when they fit', () => {
    const target = new Uint8Array(mixed.size);
    mixed.write(target, 0, 'little', { d: 5, e: 7n } as object);
    expect(mixed.read(target, 0, 'little')).toMatchObject({ d: 5n, e: 7 });
  });

  it('pads text with NULs and refuses what does not fit, is no latin-1, or is no text', () => {
    const target = mixedLittle.slice();
    mixed.write(target, 0, 'little', { text: 'ab' });
    expect([...target.subarray(20, 27)]).toEqual([0x61, 0x62, 0, 0, 0, 0, 0]);
    mixed.write(target, 0, 'little', { text: 'é\x7f\xff' });
    expect(mixed.read(target, 0, 'little').text).toBe('é\x7f\xff');
    for (const text of ['12345678', 'Ł', 'a\u{1f600}', 'a\u0100']) {
      const before = target.slice();
      const error = expectCode('INVALID_ARGUMENT', () => mixed.write(target, 0, 'little', { text }));
      expect(error.field).toBe('mixed.text');
      expect(target).toEqual(before);
    }
    expectCode('INVALID_ARGUMENT', () => mixed.write(target, 0, 'little', { raw: new Uint8Array(13) }));
  });

  it('says TRUNCATED where the bytes end inside it', () => {
    expect(integers.read(new Uint8Array(25), 5, 'little').b).toBe(0);
    for (const [length, offset] of [
      [19, 0],
      [25, 6],
      [20, 21],
      [40, -1],
      [0, 0],
    ]) {
      const error = expectCode('TRUNCATED', () => integers.read(new Uint8Array(length), offset, 'little'));
      expect(error).toMatchObject({ offset, length: 20 });
    }
  });

  it('never writes outside of the bytes, or at another place of them', () => {
    for (const offset of [-1, -4, 4, 30, 1e9]) {
      const target = mixedLittle.slice();
      expectCode('INVALID_ARGUMENT', () => mixed.write(target, offset, 'little', { text: 'x', last: 1 }));
      expect(target).toEqual(mixedLittle);
    }
  });

  it('writes no field that it does not have', () => {
    const target = mixedLittle.slice();
    for (const name of ['nosuch', 'toString', 'constructor', '__proto__']) {
      mixed.write(target, 0, 'little', Object.fromEntries([[name, 1]]));
    }
    expect(target).toEqual(mixedLittle);
  });

  it('documents itself in the order of offsets', () => {
    const table = struct('t', {
      late: { at: 8, kind: 'u64', doc: 'the second' },
      early: { at: 0, kind: 'char[8]', doc: 'the first' },
    });
    expect(table.toMarkdown().split('\n')).toEqual([
      '| offset | type | field | meaning |',
      '|---|---|---|---|',
      '| 0 | char[8] | early | the first |',
      '| 8 | u64 | late | the second |',
    ]);
  });

  it('may be empty', () => {
    const empty = struct('empty', {});
    expect(empty.size).toBe(0);
    expect(empty.read(new Uint8Array(), 0, 'big')).toEqual({});
  });
});

it('fieldSize counts bytes', () => {
  const kinds: FieldKind[] = ['u8', 'u16', 'u32', 'u64', 'char[24]', 'bytes[0]', 'bytes[4096]'];
  expect(kinds.map(fieldSize)).toEqual([1, 2, 4, 8, 24, 0, 4096]);
  const typed: [FieldValue<'u64'>, FieldValue<'u32'>, FieldValue<'char[4]'>] = [1n, 2, 'text'];
  expect(typed.length).toBe(3);
});

it('latin1 ends at the first NUL and gives one character a byte', () => {
  expect(latin1(hex('41 42 00 43'))).toBe('AB');
  expect(latin1(hex('41 ff 80'))).toBe('A\u00ff\u0080');
  expect(latin1(hex('00 41'))).toBe('');
  expect(latin1(hex(''))).toBe('');
});

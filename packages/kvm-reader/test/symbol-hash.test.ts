import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ELF_MACHINES, elfKernel } from '@libkvm/fixtures';
import type { ElfHashStyle, ElfQuirks, ElfSymbol } from '@libkvm/fixtures';
import { MemorySource, isKvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { takeStep } from '../src/block-steps.js';
import { BlockStore } from '../src/block-store.js';
import { ElfFile } from '../src/elf-file.js';
import type { ElfSection } from '../src/elf-headers.js';
import { SymbolTable, type KernelSymbol } from '../src/symbol-table.js';
import { CountingSource } from './support/elf-bytes.js';
import { runs } from './support/long.js';

/** Symbols by the hash tables of .dynsym give what the whole symbol table gives. */

const FORMATS = [
  { class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
  { class: 64, byteOrder: 'big', machine: 21 },
  { class: 32, byteOrder: 'little', machine: ELF_MACHINES.i386 },
  { class: 32, byteOrder: 'big', machine: ELF_MACHINES.arm },
] as const;
type Format = (typeof FORMATS)[number];
const STYLES = ['gnu', 'sysv', 'both'] as const;
const KINDS = FORMATS.flatMap((format) => STYLES.map((style) => ({ ...format, style })));
const HASHES = [5, 0x6ffffff6];
const ABSENT = ['', 'h', 'no_such_symbol', 'hz\0', 'func_1\0x', '__proto__', 'x'.repeat(5000), 'func_300'];

function bytesOf(
  symbols: readonly ElfSymbol[],
  style: ElfHashStyle,
  format: Format = FORMATS[0],
  quirks: ElfQuirks = {},
): Uint8Array<ArrayBuffer> {
  const { class: bits, byteOrder, machine } = format;
  return elfKernel({ class: bits, byteOrder, machine, symbols, quirks, dynamic: { hash: style } });
}

/** Lookups each in a new table, so that none finds the whole one read by another. */
function ask(bytes: Uint8Array<ArrayBuffer>, names: readonly string[]): (KernelSymbol | undefined)[] {
  return names.map((name) => new SymbolTable(ElfFile.open(new MemorySource(bytes))).lookup(name));
}

/** What the whole table says: it is read at the first question of its size. */
function askWhole(bytes: Uint8Array<ArrayBuffer>, names: readonly string[]): (KernelSymbol | undefined)[] {
  const table = new SymbolTable(ElfFile.open(new MemorySource(bytes)));
  expect(table.size).toBeGreaterThanOrEqual(0);
  return names.map((name) => table.lookup(name));
}

function section(bytes: Uint8Array<ArrayBuffer>, name: string): ElfSection {
  const elf = ElfFile.open(new MemorySource(bytes));
  return elf.sections.find((one) => elf.sectionName(one) === name)!;
}

/** The file with a section overwritten. */
function without(bytes: Uint8Array<ArrayBuffer>, ...names: string[]): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  for (const name of names) {
    const { offset, length } = section(bytes, name);
    copy.fill(0, offset, offset + length);
  }
  return copy;
}

/** The file with a field of a section header changed: sh_type is at 4 in both classes. */
function retyped(bytes: Uint8Array<ArrayBuffer>, name: string, type: number): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const index = ElfFile.open(new MemorySource(bytes)).sections.findIndex(
    ({ offset, length }) => offset === section(bytes, name).offset && length === section(bytes, name).length,
  );
  view.setUint32(Number(view.getBigUint64(40, true)) + index * 64 + 4, type, true);
  return copy;
}

const mixed = (base: bigint): ElfSymbol[] => [
  ...Array.from({ length: 200 }, (_, i) => ({
    ...{ name: `func_${i}`, value: base + BigInt(i * 16), size: i % 40 },
    ...{ type: (['func', 'object', 'notype'] as const)[i % 3] },
    bind: (['global', 'global', 'global', 'weak', 'local'] as const)[i % 5],
  })),
  { name: 'n\u00c3\u00a4me\u00f0\u009f\u0098\u0080', value: base + 1n },
  { name: 'a'.repeat(300), value: base + 2n, size: 7 },
  { name: 'elsewhere', value: 0n, section: 'undef' },
  { name: 'kernbase', value: base, section: 'abs', type: 'notype' },
];
const baseOf = (format: Format): bigint => (format.class === 64 ? 0xffffffff80000000n : 0xc0000000n);
const utf8 = (name: string): string =>
  new TextDecoder().decode(Uint8Array.from(name, (character) => character.charCodeAt(0)));

describe('lookup by a hash table', () => {
  it.each(KINDS)('gives what the whole table gives: class $class, $byteOrder-endian, $style', (kind) => {
    const symbols = mixed(baseOf(kind));
    const bytes = bytesOf(symbols, kind.style, kind);
    const names = [...symbols.map(({ name }) => utf8(name)), ...ABSENT];
    const answers = ask(bytes, names);
    expect(answers).toEqual(askWhole(bytes, names));
    expect(answers).toEqual(askWhole(elfKernel({ ...kind, symbols }), names));
    expect(answers[7]).toEqual({
      ...{ name: 'func_7', value: baseOf(kind) + 112n, size: 7, type: 'object', bind: 'global' },
    });
  });

  it.each(KINDS)('reads no other table: class $class, $byteOrder-endian, $style', (kind) => {
    const symbols = mixed(baseOf(kind));
    const bytes = without(bytesOf(symbols, kind.style, kind), '.symtab', '.strtab');
    const exported = symbols.filter(({ bind, section }) => bind === undefined && section !== 'undef');
    const globals = [...exported, ...symbols.filter(({ bind }) => bind === 'global')];
    expect(globals.length).toBeGreaterThan(100);
    const names = globals.map(({ name }) => utf8(name));
    expect(ask(bytes, names).map((symbol) => symbol?.value)).toEqual(globals.map(({ value }) => value));
    // The others are only asked of the whole table, which is gone here.
    expect(ask(bytes, ['func_3', 'func_4', 'elsewhere'])).toEqual([undefined, undefined, undefined]);
  });

  it.each(STYLES)('leaves symbols of equal names to the whole table: %s', (style) => {
    const binds = ['local', 'weak', 'global'] as const;
    const twos = binds.flatMap((a) => binds.map((b) => [a, b] as const));
    const symbols = twos.flatMap(([a, b], i) => [
      { name: `two_${i}`, value: BigInt(i * 2 + 1), bind: a },
      { name: `two_${i}`, value: BigInt(i * 2 + 2), bind: b },
    ]);
    const names = twos.map((_, i) => `two_${i}`);
    const bytes = bytesOf(symbols, style);
    expect(ask(bytes, names)).toEqual(askWhole(bytes, names));
    expect(ask(bytes, names).map((symbol) => symbol?.value)).toEqual(
      // Locals come first in the file: the better one, else the first of both.
      twos.map(([a, b], i) => BigInt(i * 2 + (binds.indexOf(b) > binds.indexOf(a) ? 2 : 1))),
    );
  });

  it('uses the whole table once it is there', () => {
    const bytes = bytesOf([{ name: 'hz', value: 1n }], 'both');
    const { offset } = section(bytes, '.dynsym');
    const table = new SymbolTable(ElfFile.open(new MemorySource(bytes)));
    // st_value of row 1.
    new DataView(bytes.buffer).setBigUint64(offset + 24 + 8, 2n, true);
    expect(ask(bytes, ['hz'])[0]?.value).toBe(2n);
    expect(table.size).toBe(1);
    new DataView(bytes.buffer).setBigUint64(offset + 24 + 8, 3n, true);
    expect(table.lookup('hz')?.value).toBe(1n);
  });

  it.each(STYLES)('takes no row from behind .dynsym: %s', (style) => {
    const bytes = without(bytesOf([{ name: 'hz', value: 1n }], style), '.symtab', '.strtab');
    expect(ask(bytes, ['hz'])[0]?.value).toBe(1n);
    const view = new DataView(bytes.buffer);
    for (let at = Number(view.getBigUint64(40, true)); at < bytes.length; at += 64)
      if (view.getUint32(at + 4, true) === 11) view.setBigUint64(at + 32, 24n, true);
    expect(ask(bytes, ['hz'])).toEqual([undefined]);
  });

  it('serves a kernel without .symtab', () => {
    const bytes = retyped(bytesOf(mixed(0x1000n), 'gnu'), '.symtab', 1);
    const names = ['func_0', 'func_3', 'func_4', 'kernbase', 'elsewhere'];
    expect(ask(bytes, names)).toEqual(askWhole(bytes, names));
    expect(ask(bytes, names).map((symbol) => symbol?.value)).toEqual([
      ...[0x1000n, 0x1030n, undefined, 0x1000n, undefined],
    ]);
  });

  it('is not used where .symtab has had names taken out, nor with versions of symbols', () => {
    const bytes = bytesOf(mixed(0x1000n), 'both');
    const symtab = section(bytes, '.symtab');
    const thin = bytes.slice();
    const view = new DataView(thin.buffer);
    const header = Number(view.getBigUint64(40, true));
    for (let at = header; at < thin.length; at += 64)
      if (view.getUint32(at + 4, true) === 2) view.setBigUint64(at + 32, BigInt(24 * 50), true);
    expect(symtab.length).toBeGreaterThan(24 * 160);
    const names = ['func_0', 'func_1', 'func_150'];
    expect(ask(thin, names)).toEqual(askWhole(thin, names));
    const versioned = retyped(without(bytes, '.symtab'), '.strtab', 0x6fffffff);
    expect(ask(versioned, names)).toEqual([undefined, undefined, undefined]);
  });
});

describe('a damaged hash table', () => {
  const symbols = mixed(0x1000n).slice(150);
  const names = [...symbols.map(({ name }) => utf8(name)), ...ABSENT];
  const files = KINDS.map((kind) => {
    const bytes = bytesOf(symbols, kind.style, kind);
    const whole = askWhole(bytes, names);
    return { ...kind, bytes, whole };
  });
  const value = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 0xff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff),
    fc.nat(100),
    fc.nat(0xffffffff),
  );
  const changes = fc.array(
    fc.record({ word: fc.oneof(fc.nat(3), fc.nat(), fc.nat()), value, count: fc.constantFrom(1, 1, 2, 50) }),
    { minLength: 1, maxLength: 8 },
  );

  it('never changes an answer, whatever is in the section', () => {
    const property = fc.property(fc.constantFrom(...files), changes, fc.boolean(), (file, list, first) => {
      const bytes = file.bytes.slice();
      const view = new DataView(bytes.buffer);
      const hashes = ElfFile.open(new MemorySource(bytes)).sections.filter(({ type }) =>
        HASHES.includes(type),
      );
      const { offset, length } = hashes[first ? 0 : hashes.length - 1];
      for (const { word, value, count } of list) {
        for (let i = word; i < word + count; i++)
          view.setUint32(offset + (i % (length >> 2)) * 4, value, file.byteOrder === 'little');
      }
      expect(ask(bytes, names)).toEqual(file.whole);
    });
    fc.assert(property, runs(150));
  });

  it('never changes an answer, whatever its section header says', () => {
    const field = fc.record({
      // sh_offset, sh_size, sh_link, sh_entsize by class; the high words too.
      at: fc.constantFrom(24, 28, 32, 36, 40, 56, 16, 20),
      value: fc.oneof(value, fc.nat(12)),
    });
    const property = fc.property(
      fc.constantFrom(...files),
      fc.array(field, { minLength: 1 }),
      (file, fields) => {
        const bytes = file.bytes.slice();
        const view = new DataView(bytes.buffer);
        const little = file.byteOrder === 'little';
        const elf = ElfFile.open(new MemorySource(bytes));
        const rows = elf.sections.length;
        const step = file.class === 64 ? 64 : 40;
        const start = bytes.length - rows * step;
        elf.sections.forEach(({ type }, i) => {
          if (!HASHES.includes(type)) return;
          for (const { at, value } of fields)
            if (at < step) view.setUint32(start + i * step + at, value, little);
        });
        expect(ask(bytes, names)).toEqual(file.whole);
      },
    );
    fc.assert(property, runs(150));
  });

  it('fails like any damaged file where the headers of its symbols are hit', () => {
    const property = fc.property(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat(), value), { minLength: 1, maxLength: 4 }),
      (file, list) => {
        const bytes = file.bytes.slice();
        const view = new DataView(bytes.buffer);
        const words = bytes.length >> 2;
        for (const [word, value] of list) {
          // Mostly the section headers, at the end.
          const at = word % 3 === 0 ? word % words : words - 1 - (word % Math.min(words, 160));
          view.setUint32(at * 4, value, file.byteOrder === 'little');
        }
        try {
          ask(bytes, names.slice(0, 10));
        } catch (error) {
          if (!isKvmError(error)) throw error;
        }
      },
    );
    fc.assert(property, runs(300));
  });

  it('ends where chains run in circles', () => {
    const many = Array.from({ length: 300 }, (_, i) => ({ name: `f_${i}`, value: BigInt(i) }));
    const bytes = bytesOf(many, 'sysv');
    const { offset, length } = section(bytes, '.hash');
    const view = new DataView(bytes.buffer);
    // All buckets lead to row 5, and it to 6 and back.
    for (let at = offset + 8; at < offset + length; at += 4) view.setUint32(at, at % 8 === 0 ? 5 : 6, true);
    expect(ask(bytes, ['f_4', 'f_200', 'none']).map((symbol) => symbol?.value)).toEqual([
      4n,
      200n,
      undefined,
    ]);
  });
});

describe('random symbols', () => {
  const symbol = fc.record({
    name: fc.constantFrom('', 'a', 'b', 'ab', 'b2', 'bQ', 'c0', '$d', 'longer_name', 'name', 'x'),
    value: fc.oneof(fc.bigInt(0n, 40n), fc.bigInt(0xfffffff0n, 0xffffffffn)),
    size: fc.oneof(fc.constant(0), fc.nat(10)),
    type: fc.constantFrom('notype', 'object', 'func', 'section', 'file'),
    bind: fc.constantFrom('local', 'global', 'global', 'weak'),
    section: fc.constantFrom('abs', 'abs', 'abs', 'undef'),
  });

  it('are found alike with and without', () => {
    const property = fc.property(
      fc.constantFrom(...KINDS),
      fc.array(symbol, { maxLength: 30 }),
      fc.boolean(),
      (kind, symbols, localsAfterInfo) => {
        const names = [...new Set(symbols.map(({ name }) => name)), 'absent'];
        const quirks = { localsAfterInfo };
        const plain = askWhole(elfKernel({ ...kind, symbols, quirks }), names);
        expect(ask(bytesOf(symbols, kind.style, kind, quirks), names)).toEqual(plain);
      },
    );
    fc.assert(property, runs(300));
  });
});

describe('what is read', () => {
  const many = Array.from({ length: 20_000 }, (_, i) => ({ name: `symbol_${i}`, value: BigInt(i) }));
  const bytes = bytesOf(many, 'gnu');
  const whole = section(bytes, '.symtab').length + section(bytes, '.strtab').length;
  const hash = section(bytes, '.gnu.hash').length;

  it('is the hash section and a few blocks', () => {
    const source = new CountingSource(bytes);
    const table = new SymbolTable(ElfFile.open(source));
    expect(table.lookup('symbol_12345')?.value).toBe(12345n);
    expect(source.bytesRead).toBeLessThan(hash + 8 * 4096);
    expect(source.bytesRead).toBeLessThan(whole / 2);
    const { bytesRead } = source;
    expect(table.lookup('symbol_777')?.value).toBe(777n);
    expect(source.bytesRead - bytesRead).toBeLessThanOrEqual(4 * 4096);
    expect(table.lookup('none')).toBeUndefined();
    expect(source.bytesRead).toBeGreaterThan(whole);
  });

  it('is read on where the source threw', () => {
    const source = new CountingSource(bytes);
    const elf = ElfFile.open(source);
    const read = source.readSync.bind(source);
    let calls = 0;
    source.readSync = (...args) => {
      if (calls++ % 2 === 0) throw new Error('not fetched yet');
      return read(...args);
    };
    const table = new SymbolTable(elf);
    let found: KernelSymbol | undefined;
    for (let attempt = 0; found === undefined && attempt < 20; attempt++) {
      try {
        found = table.lookup('symbol_9999');
      } catch (error) {
        expect(String(error)).toContain('not fetched yet');
      }
    }
    expect(found?.value).toBe(9999n);
    expect(source.bytesRead).toBeLessThan(hash + 10 * 4096);
  });

  it.each(STYLES)('is fetched by steps, in blocks however small: %s', async (style) => {
    const file = bytesOf(many.slice(0, 3000), style);
    let fetched = 0;
    const read = (offset: number, length: number): Promise<Uint8Array> => {
      fetched += length;
      return Promise.resolve(file.slice(offset, offset + length));
    };
    const store = new BlockStore({ size: file.length, read }, 0, 512);
    const table = await takeStep([store], () => new SymbolTable(ElfFile.open(store)));
    for (const name of ['symbol_7', 'symbol_2999'])
      expect(await takeStep([store], () => table.lookup(name))).toMatchObject({ name, bind: 'global' });
    expect(fetched).toBeLessThan(section(file, '.symtab').length);
    expect(await takeStep([store], () => table.lookup('symbol_3000'))).toBeUndefined();
  });
});

describe('files of a linker', () => {
  const COUNT = 200;
  const source = [
    ...Array.from({ length: COUNT }, (_, i) => `int object_${i} = ${i}; int f_${i}(void) { return ${i}; }`),
    'static int hidden_one = 1; int *to_hidden(void) { return &hidden_one; }',
    '__attribute__((weak)) int weak_one = 2;',
    'extern int not_here; int *to_other(void) { return &not_here; }',
  ].join('\n');
  const names = Array.from({ length: COUNT }, (_, i) => [`object_${i}`, `f_${i}`]).flat();
  const others = ['hidden_one', 'weak_one', 'to_other', 'not_here', 'object_999'];

  /** Links it with each kind of hash table; nothing where there is no linker. */
  function linked(...options: string[]): Uint8Array<ArrayBuffer>[] {
    const folder = mkdtempSync(join(tmpdir(), 'libkvm-hash-'));
    const [input, object, output] = ['kernel.c', 'kernel.o', 'kernel.so'].map((name) => join(folder, name));
    const cc = (...args: string[]): boolean => spawnSync('cc', [...options, ...args]).status === 0;
    try {
      writeFileSync(input, source);
      if (!cc('-fPIC', '-c', '-o', object, input)) return [];
      return STYLES.flatMap((style) => {
        const done = cc('-shared', '-nostdlib', `-Wl,--hash-style=${style}`, '-o', output, object);
        return done ? [new Uint8Array(readFileSync(output))] : [];
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  it.each([[[]], [['-m32']]])('are read alike with and without, %s', (options) => {
    const files = linked(...options);
    if (files.length === 0) console.log('skipped: no compiler and linker of such ELF files here');
    for (const file of files) {
      const whole = askWhole(file, [...names, ...others]);
      expect(ask(file, [...names, ...others])).toEqual(whole);
      expect(whole.slice(0, names.length).every((symbol) => symbol?.bind === 'global')).toBe(true);
      expect(ask(without(file, '.symtab', '.strtab'), names)).toEqual(whole.slice(0, names.length));
    }
  });
});

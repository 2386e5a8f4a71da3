import { ELF_MACHINES, elfKernel } from '@libkvm/fixtures';
import type { ElfKernelDescription, ElfQuirks, ElfSymbol } from '@libkvm/fixtures';
import { MemorySource } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ElfFile } from '../src/elf-file.js';
import { SymbolTable } from '../src/symbol-table.js';
import { CountingSource } from './support/elf-bytes.js';
import { caught } from './support/faults.js';
import { runs } from './support/long.js';
import { sparseSource } from './support/open.js';

const FORMATS = [
  { class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
  { class: 64, byteOrder: 'big', machine: 21 },
  { class: 32, byteOrder: 'little', machine: ELF_MACHINES.i386 },
  { class: 32, byteOrder: 'big', machine: ELF_MACHINES.arm },
] as const;
type Format = (typeof FORMATS)[number];

function kernelBytes(
  symbols: readonly ElfSymbol[],
  quirks: ElfQuirks = {},
  format: Format = FORMATS[0],
): Uint8Array {
  const description: ElfKernelDescription = { ...format, symbols, quirks };
  return elfKernel(description);
}

function table(symbols: readonly ElfSymbol[], quirks?: ElfQuirks, format?: Format): SymbolTable {
  return new SymbolTable(ElfFile.open(new MemorySource(kernelBytes(symbols, quirks, format))));
}

describe('lookup', () => {
  it.each(FORMATS)('finds symbols, class $class, $byteOrder-endian', (format) => {
    const base = format.class === 64 ? 0xffffffff80000000n : 0xc0000000n;
    const symbols = table(
      [
        { name: 'kernbase', value: base, section: 'abs', type: 'notype' },
        { name: 'hz', value: base + 0x10n, size: 4, bind: 'local' },
        { name: 'panic', value: base + 0x100n, size: 64, type: 'func', bind: 'weak' },
      ],
      {},
      format,
    );
    expect(symbols.lookup('hz')).toEqual({
      name: 'hz',
      value: base + 0x10n,
      size: 4,
      type: 'object',
      bind: 'local',
    });
    expect(symbols.lookup('panic')).toMatchObject({
      value: base + 0x100n,
      size: 64,
      type: 'func',
      bind: 'weak',
    });
    expect(symbols.lookup('kernbase')).toMatchObject({ value: base, type: 'notype', bind: 'global' });
    for (const name of ['', 'h', 'hzz', 'z', 'hz\0', '.symtab', '__proto__']) {
      expect(symbols.lookup(name)).toBeUndefined();
    }
    expect(symbols.size).toBe(3);
  });

  it('takes a global symbol before a weak one before a local one, then the first', () => {
    const all: ElfSymbol[] = [
      { name: 'x', value: 1n, bind: 'local' },
      { name: 'x', value: 2n, bind: 'weak' },
      { name: 'x', value: 3n },
      { name: 'x', value: 4n },
    ];
    expect(table(all).lookup('x')?.value).toBe(3n);
    expect(table([...all].reverse()).lookup('x')?.value).toBe(4n);
    expect(table(all.slice(0, 2)).lookup('x')?.value).toBe(2n);
    expect(table([...all.slice(0, 2)].reverse()).lookup('x')?.value).toBe(2n);
    expect(table([all[0], { ...all[0], value: 9n }]).lookup('x')?.value).toBe(1n);
  });

  it('leaves out undefined symbols, sections, source files and names outside of the string table', () => {
    const symbols = table(
      [
        { name: 'gone', value: 1n, section: 'undef' },
        { name: 'kern_shutdown.c', value: 0n, type: 'file', bind: 'local', section: 'abs' },
        { name: '.text', value: 2n, type: 'section', bind: 'local' },
        { name: 'bad', value: 3n },
        { name: 'good', value: 4n },
      ],
      { badNameOf: 'bad' },
    );
    expect([...symbols.entries()].map(({ name }) => name)).toEqual(['good']);
    expect(symbols.size).toBe(1);
    for (const name of ['gone', 'kern_shutdown.c', '.text', 'bad'])
      expect(symbols.lookup(name)).toBeUndefined();
    expect(symbols.symbolAt(3n)).toBeUndefined();
  });

  it('finds local symbols behind sh_info', () => {
    const symbols = table(
      [
        { name: 'a', value: 1n },
        { name: 'dumppcb', value: 2n, bind: 'local' },
      ],
      {
        localsAfterInfo: true,
      },
    );
    expect(symbols.lookup('dumppcb')?.value).toBe(2n);
  });

  it('lives without a NUL at the end of the names', () => {
    const bytes = kernelBytes([{ name: 'abc', value: 1n }]);
    const elf = ElfFile.open(new MemorySource(bytes));
    const strtab = elf.sections.find((section) => elf.sectionName(section) === '.strtab')!;
    bytes[strtab.offset + strtab.length - 1] = 0x64;
    const symbols = new SymbolTable(elf);
    expect(symbols.lookup('abcd')?.value).toBe(1n);
    expect(symbols.lookup('abc')).toBeUndefined();
  });

  it('takes .dynsym where .symtab was stripped, and nothing where there are no sections', () => {
    const bytes = kernelBytes([{ name: 'abc', value: 1n }]);
    const view = new DataView(bytes.buffer);
    const shoff = Number(view.getBigUint64(40, true));
    for (let at = shoff; at < bytes.length; at += 64)
      if (view.getUint32(at + 4, true) === 2) view.setUint32(at + 4, 11, true);
    expect(new SymbolTable(ElfFile.open(new MemorySource(bytes))).lookup('abc')?.value).toBe(1n);
    const none = table([{ name: 'abc', value: 1n }], { stripped: true });
    expect([none.size, none.lookup('abc'), none.symbolAt(1n), [...none.entries()]]).toEqual([
      0,
      undefined,
      undefined,
      [],
    ]);
  });

  it('reads names as UTF-8', () => {
    const bytes = kernelBytes([{ name: 'n\u00c3\u00a4me', value: 1n }]);
    expect(new SymbolTable(ElfFile.open(new MemorySource(bytes))).lookup('n\u00e4me')?.name).toBe(
      'n\u00e4me',
    );
  });
});

describe('symbolAt', () => {
  const at = (symbols: readonly ElfSymbol[], address: bigint): string | undefined => {
    const hit = table(symbols).symbolAt(address);
    return hit && `${hit.symbol.name}+${hit.offset}`;
  };
  const func = (name: string, value: bigint, size: number): ElfSymbol => ({
    name,
    value,
    size,
    type: 'func',
  });
  const label = (name: string, value: bigint): ElfSymbol => ({ name, value, type: 'notype' });

  it('respects sizes, and lets labels reach to the next symbol', () => {
    const symbols = [
      func('f', 0x100n, 0x20),
      label('l', 0x140n),
      func('g', 0x200n, 0x10),
      label('end', 0x300n),
    ];
    expect(at(symbols, 0xffn)).toBeUndefined();
    expect(at(symbols, 0x11fn)).toBe('f+31');
    expect(at(symbols, 0x120n)).toBeUndefined();
    expect(at(symbols, 0x1ffn)).toBe('l+191');
    expect(at(symbols, 0x20fn)).toBe('g+15');
    expect(at(symbols, 0x210n)).toBeUndefined();
    expect(at(symbols, 0xffffffffffffffffn)).toBe(`end+${0xffffffffffffffffn - 0x300n}`);
  });

  it('finds the function around a label, and the innermost of nested symbols', () => {
    const symbols = [func('f', 0x100n, 0x100), label('l', 0x140n), func('inner', 0x150n, 0x10)];
    expect(at(symbols, 0x145n)).toBe('f+69');
    expect(at(symbols, 0x150n)).toBe('inner+0');
    expect(at(symbols, 0x160n)).toBe('f+96');
  });

  it('prefers functions and objects, then global ones, among those at one address', () => {
    const same = { value: 0x100n, size: 16 };
    const symbols: ElfSymbol[] = [
      { ...same, name: 'notype', type: 'notype' },
      { ...same, name: 'local', type: 'func', bind: 'local' },
      { ...same, name: 'weak', type: 'func', bind: 'weak' },
      { ...same, name: 'global', type: 'func' },
      { ...same, name: 'second', type: 'func' },
      { value: 0x100n, name: 'bare', type: 'notype' },
    ];
    expect(at(symbols, 0x104n)).toBe('global+4');
    expect(at(symbols.slice(0, 3), 0x104n)).toBe('weak+4');
    expect(at(symbols.slice(0, 2), 0x104n)).toBe('local+4');
    expect(at(symbols, 0x110n)).toBeUndefined();
  });

  it('ignores the mapping symbols of ARM', () => {
    const mark = (name: string): ElfSymbol => ({ name, value: 0x108n, type: 'notype', bind: 'local' });
    const symbols = [func('f', 0x100n, 0), mark('$a'), mark('$d'), mark('$d.12')];
    expect(at(symbols, 0x10cn)).toBe('f+12');
    expect(at([...symbols, mark('$dollar')], 0x10cn)).toBe('$dollar+4');
  });

  it('answers at the top of the address space, for sizes beyond it too', () => {
    const symbols = [{ name: 'top', value: 0xfffffffffffffff0n, size: 0x7fffffff }];
    expect(at(symbols, 0xffffffffffffffffn)).toBe('top+15');
    expect(at(symbols, 0x5n)).toBeUndefined();
  });

  it('takes sign-extended addresses of 32-bit machines and refuses what is no address', () => {
    const symbols = table([{ name: 'x', value: 0xc0000000n, size: 16 }], {}, FORMATS[2]);
    expect(symbols.symbolAt(0xffffffffc0000004n)).toMatchObject({ symbol: { name: 'x' }, offset: 4n });
    expect(symbols.symbolAt(0xc0000004)).toMatchObject({ offset: 4n });
    caught(() => symbols.symbolAt(0x1_0000_0000n), 'NOT_CANONICAL');
    caught(() => symbols.symbolAt(-1n), 'INVALID_ARGUMENT');
  });
});

describe('against a naive model', () => {
  const symbol = fc.record({
    name: fc.constantFrom('', 'a', 'b', 'ab', 'b2', '$d', '$d.1', 'longer_name', 'name', 'x'),
    value: fc.oneof(
      fc.bigInt(0n, 40n),
      fc.bigInt(0xfffffff0n, 0xffffffffn),
      fc.bigInt(0xfffffff0n, 0x100000010n),
      fc.bigInt(0xffffffff80000000n, 0xffffffff80000020n),
    ),
    size: fc.oneof(fc.constant(0), fc.nat(10), fc.nat(40), fc.constant(0xffffffff)),
    type: fc.constantFrom('notype', 'object', 'func', 'section', 'file'),
    bind: fc.constantFrom('local', 'global', 'weak'),
    section: fc.constantFrom('abs', 'abs', 'abs', 'undef'),
  });
  const BIND = { local: 0, weak: 1, global: 2 } as const;
  type Random = typeof symbol extends fc.Arbitrary<infer T> ? T : never;
  const named = (all: readonly Random[]): Random[] =>
    all.filter(
      ({ name, type, section }) => name && type !== 'section' && type !== 'file' && section !== 'undef',
    );
  const best = (candidates: Random[], ranks: ((symbol: Random) => number | bigint)[]): Random | undefined =>
    candidates.reduce<Random | undefined>((winner, next) => {
      if (winner === undefined) return next;
      for (const rank of ranks)
        if (rank(next) !== rank(winner)) return rank(next) > rank(winner) ? next : winner;
      return winner;
    }, undefined);

  /** All symbols, one by one, with bigints. */
  function nearest(all: readonly Random[], address: bigint): Random | undefined {
    const usable = named(all).filter(
      ({ name, type, bind }) => !(/^\$.(\..*)?$/.test(name) && type === 'notype' && bind === 'local'),
    );
    const ranks = [
      ({ value }: Random) => value,
      ({ type }: Random) => (type === 'notype' ? 0 : 1),
      ({ bind }: Random) => BIND[bind],
    ];
    const covering = usable.filter(({ value, size }) => value <= address && address < value + BigInt(size));
    if (covering.length > 0) return best(covering, ranks);
    const below = best(
      usable.filter(({ value }) => value <= address),
      ranks,
    );
    const sized = usable.some(({ value, size }) => value === below?.value && size > 0);
    return sized ? undefined : below;
  }

  it('looks up and places random symbols alike', () => {
    const cases = fc.record({
      symbols: fc.array(symbol, { maxLength: 40 }),
      format: fc.constantFrom(...FORMATS),
      localsAfterInfo: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({ symbols, format, localsAfterInfo }) => {
        const wide = format.class === 64;
        const fit = symbols.map((one) => ({
          ...one,
          value: wide ? one.value : BigInt.asUintN(32, one.value),
        }));
        const locals = fit.filter(({ bind }) => bind === 'local');
        const others = fit.filter(({ bind }) => bind !== 'local');
        const inFile = localsAfterInfo ? [...others, ...locals] : [...locals, ...others];
        const found = table(fit, { localsAfterInfo }, format);
        expect([...found.entries()].map(({ name, value, size }) => [name, value, size])).toEqual(
          named(inFile).map(({ name, value, size }) => [name, value, size]),
        );
        for (const name of new Set(fit.map((one) => one.name))) {
          const same = named(inFile).filter((one) => one.name === name);
          const expected = best(same, [({ bind }) => BIND[bind]]);
          expect(found.lookup(name)?.value).toBe(expected?.value);
        }
        const addresses = fit.flatMap(({ value, size }) => [
          value,
          value - 1n,
          value + BigInt(size),
          value + 3n,
        ]);
        for (const address of addresses) {
          if (address < 0n || address >> BigInt(format.class) !== 0n) continue;
          const hit = found.symbolAt(address);
          const expected = nearest(inFile, address);
          expect(hit && [hit.symbol.name, hit.symbol.value, hit.offset]).toEqual(
            expected && [expected.name, expected.value, address - expected.value],
          );
        }
      }),
      runs(300),
    );
  });
});

describe('memory and reads', () => {
  const text = { vaddr: 0xffffffff80200000n, bytes: new Uint8Array(24 << 20), flags: 5 };
  const big = elfKernel({
    ...FORMATS[0],
    symbols: [{ name: 'hz', value: 0xffffffff81000010n, size: 4 }],
    loads: [text],
    quirks: { fillerSymbols: 60_000 },
  });

  it('reads nothing until asked, then only the symbol table and its names', () => {
    const source = new CountingSource(big);
    const elf = ElfFile.open(source);
    const symbols = new SymbolTable(elf);
    expect(source.bytesRead).toBeLessThan(8192);
    expect(symbols.lookup('hz')?.value).toBe(0xffffffff81000010n);
    const wanted = elf.sections.filter(({ type }) => type === 2 || type === 3);
    const total = wanted.reduce((sum, { length }) => sum + length, 0);
    expect(total).toBeGreaterThan(2e6);
    expect(source.bytesRead).toBeLessThan(total + 3 * 65536);
    const { bytesRead } = source;
    expect(symbols.lookup('filler_59999')?.name).toBe('filler_59999');
    expect(symbols.symbolAt(0xffffffff80200018n)?.symbol.name).toMatch(/^filler_/);
    expect(symbols.size).toBe(60_001);
    expect(source.bytesRead).toBe(bytesRead);
  });

  it('goes on where it was when the source threw', () => {
    const source = new CountingSource(big);
    const elf = ElfFile.open(source);
    expect(elf.sections.length).toBeGreaterThan(0);
    const symbols = new SymbolTable(elf);
    const { bytesRead } = source;
    const read = source.readSync.bind(source);
    let calls = 0;
    source.readSync = (...args) => {
      if (calls++ % 2 === 0) throw new Error('not fetched yet');
      return read(...args);
    };
    let found: bigint | undefined;
    let attempts = 0;
    while (found === undefined && attempts++ < 100) {
      try {
        found = symbols.lookup('hz')?.value;
      } catch (error) {
        expect(String(error)).toContain('not fetched yet');
      }
    }
    expect(found).toBe(0xffffffff81000010n);
    const wanted = elf.sections.filter(({ type }) => type === 2 || type === 3);
    const total = wanted.reduce((sum, { length }) => sum + length, 0);
    expect(source.bytesRead - bytesRead).toBeLessThanOrEqual(total);
    // Once for each of the two sections, and once more.
    expect(attempts).toBeGreaterThanOrEqual(3);
  });
});

describe('errors', () => {
  const bytes = kernelBytes([{ name: 'abc', value: 1n, size: 1 }]);
  const view = new DataView(bytes.buffer);
  const shoff = Number(view.getBigUint64(40, true));
  const rowOf = (type: number): number => {
    for (let at = shoff; at < bytes.length; at += 64) if (view.getUint32(at + 4, true) === type) return at;
    throw new Error(`no section of type ${type}`);
  };
  const symtab = rowOf(2);
  const strtab = rowOf(3);

  function changed(change: (view: DataView) => void, size = bytes.length): () => unknown {
    const copy = bytes.slice();
    change(new DataView(copy.buffer));
    return () => new SymbolTable(ElfFile.open(sparseSource(size, [[0, copy]]))).lookup('abc');
  }

  it('names what is damaged', () => {
    expect(
      caught(
        changed((v) => v.setBigUint64(symtab + 56, 5n, true)),
        'CORRUPT',
      ).field,
    ).toBe('sh_entsize');
    expect(
      caught(
        changed((v) => v.setUint32(symtab + 40, 99, true)),
        'CORRUPT',
      ).field,
    ).toBe('sh_link');
    expect(
      caught(
        changed((v) => v.setUint32(symtab + 40, 0, true)),
        'CORRUPT',
      ).field,
    ).toBe('sh_link');
    caught(
      changed((v) => v.setBigUint64(symtab + 32, 4800n, true)),
      'TRUNCATED',
    );
    caught(
      changed((v) => v.setBigUint64(strtab + 32, 1n << 27n, true)),
      'TRUNCATED',
    );
  });

  it('takes no memory for billions of symbols in a huge sparse file', () => {
    const huge = 2 ** 50;
    expect(
      caught(
        changed((v) => v.setBigUint64(symtab + 32, 1n << 40n, true), huge),
        'CORRUPT',
      ).field,
    ).toBe('sh_size');
    expect(
      caught(
        changed((v) => v.setBigUint64(strtab + 32, 1n << 40n, true), huge),
        'CORRUPT',
      ).field,
    ).toBe('sh_size');
  });

  it('gives up names that overlap without end, in little time', () => {
    const count = 50_000;
    const plain = kernelBytes([], { fillerSymbols: count });
    const names = new DataView(plain.buffer);
    const at = Number(names.getBigUint64(40, true));
    let table = 0;
    let strings = 0;
    for (let row = at; row < plain.length; row += 64) {
      if (names.getUint32(row + 4, true) === 2) table = Number(names.getBigUint64(row + 24, true));
      if (names.getUint32(row + 4, true) === 3 && strings === 0)
        strings = Number(names.getBigUint64(row + 24, true));
    }
    plain.fill(0x61, strings, strings + 600_000);
    for (let i = 1; i <= count; i++) names.setUint32(table + i * 24, i, true);
    const symbols = new SymbolTable(ElfFile.open(new MemorySource(plain)));
    expect(caught(() => symbols.lookup('aaa'), 'CORRUPT').field).toBe('st_name');
  });
});

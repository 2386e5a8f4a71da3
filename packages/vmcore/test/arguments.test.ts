import { describe, expect, it } from 'vitest';
import { isKvmError } from '@libkvm/minidump-core';
import {
  parseAddress,
  parseCount,
  parseHeaderField,
  parsePhysical,
  parseRead,
  parseSize,
  parseWindow,
} from '../src/arguments.js';

const refused = (parse: () => unknown): boolean => {
  try {
    parse();
    return false;
  } catch (error) {
    return isKvmError(error, 'INVALID_ARGUMENT');
  }
};

describe('arguments', () => {
  it('are addresses', () => {
    expect(parseAddress('0xFFFFffff80200000')).toMatchObject({ offset: 0xffffffff80200000n });
    expect(parseAddress('010')).toMatchObject({ offset: 10n });
    expect(parseAddress('18446744073709551615')).toMatchObject({ offset: 0xffff_ffff_ffff_ffffn });
    expect(parseAddress('panicstr')).toMatchObject({ symbol: 'panicstr', offset: 0n });
    expect(parseAddress('.L1$x@v+0x10')).toMatchObject({ symbol: '.L1$x@v', offset: 16n });
    expect(parseAddress('a+b')).toMatchObject({ symbol: 'a+b' });
    for (const text of [
      '',
      '-1',
      '+1',
      '0x',
      '1.5',
      '1e3',
      '0b1',
      '1_000',
      '18446744073709551616',
      'a b',
      '0x1+1',
    ]) {
      expect([text, refused(() => parseAddress(text))]).toEqual([text, true]);
    }
  });

  it('are sizes', () => {
    expect(['0', '12', '0x10', '4K', '4k', '2M', '1G', '8191T'].map((text) => parseSize(text, 'n'))).toEqual([
      ...[0, 12, 16, 4096, 4096, 2 ** 21, 2 ** 30, 8191 * 2 ** 40],
    ]);
    for (const text of ['', '-1', 'K', '1KB', '1.5K', '9007199254740992', '8192T', '0x']) {
      expect([text, refused(() => parseSize(text, 'n'))]).toEqual([text, true]);
    }
  });

  it('are physical addresses and counts, and say so', () => {
    expect([parsePhysical('0x1000', '--add-page'), parseCount('3', '--dump-version')]).toEqual([4096, 3]);
    expect(() => parsePhysical('0xffffffffffffff', '--add-page')).toThrow(
      '--add-page is a physical address, not "0xffffffffffffff"',
    );
    expect(() => parseCount('new', '--dump-version')).toThrow('--dump-version is a number, not "new"');
  });

  it('are reads, windows and fields', () => {
    expect(parseRead('0x10 \t 4K')).toMatchObject({ address: { offset: 16n }, length: 4096 });
    expect(['0x10', '0x10 1 1', 'x'].every((line) => refused(() => parseRead(line)))).toBe(true);
    expect(parseWindow('0x10-0x20')).toEqual({ from: 16n, to: 32n });
    expect(parseWindow('-0x10000000000000000')).toEqual({ to: 1n << 64n });
    expect(parseWindow('5-')).toEqual({ from: 5n });
    expect(parseHeaderField('kernbase=0x10')).toEqual(['kernbase', 16n]);
    expect(['=1', 'a=', 'a=b', 'a'].every((text) => refused(() => parseHeaderField(text)))).toBe(true);
  });
});

import { describe, expect, it } from 'vitest';
import { overrideHeader, struct, type HeaderOverrides, type StructValues } from '../src/index.js';
import { expectCode } from './expect-code.js';

const header = struct('header', {
  magic: { at: 0, kind: 'char[8]', doc: '' },
  version: { at: 8, kind: 'u32', doc: '' },
  kernbase: { at: 16, kind: 'u64', doc: '' },
  flags: { at: 24, kind: 'u16', doc: '' },
  raw: { at: 26, kind: 'bytes[4]', doc: '' },
});
const values: StructValues<typeof header.fields> = {
  magic: 'minidump',
  version: 3,
  kernbase: 5n,
  flags: 1,
  raw: new Uint8Array(4),
};
const override = (overrides: HeaderOverrides): typeof values =>
  overrideHeader(header, values, overrides, 'a toy minidump');

describe('overrideHeader', () => {
  it('replaces what is given, as the kind of the field has it', () => {
    expect(override({})).toEqual(values);
    expect(override({})).not.toBe(values);
    expect(override({ version: 2, kernbase: 0xffffffff80000000n })).toEqual({
      ...values,
      version: 2,
      kernbase: 0xffffffff80000000n,
    });
    expect(override({ version: 7n, kernbase: 4096, flags: 0xffff })).toEqual({
      ...values,
      version: 7,
      kernbase: 4096n,
      flags: 0xffff,
    });
    expect(override({ version: 0, kernbase: 0n, flags: 0n })).toEqual({
      ...values,
      version: 0,
      kernbase: 0n,
      flags: 0,
    });
    expect(override({ version: 0xffffffff, kernbase: 2n ** 64n - 1n }).kernbase).toBe(2n ** 64n - 1n);
    expect(values).toMatchObject({ version: 3, kernbase: 5n, flags: 1 });
  });

  it('refuses fields that the header does not have as numbers, and names those that it has', () => {
    for (const field of ['nosuch', 'magic', 'raw', 'toString', 'constructor', '__proto__', '']) {
      const error = expectCode('INVALID_ARGUMENT', () => override(Object.fromEntries([[field, 1]])));
      expect(error.field).toBe(field);
      expect(error.message).toContain('a toy minidump');
      expect(error.hint).toBe('it has version, kernbase, flags');
    }
  });

  it('refuses values that do not fit', () => {
    const bad: [string, unknown[]][] = [
      ['version', [-1, 2 ** 32, 2n ** 32n, 0.5, NaN, '3', null, undefined, -1n]],
      ['kernbase', [-1, -1n, 2n ** 64n, 2 ** 53, 0xffffffff80000000, '0x0', true]],
      ['flags', [65536, 1e20]],
    ];
    for (const [field, list] of bad) {
      for (const value of list) {
        const error = expectCode('INVALID_ARGUMENT', () => override({ [field]: value as number }));
        expect(error.field).toBe(field);
        expect(error.hint).toContain('bigint');
      }
    }
  });
});

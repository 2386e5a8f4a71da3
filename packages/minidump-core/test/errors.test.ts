import { describe, expect, it, vi } from 'vitest';
import { isKvmError, KvmError, toHex, type KvmErrorCode } from '../src/errors.js';

const CODES: KvmErrorCode[] = [
  ...(['NOT_A_CORE', 'UNSUPPORTED', 'CORRUPT', 'TRUNCATED', 'NOT_MAPPED', 'NOT_DUMPED'] as const),
  ...(['NOT_CANONICAL', 'NO_SYMBOL', 'MISMATCH', 'INVALID_ARGUMENT', 'IO', 'ABORTED'] as const),
];

describe('KvmError', () => {
  it('is an Error with a name, a message, a stack and a code', () => {
    for (const code of CODES) {
      const error = new KvmError(code, 'what went wrong');
      expect(error).toBeInstanceOf(Error);
      expect(error.code).toBe(code);
      expect(String(error)).toBe('KvmError: what went wrong');
      expect(error.stack).toContain('errors.test.ts');
    }
  });

  it('has only the details that were given', () => {
    const error = new KvmError('IO', 'm', { offset: 0, hint: 'h' });
    expect([error.offset, error.hint]).toEqual([0, 'h']);
    expect([error.address, error.length, error.field, error.cause]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect('cause' in error).toBe(false);
  });

  it('keeps the cause itself, whatever it is', () => {
    const inner = new RangeError('inner');
    expect(new KvmError('IO', 'm', { cause: inner }).cause).toBe(inner);
    expect(new KvmError('IO', 'm', { cause: 'text' }).cause).toBe('text');
    expect(new KvmError('IO', 'm', { cause: null }).cause).toBe(null);
    expect(new KvmError('IO', 'm', { cause: 0, offset: 3 })).toMatchObject({ cause: 0, offset: 3 });
  });

  it('becomes JSON with hex addresses, zeros kept, nothing undefined, no cause and no stack', () => {
    const error = new KvmError('NOT_DUMPED', 'gone', {
      address: 0xffff_ffff_8020_0000n,
      addressSpace: 'virtual',
      physicalAddress: 0,
      offset: 0,
      length: 64,
      bytesDone: 0,
      holeLength: 4096,
      field: 'f',
      hint: 'h',
      cause: new Error('secret'),
    });
    expect(JSON.parse(JSON.stringify({ error }))).toEqual({
      error: {
        code: 'NOT_DUMPED',
        message: 'gone',
        address: '0xffffffff80200000',
        addressSpace: 'virtual',
        physicalAddress: '0x0',
        offset: 0,
        length: 64,
        bytesDone: 0,
        holeLength: 4096,
        field: 'f',
        hint: 'h',
      },
    });
    expect(Object.keys(new KvmError('IO', 'm').toJSON())).toEqual(['code', 'message']);
    expect(new KvmError('IO', 'm', { address: 0n }).toJSON()).toEqual({
      code: 'IO',
      message: 'm',
      address: '0x0',
    });
  });
});

describe('isKvmError', () => {
  it('tests codes: none means any, several mean one of them', () => {
    const error: unknown = new KvmError('NOT_DUMPED', 'm');
    expect(isKvmError(error)).toBe(true);
    expect(isKvmError(error, 'NOT_DUMPED')).toBe(true);
    expect(isKvmError(error, 'NOT_MAPPED', 'NOT_DUMPED')).toBe(true);
    expect(isKvmError(error, 'NOT_MAPPED')).toBe(false);
    expect(isKvmError(error, 'NOT_MAPPED', 'IO')).toBe(false);
  });

  it('knows what is none', () => {
    const lookalike = Object.assign(new Error('m'), { name: 'KvmError', code: 'IO' });
    const others = [undefined, null, 0, 'IO', Symbol('KvmError'), {}, { code: 'IO' }, [], lookalike];
    for (const other of [...others, () => 0, KvmError]) {
      expect(isKvmError(other)).toBe(false);
      expect(isKvmError(other, 'IO')).toBe(false);
    }
  });

  it('knows errors of another copy of the module, which instanceof does not', async () => {
    vi.resetModules();
    const copy = await import('../src/errors.js');
    expect(copy.KvmError).not.toBe(KvmError);
    const theirs: unknown = new copy.KvmError('IO', 'm', { offset: 5 });
    const ours: unknown = new KvmError('CORRUPT', 'm');
    expect(theirs instanceof KvmError).toBe(false);
    expect(isKvmError(theirs)).toBe(true);
    expect(isKvmError(theirs, 'IO')).toBe(true);
    expect(isKvmError(theirs, 'CORRUPT')).toBe(false);
    expect(copy.isKvmError(ours, 'CORRUPT')).toBe(true);
    expect(isKvmError(theirs) && theirs.offset).toBe(5);
  });

  it('knows errors of classes that are made of it', () => {
    class Special extends KvmError {}
    expect(isKvmError(new Special('ABORTED', 'm'), 'ABORTED')).toBe(true);
  });
});

it('toHex prints lower-case hex', () => {
  expect([0, 0xabcdef, 2 ** 52 + 1, 0xffff_ffff_8020_0000n].map(toHex)).toEqual([
    '0x0',
    '0xabcdef',
    '0x10000000000001',
    '0xffffffff80200000',
  ]);
});

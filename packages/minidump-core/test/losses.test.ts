import { describe, expect, it } from 'vitest';
import { Losses, lossText, Mapping } from '../src/index.js';
import { expectCode } from './expect-code.js';

function mappingAt(page: number, offset: number, pa: number, length: number): Mapping {
  return Object.assign(new Mapping(), { page, offset, pa, length });
}

describe('losses', () => {
  it('are added up by kind and reason, in the order in which they were met', () => {
    const losses = new Losses();
    losses.add('user', 'rights', 4096);
    losses.add('note', 'a note');
    losses.add('global', 'rights', 1);
    losses.add('user', 'rights', 8192);
    expect(losses.list).toEqual([
      { kind: 'user', reason: 'rights', bytes: 12288 },
      { kind: 'note', reason: 'a note', bytes: 0 },
      { kind: 'global', reason: 'rights', bytes: 1 },
    ]);
  });

  it('that were listed stay as they were', () => {
    const losses = new Losses();
    losses.add('user', 'rights', 4096);
    const { list } = losses;
    losses.add('user', 'rights', 4096);
    expect(list).toEqual([{ kind: 'user', reason: 'rights', bytes: 4096 }]);
  });

  it('of whole mappings are refused, with KVA, PA, reason and a way out', () => {
    const losses = new Losses();
    const error = expectCode('UNSUPPORTED', () => {
      losses.mapping(mappingAt(0xc0123, 0x400, 0x1_2345_6400, 0x400), 'its PA is above 4 GB');
    });
    expect(error.message).toContain('0xc0123400 to 0x123456400: its PA is above 4 GB');
    expect(error).toMatchObject({
      ...{ address: 0xc0123400n, addressSpace: 'virtual', physicalAddress: 0x1_2345_6400, length: 0x400 },
    });
    expect(error.hint).toMatch(/--kva.*--leave-out.*portable/);
    expect(losses.list).toEqual([]);
  });

  it('of whole mappings are counted where they may be', () => {
    const losses = new Losses(true);
    losses.mapping(mappingAt(1, 0, 0, 4096), 'too far');
    losses.mapping(mappingAt(7, 0, 0, 8192), 'too far');
    losses.mapping(mappingAt(9, 0, 0, 1024), 'too small');
    expect(losses.list).toEqual([
      { kind: 'mapping', reason: 'mappings left out: too far', bytes: 12288 },
      { kind: 'mapping', reason: 'mappings left out: too small', bytes: 1024 },
    ]);
  });

  it('are said in words', () => {
    expect(lossText({ kind: 'note', reason: 'the note panic is left out', bytes: 0 })).toBe(
      'the note panic is left out',
    );
    expect(lossText({ kind: 'user', reason: 'rights of user mode', bytes: 4096 })).toBe(
      'rights of user mode (4096 bytes of KVA)',
    );
  });
});

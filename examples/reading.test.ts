import { sampleMachine } from '@libkvm/fixtures';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { describe, expect, it } from 'vitest';
import { readSymbol } from './read-symbol.mjs';
import { sampleFiles } from './sample.mjs';
import { processes } from './walk-list.mjs';

describe('examples that read a core', () => {
  const { core, kernel } = sampleFiles();
  const { known } = sampleMachine();

  it('reads a variable', () => {
    expect(readSymbol(core, kernel, 'hz')).toEqual({ address: known.symbols.hz, value: known.hz });
  });

  it('walks the list of processes', () => {
    const expected = known.processes.map(({ pid, comm, kva }) => ({ pid, name: comm, address: kva }));
    expect(processes(core, kernel)).toEqual(expected);
  });

  const realCore = unpackedFile('cores/vmcore-amd64-minidump.bz2');
  const realKernel = unpackedFile('cores/kernel-amd64.xz');
  if (sharedFile('cores') === undefined)
    console.warn('cores/ is not there: the examples are not run on a real core');
  it.skipIf(realCore === undefined || realKernel === undefined)('reads a variable of a real core', () => {
    expect(readSymbol(realCore ?? '', realKernel ?? '', 'hz').value).toBe(100);
  });
});

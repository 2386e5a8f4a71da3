import { ELF_MACHINES, ET_DYN, elfKernel } from '@libkvm/fixtures';
import type { ElfKernelDescription } from '@libkvm/fixtures';
import { MemorySource } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { openSharedFile } from '../../fixtures/src/shared-files.js';
import { openKernel } from '../src/kernel-file.js';
import { elfCore } from './support/elf-bytes.js';
import { caught } from './support/faults.js';

const TEXT = 0xffffffff80200000n;
const DATA = 0xffffffff80600000n;
const description: ElfKernelDescription = {
  class: 64,
  byteOrder: 'little',
  machine: ELF_MACHINES.amd64,
  symbols: [{ name: 'version', value: TEXT + 0x10n, size: 16 }],
  loads: [
    { vaddr: TEXT, bytes: Uint8Array.from({ length: 0x200 }, (_, i) => i), memsz: 0x1000, flags: 5 },
    { vaddr: DATA, memsz: 0x2000, flags: 6 },
  ],
  buildId: { id: Uint8Array.of(0xde, 0xad, 0x0b, 0xef), vaddr: TEXT + 0x800n },
};
const bytes = elfKernel(description);
const open = (file: Uint8Array): ReturnType<typeof openKernel> => openKernel(new MemorySource(file));

describe('a kernel file', () => {
  it('has identity, symbols and a build id', () => {
    const kernel = open(bytes);
    expect(kernel.identity).toMatchObject({ bits: 64, byteOrder: 'little', machine: 62, type: 2 });
    expect(kernel.symbols.lookup('version')?.value).toBe(TEXT + 0x10n);
    expect(kernel.buildId).toBe('dead0bef');
  });

  it('gives the bytes that are in the file, up to where they end', () => {
    const kernel = open(bytes);
    expect(kernel.readAt(TEXT + 0x10n, 4)).toEqual(Uint8Array.of(0x10, 0x11, 0x12, 0x13));
    expect(kernel.readAt(TEXT + 0x1fen, 100)).toEqual(Uint8Array.of(0xfe, 0xff));
    for (const address of [TEXT - 1n, TEXT + 0x200n, DATA, DATA + 0x1000n, 0n, 1n << 70n]) {
      expect(kernel.readAt(address, 4)).toBeUndefined();
    }
  });

  it('gives them without section headers too', () => {
    const kernel = open(elfKernel({ ...description, quirks: { stripped: true } }));
    expect(kernel.readAt(TEXT + 0x10n, 2)).toEqual(Uint8Array.of(0x10, 0x11));
    expect(kernel.readAt(DATA, 4)).toBeUndefined();
    expect(kernel.buildId).toBe('dead0bef');
    expect(kernel.symbols.size).toBe(0);
  });

  it('gives none from a file of debug data, whose segments point at what is not there', () => {
    const debug = bytes.slice();
    const view = new DataView(debug.buffer);
    const shoff = Number(view.getBigUint64(40, true));
    view.setUint32(shoff + 64 + 4, 8, true);
    expect(open(debug).readAt(TEXT + 0x10n, 4)).toBeUndefined();
  });

  it('may be position independent', () => {
    expect(open(elfKernel({ ...description, type: ET_DYN })).symbols.lookup('version')).toBeDefined();
  });

  it('opens with damaged notes', () => {
    const damaged = bytes.slice();
    const { offset } = open(bytes).elf.segments[2];
    new DataView(damaged.buffer).setUint32(offset + 4, 0xffffffff, true);
    const kernel = open(damaged);
    expect(kernel.buildId).toBeUndefined();
    expect(kernel.symbols.lookup('version')).toBeDefined();
  });

  it('says when it is cut', () => {
    const kernel = open(elfKernel({ ...description, quirks: { stripped: true } }).subarray(0, 0x1100));
    caught(() => kernel.readAt(TEXT + 0xf0n, 32), 'TRUNCATED');
  });
});

describe('what is no kernel', () => {
  const starting = (...head: number[]): Uint8Array =>
    Uint8Array.from([...head, ...new Array<number>(100).fill(0)]);

  it.each([
    ['gzip', starting(0x1f, 0x8b, 8), 'UNSUPPORTED', 'gunzip'],
    ['zstd', starting(0x28, 0xb5, 0x2f, 0xfd), 'UNSUPPORTED', 'zstd -d'],
    ['a minidump', new TextEncoder().encode('minidump FreeBSD/amd64\0\0'), 'INVALID_ARGUMENT', 'as the core'],
    ['an ELF core', elfCore({ segments: [] }), 'INVALID_ARGUMENT', 'as the core'],
    ['a module', elfKernel({ ...description, type: 1 }), 'INVALID_ARGUMENT', '/boot/kernel/kernel'],
    ['text', new TextEncoder().encode('#!/bin/sh\n'), 'NOT_A_CORE', 'ELF'],
    ['', new Uint8Array(0), 'NOT_A_CORE', ''],
  ] as const)('is named: %s', (what, file, code, hint) => {
    const error = caught(() => open(file), code);
    if (what !== 'text' && what !== 'a module') expect(error.message).toContain(what);
    expect(error.hint ?? '').toContain(hint);
  });
});

describe('a real FreeBSD kernel', () => {
  const source = openSharedFile('cores/kernel-amd64.xz');
  if (source === undefined) console.log('skipped: no kernel in ../shared/cores (or VMCORE_FIXTURES)');

  it.skipIf(!source)('without program headers, with locals behind sh_info, has its symbols', () => {
    const { symbols, identity, elf } = openKernel(source!);
    expect(identity).toMatchObject({ osabi: 9, machine: 62, type: 2 });
    expect(elf.segments).toEqual([]);
    expect(symbols.size).toBe(18);
    expect(symbols.lookup('kernbase')?.value).toBe(0xffffffff80000000n);
    expect(symbols.lookup('dumppcb')).toMatchObject({ value: 0xffffffff81ca6868n, size: 320, bind: 'local' });
    expect(symbols.symbolAt(0xffffffff81d23e20n + 81919n)).toMatchObject({
      symbol: { name: 'stoppcbs' },
      offset: 81919n,
    });
    expect(symbols.symbolAt(0xffffffff81d23e20n + 81920n)).toBeUndefined();
  });

  it.skipIf(!source)('has the bytes of its .rodata, and none of its .bss', () => {
    const kernel = openKernel(source!);
    expect(kernel.readAt(0xffffffff81152d30n, 4096)).toHaveLength(0x800);
    expect(kernel.readAt(kernel.symbols.lookup('hz')!.value, 4)).toBeUndefined();
  });
});

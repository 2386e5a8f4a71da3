import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openKvm } from '@libkvm/kvm-reader';
import { openKvmFile } from '@libkvm/kvm-reader/node';
import { dumpToBytes, isKvmError } from '@libkvm/minidump-core';
import { afterAll, describe, expect, it } from 'vitest';
import { convertCore } from './convert-core.mjs';
import { EXPECTED, fixtureCore } from './fixture-core.mjs';
import { imageToMinidump } from './image-to-minidump.mjs';
import { dumpMachine, ToyMachine } from './live-pmap.mjs';
import { sampleFiles } from './sample.mjs';
import { KERNBASE, sampleImage, sampleImageMachine } from './sample-image.mjs';

const codeOf = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (isKvmError(error)) return error.code;
    throw error;
  }
  return 'no error';
};

describe('a memory image to a minidump', () => {
  const { image, out } = sampleImage();
  afterAll(() => rmSync(dirname(image), { recursive: true }));

  it('holds what the machine has mapped', async () => {
    const report = await imageToMinidump(image, out);
    expect(report).toMatchObject({ pages: 512 + 40, mappings: 41, losses: [] });
    const machine = sampleImageMachine();
    const kvm = openKvmFile(out, { architectures: [] });
    for (const kva of [KERNBASE, KERNBASE + 0x1ff000n, KERNBASE + 0x400000n, KERNBASE + 0x427000n]) {
      expect(kvm.read(kva, 4096)).toEqual(machine.read(kva, 4096));
    }
    expect(kvm.resolve(KERNBASE)).toMatchObject({ protection: 'r-x', pageSize: 0x200000 });
    kvm.close();
  });

  it('takes ten lines', () => {
    const program = readFileSync(new URL('image-to-minidump.mjs', import.meta.url), 'utf8');
    const body = program.slice(program.indexOf('export async function'), program.indexOf('if (import.meta'));
    const imports = program.split('\n').filter((line) => line.startsWith('import'));
    expect(imports.length + body.trim().split('\n').length).toBeLessThanOrEqual(12);
  });
});

describe('a core in another format', () => {
  const { core } = sampleFiles();
  afterAll(() => rmSync(dirname(core), { recursive: true }));

  it.each(['portable', 'freebsd', 'elf'])('%s says the same', async (format) => {
    const out = `${core}.${format}`;
    const { pages } = await convertCore(core, out, format);
    const [before, after] = [openKvmFile(core), openKvmFile(out)];
    expect(pages).toBeGreaterThanOrEqual(before.core.memory.pages.dumped);
    const rows = [...before.pages()].filter((row) => row.kva !== undefined && row.offset !== undefined);
    expect(rows.length).toBeGreaterThan(10);
    for (const { kva, length } of rows) {
      expect(Buffer.compare(after.read(kva!, length), before.read(kva!, length))).toBe(0);
    }
    before.close();
    after.close();
  });
});

describe('a fixture core for the tests of a debugger', () => {
  const kvm = openKvm(fixtureCore(), { architectures: [] });

  it('answers as its literal description says', () => {
    const { version, ticks, absent, hole } = EXPECTED;
    expect(kvm.readCString(version.kva)).toBe(version.text);
    expect(kvm.readU32(ticks.kva)).toBe(ticks.value);
    expect(kvm.resolve(version.kva)).toMatchObject({ physicalAddress: 0x7000, protection: 'r-x' });
    expect(codeOf(() => kvm.readU8(absent))).toBe('NOT_DUMPED');
    expect(codeOf(() => kvm.readU8(hole))).toBe('NOT_MAPPED');
    expect(kvm.core.notes).toMatchObject({ panic: 'fixture' });
  });

  it('is small', () => {
    expect(fixtureCore().length).toBeLessThan(64 * 1024);
  });
});

describe('a dump from a live pmap', () => {
  it('has the mappings and bytes of the machine, and its own entries', () => {
    const machine = new ToyMachine();
    for (let page = 0; page < 20; page++) machine.map(page, 40 - page, page >= 8);
    machine.ram.set(new TextEncoder().encode('hello from a toy'), 40 * 4096);
    const kvm = openKvm(dumpToBytes(dumpMachine(machine)), { architectures: [] });
    expect(kvm.readCString(0xc0000000)).toBe('hello from a toy');
    expect(kvm.resolve(0xc0000123)).toMatchObject({ physicalAddress: 40 * 4096 + 0x123, protection: 'r--' });
    expect(kvm.resolve(0xc0008000)).toMatchObject({ protection: 'rw-', entry: BigInt(32 * 4 + 3), level: 1 });
    expect(codeOf(() => kvm.resolve(0xc0014000))).toBe('NOT_MAPPED');
    expect(kvm.core).toMatchObject({ architecture: 'toy', pteFormat: 'toy16', kernbase: 0xc0000000n });
  });
});

describe('run by hand', () => {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-example-'));
  const { image } = sampleImage();
  afterAll(() => [folder, dirname(image)].forEach((path) => rmSync(path, { recursive: true })));

  it.each(['fixture-core', 'live-pmap', 'image-to-minidump'])('%s prints what it made', async (name) => {
    const path = `./${name}.mjs`;
    const out = join(folder, `${name}.minidump`);
    const files = name === 'image-to-minidump' ? [image, out] : [out];
    const { argv } = process;
    const lines: string[] = [];
    const log = console.log;
    process.argv = [argv[0], path, ...files];
    console.log = (line: string) => lines.push(line);
    try {
      await import(/* @vite-ignore */ `${path}?run`);
    } finally {
      process.argv = argv;
      console.log = log;
    }
    expect(lines.join('\n')).toContain(out);
    expect(openKvm(readFileSync(out), { architectures: [] }).core.format).toBe('portable');
  });
});

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlockCache } from '@libkvm/minidump-core';
import type { PhysicalMemory } from '@libkvm/minidump-core';
import { afterAll, describe, expect, it } from 'vitest';
import type { SharedSource } from '../../fixtures/src/shared-files.js';
import { openSharedFile, sharedFile } from '../../fixtures/src/shared-files.js';
import { ElfFile } from '../src/elf-file.js';
import type { MemoryImage } from '../src/memory-image.js';
import { openElfImage, openRawImage } from '../src/memory-image.js';
import { defaultArchitectures as architectures } from '../src/node.js';

/** QEMU's dump-guest-memory of real and hand-built machines, with what QEMU itself says of them. */

interface Registers {
  readonly regs: Readonly<Record<string, string>>;
  readonly ram: readonly { readonly base: string; readonly size: string }[];
  readonly arch: string;
  readonly image: { readonly uncompressed_size: number };
}
interface ReadRow {
  readonly pa: string;
  readonly bytes: string;
}

const folder = sharedFile('images');
const names = folder === undefined ? [] : readdirSync(folder).filter((name) => isImage(join(folder, name)));
it.skipIf(names.length > 0)(
  'skipped: no memory images in ../shared/images (or VMCORE_FIXTURES)',
  ({ skip }) => skip(),
);

function isImage(path: string): boolean {
  return existsSync(join(path, 'image.elf.xz')) && existsSync(join(path, 'regs.json'));
}

function bytesAt(memory: PhysicalMemory, pa: number, length: number): string {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const offset = memory.locate(pa + done);
    if (offset < 0) return `not located at ${pa + done}`;
    const count = memory.run(pa + done, length - done);
    memory.cache.readSync(offset, bytes, done, count);
    done += count;
  }
  return Buffer.from(bytes).toString('hex');
}

describe.each(names)('%s', (name) => {
  const source = openSharedFile(`images/${name}/image.elf.xz`);
  const expected = JSON.parse(readFileSync(join(folder!, name, 'regs.json'), 'utf8')) as Registers;
  const rows = readFileSync(join(folder!, name, 'reads.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const reads = rows.map((row) => JSON.parse(row) as ReadRow);
  let opened: MemoryImage | undefined;
  const image = (): MemoryImage => (opened ??= open(source!));
  afterAll(() => source?.close());

  function open(file: SharedSource): MemoryImage {
    expect(file.size).toBe(expected.image.uncompressed_size);
    const cache = new BlockCache(file, 1 << 20);
    return openElfImage(cache, ElfFile.open(cache), { architectures });
  }

  it.skipIf(!source)('has the RAM of the machine, and nothing else but BIOS flash', () => {
    const { memory, warnings } = image();
    const ram = expected.ram.map(({ base, size }) => ({
      start: Number(base),
      end: Number(base) + Number(size),
    }));
    const flash = { start: 0xfffc0000, end: 0x100000000 };
    const all = expected.arch === 'arm' ? ram : [...ram, flash];
    expect(merged(memory.ranges.ranges)).toEqual(merged(all));
    expect(memory.pages).toEqual({ dumped: memory.ranges.pages, missing: 0, partial: 0 });
    expect(warnings).toEqual([]);
  });

  it.skipIf(!source)('holds the bytes that QEMU read', () => {
    const { memory } = image();
    const inRam = reads.filter(({ pa }) => memory.ranges.has(Number(pa)));
    expect(inRam.length).toBeGreaterThan(200);
    for (const { pa, bytes } of inRam)
      expect(`${pa} ${bytesAt(memory, Number(pa), 16)}`).toBe(`${pa} ${bytes}`);
    expect(reads.length - inRam.length).toBe(0);
  });

  it.skipIf(!source || expected.arch === 'arm')('has the control registers', () => {
    const { cpus } = image();
    expect(cpus).toHaveLength(1);
    const { registers, general, assumed } = cpus[0];
    const { cr0, cr2, cr3, cr4, efer, pc, sp } = expected.regs;
    const { CR0, CR2, CR3, CR4, EFER } = registers;
    expect({ CR0, CR2, CR3, CR4 }).toEqual({
      ...{ CR0: BigInt(cr0), CR2: BigInt(cr2), CR3: BigInt(cr3), CR4: BigInt(cr4) },
    });
    // SCE (bit 0), the system call instructions, is the one bit that cannot be inferred.
    expect(EFER).toBe(BigInt(efer) & ~1n);
    expect(assumed).toEqual(['EFER']);
    expect(general.rip ?? general.eip).toBe(BigInt(pc));
    expect(general.rsp ?? general.esp).toBe(BigInt(sp));
  });

  it.skipIf(!source || expected.arch !== 'arm')('has the general registers', () => {
    const { cpus } = image();
    const { pc, sp, cpsr } = cpus[0].general;
    expect({ pc, sp, cpsr }).toEqual({
      ...{ pc: BigInt(expected.regs.pc), sp: BigInt(expected.regs.sp), cpsr: BigInt(expected.regs.cpsr) },
    });
    expect(cpus.map(({ registers }) => registers)).toEqual([{}]);
  });

  const vmcoreInfo = sharedFile(`images/${name}/vmcoreinfo.txt`);
  it.skipIf(!source || vmcoreInfo === undefined || expected.arch === 'arm')('has the VMCOREINFO text', () => {
    expect(image().vmcoreInfo?.trim()).toBe(readFileSync(vmcoreInfo!, 'latin1').trim());
  });

  it.skipIf(!source)('reads the same as raw ranges of the same file', () => {
    const { memory, cache } = image();
    const loads = ElfFile.open(cache).segments.filter(({ type }) => type === 1);
    const ranges = loads.map(({ paddr, offset, fileLength }) => ({
      pa: Number(paddr),
      offset,
      length: fileLength,
    }));
    const raw = openRawImage(cache, ranges);
    expect(raw.memory.pages).toEqual(memory.pages);
    for (const { pa, bytes } of reads.slice(0, 50)) expect(bytesAt(raw.memory, Number(pa), 16)).toBe(bytes);
  });

  it.skipIf(!source)('says what is missing when it is cut', () => {
    const size = Math.floor(source!.size / 2) + 100;
    const cut = new BlockCache({ size, readSync: (...args) => source!.readSync(...args) }, 1 << 18);
    const { memory, warnings } = openElfImage(cut, ElfFile.open(cut));
    const whole = image().memory;
    expect(memory.pages.dumped).toBe(whole.pages.dumped);
    expect(memory.pages.missing).toBeGreaterThan(0.4 * whole.pages.dumped);
    expect(warnings).toEqual([expect.stringContaining('cut short')]);
    for (const { pa, bytes } of reads) {
      const { start, there } = locatedIn(memory, whole, Number(pa));
      if (there) expect(bytesAt(memory, Number(pa), 16)).toBe(bytes);
      else expect(memory.locate(start)).toBe(-2);
    }
  });
});

function locatedIn(
  memory: PhysicalMemory,
  whole: PhysicalMemory,
  pa: number,
): { start: number; there: boolean } {
  const there = whole.locate(pa) + 16 <= memory.cache.size;
  return { start: there ? pa : pa + 15, there };
}

function merged(ranges: readonly { start: number; end: number }[]): { start: number; end: number }[] {
  const sorted = [...ranges].sort((a, b) => a.start - b.start);
  const all: { start: number; end: number }[] = [];
  for (const { start, end } of sorted) {
    const last = all.at(-1);
    if (last?.end === start) last.end = end;
    else all.push({ start, end });
  }
  return all;
}

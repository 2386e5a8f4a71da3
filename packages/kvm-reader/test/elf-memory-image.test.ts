import { ELF_MACHINES, SimRam, elfFullDump } from '@libkvm/fixtures';
import { BlockCache, MemorySource } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { ElfFile } from '../src/elf-file.js';
import type { MemoryImage } from '../src/memory-image.js';
import { openElfImage, openRawImage } from '../src/memory-image.js';
import { defaultArchitectures as architectures } from '../src/node.js';
import type { ElfCoreSegment } from './support/elf-bytes.js';
import { elfCore, noteSegment } from './support/elf-bytes.js';
import { caught } from './support/faults.js';
import { sparseSource } from './support/open.js';

function image(bytes: Uint8Array): MemoryImage {
  const cache = new BlockCache(new MemorySource(bytes));
  return openElfImage(cache, ElfFile.open(cache), { architectures });
}
const load = (paddr: bigint, bytes: Uint8Array, more: Partial<ElfCoreSegment> = {}): ElfCoreSegment => ({
  ...{ paddr, bytes, ...more },
});
const page = (fill: number): Uint8Array => new Uint8Array(4096).fill(fill);

describe('ELF cores', () => {
  it('read by physical address', () => {
    const { memory, identity, cpus, sections, warnings } = image(
      elfCore({ segments: [load(0x100000n, page(1)), load(0x0n, page(2)), load(0x102000n, page(3))] }),
    );
    expect(identity?.machine).toBe(62);
    expect([cpus, warnings]).toEqual([[], []]);
    expect(sections.map(({ name, length }) => [name, length])).toEqual([
      ...[0, 1, 2].map((i) => [`memory${i}`, 4096]),
    ]);
    const at = (pa: number): number => memory.cache.bytes[memory.cache.position(memory.locate(pa))];
    expect([at(0), at(0x100000), at(0x100fff), at(0x102000)]).toEqual([2, 1, 1, 3]);
    expect(memory.locate(0x101000)).toBe(-1);
  });

  it('of 32 bits may have memory above 4 GB', () => {
    const size = 0xc4000000;
    const head = elfCore({
      ...{ class: 32, machine: ELF_MACHINES.arm },
      segments: [{ paddr: 0x40000000n, filesz: BigInt(size), memsz: BigInt(size), offset: 0x100 }],
    });
    const source = sparseSource(0x100 + size, [
      [0, head],
      [0x100 + size - 4, Uint8Array.of(1, 2, 3, 4)],
    ]);
    const cache = new BlockCache(source, 1 << 18);
    const { memory, warnings } = openElfImage(cache, ElfFile.open(cache));
    expect(warnings).toEqual([]);
    expect(memory.ranges.ranges).toEqual([{ start: 0x40000000, end: 0x104000000 }]);
    expect(memory.pages).toEqual({ dumped: size / 4096, missing: 0, partial: 0 });
    expect(memory.locate(0x103fffffc)).toBe(0x100 + size - 4);
    expect(memory.cache.load32(memory.locate(0x103fffffc), true)).toBe(0x04030201);
    expect(memory.locate(0x104000000)).toBe(-1);
    expect(memory.locate(0x4000000)).toBe(-1);
    expect(memory.run(0x40000000, 2 ** 40)).toBe(size);
  });

  it('have no bytes behind p_filesz unless they are said to be zeros', () => {
    const bytes = elfCore({ segments: [load(0x1000n, Uint8Array.of(7, 8), { memsz: 0x3000n })] });
    const cache = new BlockCache(new MemorySource(bytes));
    const plain = openElfImage(cache, ElfFile.open(cache)).memory;
    expect([plain.locate(0x1001), plain.locate(0x1002)]).toEqual([bytes.length - 1, -1]);
    expect(plain.ranges.ranges).toEqual([{ start: 0x1000, end: 0x4000 }]);
    const filled = openElfImage(cache, ElfFile.open(cache), { zeroFill: true }).memory;
    const target = new Uint8Array(4).fill(9);
    filled.cache.readSync(filled.locate(0x1000), target, 0, 4);
    expect(target).toEqual(Uint8Array.of(7, 8, 0, 0));
    expect(filled.run(0x1000, 0x10000)).toBe(0x3000);
    expect(filled.fileOffsets).toBe(false);
  });

  it('leave out segments without a physical address', () => {
    const { memory, warnings } = image(
      elfCore({
        segments: [load(0x1000n, page(1)), load(0xffffffffffffffffn, page(2)), load(0x5000n, page(2))],
      }),
    );
    expect(memory.pages.dumped).toBe(2);
    expect(warnings).toEqual([
      expect.stringContaining('without physical addresses, and so left out: 1 segment'),
    ]);
  });

  it.each([32, 64] as const)('of processes are refused (%i bits)', (bits) => {
    const segments = [load(0n, page(1), { vaddr: 0x400000n }), load(0n, page(2), { vaddr: 0x600000n })];
    expect(caught(() => image(elfCore({ class: bits, segments })), 'UNSUPPORTED').message).toContain(
      'process',
    );
    const none = bits === 32 ? 0xffffffffn : 0xffffffffffffffffn;
    caught(() => image(elfCore({ class: bits, segments: [load(none, page(1))] })), 'UNSUPPORTED');
  });

  it('that hold no memory, or are none, are refused', () => {
    caught(() => image(elfCore({ segments: [] })), 'UNSUPPORTED');
    caught(() => image(elfCore({ type: 2, segments: [load(0x1000n, page(1))] })), 'INVALID_ARGUMENT');
    caught(() => image(elfCore({ segments: [load(1n << 60n, page(1))] })), 'CORRUPT');
  });

  it('of FreeBSD (full dumps) hold all of RAM, and say where the kernel was loaded', () => {
    const ram = new SimRam([
      { start: 0x1000, end: 0x9f000 },
      { start: 0x100000, end: 0x180000 },
    ]);
    ram.writeBytes(0x17fff8, Uint8Array.of(1, 2, 3, 4));
    const delta = { vaddr: 0xffffffff80000000n, paddr: 0x4000000, align: 0x200000 };
    const dump = elfFullDump(ram, { class: 64, byteOrder: 'little', machine: 62, delta });
    const { memory, dumpDelta } = image(dump.file.bytes());
    expect(dumpDelta).toEqual({ virtual: delta.vaddr, physical: 0x4000000n, align: 0x200000 });
    expect(memory.pages).toEqual({ dumped: 0x9e + 0x80, missing: 0, partial: 0 });
    for (const { pa, offset, length } of dump.segments) {
      expect([memory.locate(pa), memory.run(pa, 2 ** 30)]).toEqual([offset, length]);
    }
    expect(memory.cache.load32(memory.locate(0x17fff8), true)).toBe(0x04030201);
  });
});

describe('notes', () => {
  const words = (
    width: 4 | 8,
    at: number,
    values: readonly number[],
    length: number,
    little = true,
  ): Uint8Array => {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    values.forEach((value, i) => {
      if (width === 4) view.setUint32(at + i * 4, value, little);
      else view.setBigUint64(at + i * 8, BigInt(value), little);
    });
    return bytes;
  };
  const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
  const withNotes = (
    machine: number,
    notes: Parameters<typeof noteSegment>[0],
    format: object = {},
  ): MemoryImage =>
    image(
      elfCore({
        machine,
        ...format,
        segments: [
          { type: 4, bytes: noteSegment(notes, 4, !('byteOrder' in format)) },
          load(0x1000n, page(1)),
        ],
      }),
    );

  it('give the registers of ARM in its byte order', () => {
    const desc = words(4, 72, count(18), 148, false);
    const { cpus } = withNotes(40, [{ name: 'CORE', type: 1, desc }], { class: 32, byteOrder: 'big' });
    expect(cpus[0].general).toMatchObject({ r0: 1n, r12: 13n, sp: 14n, lr: 15n, pc: 16n, cpsr: 17n });
    expect(cpus[0].registers).toEqual({});
  });

  it('give the registers of AArch64', () => {
    const desc = words(8, 112, count(34), 392);
    const { cpus } = withNotes(183, [{ name: 'CORE', type: 1, desc }]);
    expect(cpus[0].general).toMatchObject({ x0: 1n, x30: 31n, sp: 32n, pc: 33n, pstate: 34n });
  });

  it('match the two notes of each x86 processor by their order', () => {
    const status = (n: number): Uint8Array => words(8, 112, [...count(16), n], 336);
    const state = (n: number, size: 432 | 440): Uint8Array => {
      const bytes = words(8, 392, [0x80000011, 0, 0, n, 0x20, 0x77], 440);
      new DataView(bytes.buffer).setUint32(0, 1, true);
      new DataView(bytes.buffer).setUint32(4, size, true);
      return bytes.slice(0, size);
    };
    const { cpus, vmcoreInfo } = withNotes(62, [
      { name: 'CORE', type: 1, desc: status(100) },
      { name: 'CORE', type: 1, desc: status(200) },
      { name: 'QEMU', type: 0, desc: state(0x1000, 432) },
      { name: 'QEMU', type: 0, desc: state(0x2000, 440) },
      { name: 'VMCOREINFO', type: 0, desc: new TextEncoder().encode('OSRELEASE=6.1\n') },
    ]);
    expect(cpus.map(({ general: { rip }, registers: { CR3, EFER } }) => [rip, CR3, EFER])).toEqual([
      [100n, 0x1000n, 0xd00n],
      [200n, 0x2000n, 0xd00n],
    ]);
    expect(cpus.map(({ general }) => general.kernel_gs_base)).toEqual([undefined, 0x77n]);
    expect(vmcoreInfo).toBe('OSRELEASE=6.1\n');
  });

  it('have the fields of QEMUCPUState in the order of its declaration', () => {
    const segments = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'ldt', 'tr', 'gdt', 'idt'];
    const registers = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'];
    const fields = [
      ...registers,
      ...count(8).map((n) => `r${n + 7}`),
      ...['rip', 'rflags'],
      // selector and limit, flags and padding, base: three words of 8 bytes.
      ...segments.flatMap((name) => [`${name}_selector`, `${name}_flags`, `${name}_base`]),
      ...['CR0', 'CR1', 'CR2', 'CR3', 'CR4', 'kernel_gs_base'],
    ];
    const desc = words(8, 8, count(fields.length), 8 + fields.length * 8);
    new DataView(desc.buffer).setUint32(0, 1, true);
    new DataView(desc.buffer).setUint32(4, desc.length, true);
    const { cpus } = withNotes(3, [{ name: 'QEMU', type: 0, desc }]);
    const { EFER, ...control } = cpus[0].registers;
    expect(desc.length).toBe(440);
    for (const [name, value] of Object.entries({ ...control, ...cpus[0].general })) {
      expect(`${name} ${value}`).toBe(`${name} ${fields.indexOf(name) + 1}`);
    }
    expect([EFER, Object.keys(cpus[0].general).length, Object.keys(control).length]).toEqual([0x800n, 9, 4]);
  });

  it('that are damaged or unknown leave the memory readable', () => {
    const desc = words(8, 0, [2], 432);
    const { cpus, warnings, memory } = withNotes(62, [{ name: 'QEMU', type: 0, desc }]);
    expect(cpus).toEqual([]);
    expect(warnings).toEqual([expect.stringContaining('version 2')]);
    expect(memory.locate(0x1000)).toBeGreaterThan(0);
    expect(withNotes(62, [{ name: 'QEMU', type: 0, desc: desc.slice(0, 431) }]).warnings).toHaveLength(1);
    expect(withNotes(62, [{ name: 'CORE', type: 1, desc: desc.slice(0, 50) }]).cpus[0].general).toEqual({});
    expect(withNotes(8, [{ name: 'QEMU', type: 0, desc }]).warnings).toEqual([]);
  });
});

describe('raw images', () => {
  const cache = new BlockCache(new MemorySource(Uint8Array.from({ length: 10_000 }, (_, i) => i & 255)));

  it('are one piece of RAM, or several', () => {
    const whole = openRawImage(cache, [{ pa: 0x40000000 }]);
    expect(whole.memory.locate(0x40000000 + 9999)).toBe(9999);
    expect(whole.memory.locate(0x40000000 + 10_000)).toBe(-1);
    expect(whole.memory.pages).toEqual({ dumped: 3, missing: 0, partial: 0 });
    expect(whole.identity).toBeUndefined();
    const { memory } = openRawImage(cache, [
      { pa: 0x100000000, offset: 0, length: 4096 },
      { pa: 0x0, offset: 4096 },
    ]);
    expect([memory.locate(0x100000001), memory.locate(1), memory.locate(5903)]).toEqual([1, 4097, 9999]);
  });

  it('may be cut', () => {
    const { memory, warnings } = openRawImage(cache, [{ pa: 0, length: 0x10000 }]);
    expect([memory.locate(9999), memory.locate(10_000), memory.locate(0x10000)]).toEqual([9999, -2, -1]);
    expect(memory.pages).toEqual({ dumped: 16, missing: 13, partial: 1 });
    expect(warnings).toHaveLength(1);
  });

  it('refuse what cannot be', () => {
    caught(() => openRawImage(cache, []), 'INVALID_ARGUMENT');
    for (const bad of [-1, 1.5, 2 ** 53]) {
      caught(() => openRawImage(cache, [{ pa: bad }]), 'INVALID_ARGUMENT');
      caught(() => openRawImage(cache, [{ pa: 0, offset: bad }]), 'INVALID_ARGUMENT');
      caught(() => openRawImage(cache, [{ pa: 0, length: bad }]), 'INVALID_ARGUMENT');
    }
    caught(() => openRawImage(cache, [{ pa: 2 ** 53 - 1 }]), 'INVALID_ARGUMENT');
    caught(() => openRawImage(cache, [{ pa: 0, offset: 10_000 }]), 'INVALID_ARGUMENT');
  });
});

import { ELF_MACHINES, elfKernel } from '@libkvm/fixtures';
import type { ElfKernelDescription, ElfQuirks } from '@libkvm/fixtures';
import { MemorySource } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { ElfFile } from '../src/elf-file.js';
import { elfCore, noteSegment } from './support/elf-bytes.js';
import { caught } from './support/faults.js';
import { sparseSource } from './support/open.js';

const open = (bytes: Uint8Array): ElfFile => ElfFile.open(new MemorySource(bytes));
const formats = [
  { class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
  { class: 64, byteOrder: 'big', machine: 21 },
  { class: 32, byteOrder: 'little', machine: ELF_MACHINES.i386 },
  { class: 32, byteOrder: 'big', machine: ELF_MACHINES.arm },
] as const;

function kernel(format: (typeof formats)[number], quirks: ElfQuirks = {}): ElfKernelDescription {
  return {
    ...format,
    entry: 0xc0200100n,
    symbols: [{ name: 'hz', value: 0xc0300010n, size: 4 }],
    loads: [
      {
        vaddr: 0xc0200000n,
        paddr: 0x200000n,
        bytes: new Uint8Array(0x123).fill(0x90),
        memsz: 0x400,
        flags: 5,
      },
      { vaddr: 0xc0300000n, memsz: 0x2000, flags: 6 },
    ],
    buildId: { id: Uint8Array.of(1, 2, 3), vaddr: 0xc0200200n },
    quirks,
  };
}

describe.each(formats)('class $class, $byteOrder-endian', (format) => {
  it('has identity, segments and sections', () => {
    const elf = open(elfKernel(kernel(format)));
    expect(elf.identity).toEqual({
      ...{ bits: format.class, byteOrder: format.byteOrder, machine: format.machine },
      ...{ type: 2, osabi: 9, entry: 0xc0200100n },
    });
    const { offset: _offset, ...first } = elf.segments[0];
    expect(first).toEqual({
      ...{ type: 1, flags: 5, vaddr: 0xc0200000n, paddr: 0x200000n },
      ...{ fileLength: 0x123, memLength: 0x400, align: 4096 },
    });
    expect(elf.sections.map((section) => elf.sectionName(section))).toEqual([
      ...['', '.text', '.bss', '.note.gnu.build-id', '.symtab', '.strtab', '.shstrtab'],
    ]);
  });

  it('finds headers that are counted in section 0', () => {
    const plain = open(elfKernel(kernel(format)));
    const extended = open(
      elfKernel(kernel(format, { extendedSections: true, extendedProgramHeaders: true })),
    );
    expect(extended.segments).toEqual(plain.segments);
    expect(extended.sections.slice(1)).toEqual(plain.sections.slice(1));
    expect(extended.sectionName(extended.sections[1])).toBe('.text');
  });

  it('lists a note once that a segment and a section hold', () => {
    const notes = [...open(elfKernel(kernel(format))).notes()];
    expect(notes.map(({ name, type, desc }) => [name, type, [...desc]])).toEqual([['GNU', 3, [1, 2, 3]]]);
  });
});

describe('notes', () => {
  const parts = [
    { name: 'CORE', type: 1, desc: Uint8Array.of(1, 2, 3, 4, 5) },
    { name: 'FreeBSD', type: 7, desc: new Uint8Array(0) },
    { name: 'X', type: 0xffffffff, desc: Uint8Array.of(9) },
  ];
  const listed = (bytes: Uint8Array): unknown[] =>
    [...open(bytes).notes()].map(({ name, type, desc }) => ({ name, type, desc: Uint8Array.from(desc) }));
  const core = (bytes: Uint8Array, align: bigint, byteOrder: 'little' | 'big' = 'little'): Uint8Array =>
    elfCore({ byteOrder, segments: [{ type: 4, align, bytes }] });

  it.each([0n, 1n, 4n])('are padded to 4 bytes when the segment is aligned to %s', (align) => {
    expect(listed(core(noteSegment(parts), align))).toEqual(parts);
    expect(listed(core(noteSegment(parts, 4, false), align, 'big'))).toEqual(parts);
  });

  it('are padded to 8 bytes where they are', () => {
    expect(listed(core(noteSegment(parts, 8), 8n))).toEqual(parts);
  });

  it('are padded to 4 bytes where the header wrongly says 8', () => {
    expect(listed(core(noteSegment(parts), 8n))).toEqual(parts);
  });

  it('end at zeros and at a rest that is too short', () => {
    const zeros = new Uint8Array(100);
    zeros.set(noteSegment(parts.slice(0, 1)));
    expect(listed(core(zeros, 4n))).toEqual(parts.slice(0, 1));
    const rest = new Uint8Array(noteSegment(parts).length + 11).fill(1);
    rest.set(noteSegment(parts));
    expect(listed(core(rest, 4n))).toEqual(parts);
  });

  it('that reach past their segment are an error where they stand', () => {
    const bytes = noteSegment(parts);
    new DataView(bytes.buffer).setUint32(noteSegment(parts.slice(0, 1)).length + 4, 0xfffffff0, true);
    const elf = open(core(bytes, 4n));
    const notes = elf.notes();
    expect(notes.next().value?.name).toBe('CORE');
    const error = caught(() => notes.next(), 'CORRUPT');
    expect(error.offset).toBe(elf.segments[0].offset + noteSegment(parts.slice(0, 1)).length);
  });

  it('of a cut file are an error', () => {
    const bytes = core(noteSegment(parts), 4n);
    caught(
      () => [...open(bytes.subarray(0, bytes.length - 20)).notes()].map(({ desc }) => desc),
      'TRUNCATED',
    );
  });
});

describe('oddities', () => {
  const segments = [{ paddr: 0x1000n, bytes: Uint8Array.of(1, 2, 3, 4) }];

  it('opens cores with e_version 0, OSABI 255, e_ehsize 8 and late program headers, as dumpers write them', () => {
    const bytes = elfCore({ segments, gap: 1000 });
    new DataView(bytes.buffer).setUint16(52, 8, true);
    const elf = open(bytes);
    expect(elf.identity.osabi).toBe(255);
    expect(elf.segments).toMatchObject([{ paddr: 0x1000n, fileLength: 4, offset: 64 + 1000 + 56 }]);
    expect(elf.sections).toEqual([]);
  });

  it('reads program headers that are longer than the structure', () => {
    const bytes = new Uint8Array(64 + 3 * 80);
    bytes.set(elfCore({ segments: [...segments, ...segments, ...segments] }).subarray(0, 64));
    const view = new DataView(bytes.buffer);
    view.setUint16(54, 80, true);
    for (let i = 0; i < 3; i++) view.setBigUint64(64 + i * 80 + 24, BigInt(i + 1), true);
    expect(open(bytes).segments.map(({ paddr }) => paddr)).toEqual([1n, 2n, 3n]);
  });

  it('has no program headers where e_phoff is 0', () => {
    const bytes = elfCore({ segments });
    new DataView(bytes.buffer).setBigUint64(32, 0n, true);
    expect(open(bytes).segments).toEqual([]);
  });

  it('keeps segments when the section headers are damaged', () => {
    const bytes = elfCore({ segments });
    new DataView(bytes.buffer).setBigUint64(40, 1n << 60n, true);
    const elf = open(bytes);
    expect(elf.segments).toHaveLength(1);
    caught(() => elf.sections, 'TRUNCATED', 'CORRUPT');
  });
});

describe('errors', () => {
  const whole = elfKernel(kernel(formats[0]));

  it('says that it is no ELF file', () => {
    for (const bytes of [new Uint8Array(0), Uint8Array.of(0x7f, 0x45), new Uint8Array(100)]) {
      caught(() => open(bytes), 'NOT_A_CORE');
    }
  });

  it.each([
    [4, 3, 'EI_CLASS'],
    [5, 0, 'EI_DATA'],
  ])('names the identification byte %i', (offset, value, field) => {
    const bytes = whole.slice();
    bytes[offset] = value;
    expect(caught(() => open(bytes), 'CORRUPT')).toMatchObject({ field, offset });
  });

  it('names a cut header and a cut table', () => {
    caught(() => open(whole.subarray(0, 50)), 'TRUNCATED');
    caught(() => open(whole.subarray(0, 100)), 'TRUNCATED');
    caught(() => open(whole.subarray(0, whole.length - 1)).sections, 'TRUNCATED');
  });

  it('names headers that are too short or too long', () => {
    for (const size of [0, 55, 0xffff]) {
      const bytes = whole.slice();
      new DataView(bytes.buffer).setUint16(54, size, true);
      expect(caught(() => open(bytes), 'CORRUPT').field).toBe('e_phentsize');
    }
  });

  it('takes no memory for billions of headers in a huge sparse file', () => {
    const bytes = elfKernel(kernel(formats[0], { extendedSections: true, extendedProgramHeaders: true }));
    const view = new DataView(bytes.buffer);
    const shoff = Number(view.getBigUint64(40, true));
    view.setUint32(shoff + 44, 0xffffffff, true);
    view.setBigUint64(shoff + 32, 1n << 50n, true);
    const source = sparseSource(2 ** 52, [[0, bytes]]);
    expect(caught(() => ElfFile.open(source), 'CORRUPT').field).toBe('e_phnum');
    view.setUint32(shoff + 44, 0, true);
    expect(caught(() => ElfFile.open(source).sections, 'CORRUPT').field).toBe('e_shnum');
  });
});

import { ELF_MACHINES, elfKernel } from '@libkvm/fixtures';
import { BlockCache, MemorySource, isKvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ElfFile } from '../src/elf-file.js';
import { openKernel } from '../src/kernel-file.js';
import { openElfImage } from '../src/memory-image.js';
import { elfCore, noteSegment } from './support/elf-bytes.js';
import { runs } from './support/long.js';

/** Any bytes open or fail with a KvmError, in little time; what opens answers every question or fails likewise. */

const kernel = elfKernel({
  ...{ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
  symbols: Array.from({ length: 20 }, (_, i) => ({
    ...{ name: `symbol_${i % 17}`, value: 0xffffffff80200000n + BigInt(i * 8), size: i % 9 },
    bind: i % 2 ? 'global' : 'local',
  })),
  loads: [{ vaddr: 0xffffffff80200000n, bytes: new Uint8Array(64).fill(1), memsz: 4096, flags: 5 }],
  buildId: { id: Uint8Array.of(1, 2, 3, 4) },
  dynamic: true,
});
const notes = noteSegment([
  { name: 'CORE', type: 1, desc: new Uint8Array(336).fill(3) },
  {
    name: 'QEMU',
    type: 0,
    desc: Uint8Array.from({ length: 440 }, (_, i) => (i === 0 ? 1 : i === 4 ? 0xb8 : i === 5 ? 1 : 0)),
  },
]);
const core = (bits: 32 | 64): Uint8Array =>
  elfCore({
    class: bits,
    segments: [
      { type: 4, bytes: notes, align: 8n },
      { paddr: 0x1000n, bytes: new Uint8Array(5000).fill(5) },
      { paddr: 0x2000n, bytes: new Uint8Array(300).fill(6), memsz: 0x4000n },
    ],
  });
const files = [kernel, core(64), core(32)];

function tolerated(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!isKvmError(error)) throw error;
    if (error.message.length < 10) throw error;
  }
}

function useKernel(bytes: Uint8Array): void {
  const file = openKernel(new MemorySource(bytes));
  tolerated(() => file.readAt(0xffffffff80200004n, 100));
  tolerated(() => file.symbols.lookup('symbol_3'));
  tolerated(() => file.symbols.symbolAt(0xffffffff80200009n));
  tolerated(() => [...file.symbols.entries()].length);
  tolerated(() => file.elf.sections.map((section) => file.elf.sectionName(section)));
}

function useImage(bytes: Uint8Array, zeroFill: boolean): void {
  const cache = new BlockCache(new MemorySource(bytes));
  const { memory } = openElfImage(cache, ElfFile.open(cache), { zeroFill });
  const target = new Uint8Array(64);
  for (const pa of [0, 0x1000, 0x1fff, 0x2001, 0x2200, 0x5000, 2 ** 40]) {
    const offset = memory.locate(pa);
    if (offset >= 0) {
      const run = memory.run(pa, 64);
      expect(run).toBeGreaterThan(0);
      expect(memory.cache.readSync(offset, target, 0, run)).toBe(run);
    } else expect(memory.hole(pa, 64)).toBeGreaterThan(0);
    const next = memory.nextDumped(pa);
    if (next >= 0) expect(memory.pageIndex(next)).toBeGreaterThanOrEqual(0);
  }
}

function use(bytes: Uint8Array): void {
  tolerated(() => [...ElfFile.open(new MemorySource(bytes)).notes()].map(({ desc }) => desc.length));
  tolerated(() => useKernel(bytes));
  tolerated(() => useImage(bytes, false));
  tolerated(() => useImage(bytes, true));
}

/** Positions in the headers are worth more changes than those in content. */
const mutation = fc.record({
  file: fc.constantFrom(...files),
  changes: fc.array(
    fc.record({
      at: fc.oneof(fc.nat(64), fc.nat(400), fc.nat(1000), fc.nat(8000)),
      fromEnd: fc.boolean(),
      value: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)),
      count: fc.constantFrom(1, 1, 2, 4, 8),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  cut: fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.double({ min: 0, max: 1, noNaN: true })),
});

describe('hostile ELF files', () => {
  it('that are a sound file with changes', () => {
    const property = fc.property(mutation, ({ file, changes, cut }) => {
      const bytes = file.slice();
      for (const { at, fromEnd, value, count } of changes) {
        const start = fromEnd ? bytes.length - 1 - at : at;
        for (let i = 0; i < count; i++)
          if (start + i >= 0 && start + i < bytes.length) bytes[start + i] = value;
      }
      use(bytes.subarray(0, Math.floor(bytes.length * cut)));
    });
    fc.assert(property, runs(1000));
  });

  it('that are random behind the magic', () => {
    const property = fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.constantFrom(1, 2),
      fc.constantFrom(1, 2),
      fc.constantFrom(2, 4),
      (bytes, bits, order, type) => {
        bytes.set([0x7f, 0x45, 0x4c, 0x46, bits, order].slice(0, bytes.length));
        if (bytes.length > 17) bytes.set(order === 1 ? [type, 0] : [0, type], 16);
        use(bytes);
      },
    );
    fc.assert(property, runs(1000));
  });

  it('that are sound are used whole by this test', () => {
    useKernel(kernel);
    useImage(core(64), false);
    useImage(core(32), true);
    expect(() => useKernel(kernel.subarray(0, 3))).toThrow();
  });
});

import type { SimRam } from '@libkvm/fixtures';
import {
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  literalAddressSpace,
  literalMemory,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planElfKva, type ElfKvaOptions } from '../src/elf-write-kva.js';
import { openKvm } from '../src/index.js';
import { defaultArchitectures } from '../src/node.js';
import { caught } from './support/faults.js';
import { runs } from './support/long.js';
import { loads, plainElf, type PlainElf, type PlainSegment } from './support/plain-elf.js';
import { ramImage } from './support/ram-image.js';
import { VARIANTS } from './support/variants.js';

/** ELF cores by KVA, read back by a plain reader: what the literal description of each machine says. */

const architectures = defaultArchitectures;

describe.each(VARIANTS)('an ELF core by KVA of $name', ({ make }) => {
  it.each(['kva', 'shared'] as const)('stored %s holds what is mapped, and nothing else', (storage) => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const machine = make(seed);
        const { source, ranges } = ramImage(machine.ram);
        const kvm = openKvm(source, { architectures, raw: ranges, image: machine.image });
        const plan = planElfKva(dumpSourceOf(kvm.core), { architectures, storage, tolerateDamage: true });
        const bytes = dumpToBytes(plan);
        const elf = plainElf(bytes);
        checkShape(elf, bytes.length);
        for (const kva of machine.probes) {
          const truth = machine.truth(kva);
          const segment = segmentAt(elf, kva);
          const answer = attempt(() => kvm.resolve(kva));
          if (answer === undefined) {
            // Not mapped, or the page is not there; or a table is not.
            expect([kva, segment]).toEqual([kva, undefined]);
            continue;
          }
          if (truth === undefined) throw new Error(`${kva.toString(16)} is mapped`);
          if (segment === undefined) {
            // RAM that ends inside a page: a dump holds whole pages.
            expect([kva, isWhole(machine.ram, truth.pa)]).toEqual([kva, false]);
            continue;
          }
          const byte = bytes[segment.offset + Number(kva - segment.vaddr)];
          expect([kva, byte, rights(segment)]).toEqual([
            kva,
            machine.ram.readBytes(truth.pa, 1)[0],
            truth.protection ?? rights(segment),
          ]);
        }
      }),
      runs(3),
    );
  });
});

const machine: MachineFacts = {
  ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'amd64',
};
const KVA = 0xffffffff80000000n;
const kib4 = (kva: bigint, pa: number, protection = 'rw-'): LiteralMapping => ({
  ...{ kva, pa, length: 0x1000, protection },
});

/** Memory in which each page is full of its own number. */
function sourceOf(mappings: LiteralMapping[], pages: number, extra: Partial<DumpSource> = {}): DumpSource {
  const pieces = Array.from({ length: pages }, (_, i) => ({
    pa: i * 0x1000,
    bytes: new Uint8Array(0x1000).fill(i),
  }));
  return { machine, memory: literalMemory(pieces), addressSpace: literalAddressSpace(mappings), ...extra };
}

function core(source: DumpSource, options: ElfKvaOptions = {}): { elf: PlainElf; bytes: Uint8Array } {
  const bytes = dumpToBytes(planElfKva(source, options));
  return { elf: plainElf(bytes), bytes };
}

describe('segments of an ELF core by KVA', () => {
  it('join what goes on in KVA, wherever it lies, and end where rights change or a page is missing', () => {
    const mappings = [
      ...[kib4(KVA, 0x3000), kib4(KVA + 0x1000n, 0x1000), kib4(KVA + 0x2000n, 0x2000, 'r-x')],
      ...[kib4(KVA + 0x3000n, 0x99000), kib4(KVA + 0x4000n, 0x4000, 'r--')],
    ];
    const { elf, bytes } = core(sourceOf(mappings, 6));
    expect(loads(elf).map(({ vaddr, paddr, filesz, flags }) => [vaddr, paddr, filesz, flags])).toEqual([
      [KVA, 0x3000n, 0x2000n, 6],
      [KVA + 0x2000n, 0x2000n, 0x1000n, 5],
      [KVA + 0x4000n, 0x4000n, 0x1000n, 4],
    ]);
    const [first] = loads(elf);
    expect([bytes[first.offset], bytes[first.offset + 0x1000]]).toEqual([3, 1]);
    expect(elf).toMatchObject({ bits: 64, type: 4, machine: 62, version: 1 });
  });

  it('share a page that is mapped again and again in a row', () => {
    const mappings = Array.from({ length: 1000 }, (_, i) => kib4(KVA + BigInt(i) * 0x1000n, 0x2000));
    const { elf, bytes } = core(sourceOf([...mappings, kib4(KVA + 0x400_0000n, 0x1000)], 3), {
      storage: 'kva',
    });
    expect(loads(elf)).toHaveLength(1001);
    expect(new Set(loads(elf).map(({ offset }) => offset)).size).toBe(2);
    expect(bytes.length).toBeLessThan(0x1000 * 20);
    for (const { offset, vaddr } of loads(elf)) expect(bytes[offset]).toBe(vaddr < KVA + 0x400_0000n ? 2 : 1);
  });

  it('share all pages where by KVA the file would be more than twice as large', () => {
    const window = (base: bigint): LiteralMapping => ({
      kva: base,
      pa: 0,
      length: 0x4000,
      protection: 'rw-',
    });
    const reversed = [3, 2, 1, 0].map((page, i) => kib4(KVA + BigInt(0x100 + i) * 0x1000n, page * 0x1000));
    const twice = [window(KVA), ...reversed];
    const remark = (mappings: LiteralMapping[]): string =>
      planElfKva(sourceOf(mappings, 4)).report.remarks?.[0] ?? '';
    expect(remark(twice)).toMatch(/^pages are stored by KVA/);
    const thrice = [...twice, window(KVA + 0x20_0000n)];
    expect(remark(thrice)).toMatch(/^each page is stored once/);
    const { elf, bytes } = core(sourceOf(thrice, 4));
    expect(loads(elf).map(({ offset }) => bytes[offset])).toEqual([0, 3, 2, 1, 0, 0]);
    expect(bytes.length).toBe(0x1000 + 0x4000);
  });

  it('hold the direct map of what is dumped', () => {
    const directMap = { base: 0xfffff80000000000n, end: 0xfffff80000100000n, phys: 0 };
    const source = sourceOf([kib4(KVA, 0x2000)], 8, { machine: { ...machine, directMap } });
    const { elf, bytes } = core(source, { addPages: [0x3000, 0x5000], storage: 'shared' });
    const rows = loads(elf).map(({ vaddr, paddr, filesz }) => [vaddr, paddr, filesz]);
    expect(rows).toEqual([
      [directMap.base + 0x2000n, 0x2000n, 0x2000n],
      [directMap.base + 0x5000n, 0x5000n, 0x1000n],
      [KVA, 0x2000n, 0x1000n],
    ]);
    expect(loads(elf).map(({ offset }) => bytes[offset])).toEqual([2, 5, 2]);
  });

  it('may be more than a program header count can say', () => {
    const mappings = Array.from({ length: 70_000 }, (_, i) => kib4(KVA + BigInt(i) * 0x2000n, 0x1000));
    const { elf } = core(sourceOf(mappings, 2), { storage: 'shared' });
    expect(loads(elf)).toHaveLength(70_000);
    expect(loads(elf)[69_999]).toMatchObject({ vaddr: KVA + 69_999n * 0x2000n, filesz: 0x1000n });
  });
});

describe('an ELF core by KVA', () => {
  it('is refused for a 32-bit machine when it would have 4 GB', () => {
    const i386: MachineFacts = {
      ...machine,
      architecture: 'i386',
      elfMachine: 3,
      bits: 32,
      pteFormat: 'pae',
    };
    const length = 2 ** 32;
    const memory = literalMemory([], [{ start: 0, end: length }]);
    const space = literalAddressSpace([{ kva: 0, pa: 0, length }], 32);
    const source = { machine: i386, memory, addressSpace: space };
    const error = caught(() => planElfKva(source), 'UNSUPPORTED');
    expect(error.message).toContain('a 32-bit ELF file');
    expect(planElfKva(source, { to: 0x8000_0000 }).size).toBe(0x8000_1000);
  });

  it('says of pages of a 32-bit machine above 4 GB that they have no PA', () => {
    const i386: MachineFacts = {
      ...machine,
      architecture: 'i386',
      elfMachine: 3,
      bits: 32,
      pteFormat: 'pae',
    };
    const memory = literalMemory([], [{ start: 0x1_2345_6000, end: 0x1_2345_8000 }]);
    const space = literalAddressSpace([{ kva: 0xc0000000, pa: 0x1_2345_6000, length: 0x2000 }], 32);
    const source = { machine: i386, memory, addressSpace: space };
    const { elf } = core(source);
    expect(loads(elf)[0]).toMatchObject({ vaddr: 0xc0000000n, paddr: 0xffffffffn, filesz: 0x2000n });
    expect(planElfKva(source).report.losses).toContainEqual(expect.stringContaining('above 4 GB'));
  });

  it('is not taken for an image of physical memory', () => {
    const { bytes } = core(sourceOf([kib4(KVA, 0x3000), kib4(KVA + 0x1000n, 0x1000)], 6));
    expect(caught(() => openKvm(bytes, { architectures }), 'UNSUPPORTED').hint).toContain('gdb');
  });

  it('counts the pages that no KVA reaches', () => {
    const { report } = planElfKva(sourceOf([kib4(KVA, 0x3000)], 6), { pages: 'all' });
    expect(report).toMatchObject({ format: 'elf-kva', pages: 1 });
    expect(report.losses).toContainEqual('5 pages that no KVA reaches');
  });
});

function checkShape(elf: PlainElf, size: number): void {
  let end = 0n;
  for (const { vaddr, filesz, memsz, offset, align } of loads(elf)) {
    if (vaddr < end || filesz !== memsz || offset + Number(filesz) > size) expect.fail('unsound segments');
    if (BigInt(offset) % align !== vaddr % align) expect.fail('p_offset and p_vaddr do not agree');
    end = vaddr + filesz;
  }
}

function isWhole({ ranges }: SimRam, pa: number): boolean {
  const page = pa - (pa % 4096);
  return ranges.some(({ start, end }) => start <= page && page + 4096 <= end);
}

function segmentAt(elf: PlainElf, kva: bigint): PlainSegment | undefined {
  return loads(elf).find(({ vaddr, filesz }) => kva >= vaddr && kva < vaddr + filesz);
}

function rights({ flags }: PlainSegment): string {
  return (flags & 4 ? 'r' : '-') + (flags & 2 ? 'w' : '-') + (flags & 1 ? 'x' : '-');
}

/** An answer; undefined where there is none. */
function attempt<T>(use: () => T): T | undefined {
  try {
    return use();
  } catch (error) {
    if (isKvmError(error)) return undefined;
    throw error;
  }
}

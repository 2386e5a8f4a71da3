import { amd64 } from '@libkvm/arch-amd64';
import { elfFullDump, randomArmMachine, randomMachine, SimRam, type RamRange } from '@libkvm/fixtures';
import {
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  literalAddressSpace,
  literalMemory,
  PageRanges,
  planPortable,
  writeDump,
  type DumpMemory,
  type DumpPlan,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { unpackedFile } from '../../fixtures/src/shared-files.js';
import { planElf, type ElfOptions } from '../src/elf-write-plan.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures as architectures, openKvmFile } from '../src/node.js';
import { caught } from './support/faults.js';
import { loads, plainElf } from './support/plain-elf.js';
import { sparseSource } from './support/open.js';
import { ramImage } from './support/ram-image.js';

const amd64Facts: MachineFacts = {
  ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'amd64',
};
const i386Facts: MachineFacts = {
  ...{ architecture: 'i386', elfMachine: 3, bits: 32, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'nopae',
};
const KVA = 0xffffffff80000000n;
const TB = 2 ** 40;

/** RAM that is all there and takes no memory: each page is full of the low byte of its number. */
function wideMemory(...ranges: { start: number; end: number }[]): DumpMemory {
  const pages = new PageRanges(ranges, 4096);
  return {
    ranges: pages,
    available(pa, limit) {
      const range = ranges.find(({ start, end }) => pa >= start && pa < end);
      return range === undefined ? 0 : Math.min(limit, range.end - pa);
    },
    readSync(pa, target, at, length) {
      for (let done = 0; done < length;) {
        const count = Math.min(length - done, 4096 - ((pa + done) % 4096));
        target.fill(Math.floor((pa + done) / 4096) & 0xff, at + done, at + done + count);
        done += count;
      }
    },
  };
}

function source(
  memory: DumpMemory,
  mappings: LiteralMapping[] = [],
  machine: MachineFacts = amd64Facts,
): DumpSource {
  return { machine, memory, addressSpace: literalAddressSpace(mappings, machine.bits) };
}

const plan = (from: DumpSource, options: ElfOptions = {}): DumpPlan =>
  planElf(from, { architectures, ...options });
const written = (from: DumpSource, options?: ElfOptions): Kvm =>
  openKvm(dumpToBytes(plan(from, options)), { architectures });

/** The headers of a dump that is too large to be made. */
function head(planned: DumpPlan): Uint8Array {
  const bytes = new Uint8Array(planned.sections[0].length);
  let at = 0;
  for (const piece of planned.bytes()) {
    bytes.set(piece.subarray(0, bytes.length - at), at);
    at += piece.length;
    if (at >= bytes.length) break;
  }
  return bytes;
}

describe('a full dump', () => {
  it('starts as the example of the format document does', () => {
    const memory = wideMemory({ start: 0x1000, end: 0xa0000 }, { start: 0x100000, end: 0x40000000 });
    const dumpDelta = { virtual: 0xffffffff80000000n, physical: 0x1c00000n, align: 0x200000 };
    const planned = plan(source(memory), { dumpDelta, version: 0 });
    expect(planned.size).toBe(0x3ffa0000);
    const rows = `
      7f 45 4c 46 02 01 01 ff 00 00 00 00 00 00 00 00   04 00 3e 00 00 00 00 00 00 00 00 00 00 00 00 00
      40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   00 00 00 00 40 00 38 00 03 00 40 00 00 00 00 00
      01 00 00 00 04 00 00 00 00 10 00 00 00 00 00 00   00 10 00 00 00 00 00 00 00 10 00 00 00 00 00 00
      00 f0 09 00 00 00 00 00 00 f0 09 00 00 00 00 00   00 10 00 00 00 00 00 00 01 00 00 00 04 00 00 00
      00 00 0a 00 00 00 00 00 00 00 10 00 00 00 00 00   00 00 10 00 00 00 00 00 00 00 f0 3f 00 00 00 00
      00 00 f0 3f 00 00 00 00 00 10 00 00 00 00 00 00   00 d0 b5 6f 04 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 80 ff ff ff ff 00 00 c0 01 00 00 00 00   00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 20 00 00 00 00 00`;
    const wanted = rows.trim().split(/\s+/);
    expect(Buffer.from(head(planned).subarray(0, wanted.length)).toString('hex')).toBe(wanted.join(''));
  });

  it.each([
    ['amd64', 64, 'little', 62],
    ['i386', 32, 'little', 3],
    ['arm', 32, 'big', 40],
  ] as const)('is byte for byte what a kernel writes, %s', (architecture, bits, byteOrder, machine) => {
    const ram = new SimRam(
      [
        { start: 0x1000, end: 0x9f000 },
        { start: 0x100000, end: 0x180000 },
      ],
      { patternSeed: 4 },
    );
    const kernel = elfFullDump(ram, { class: bits, byteOrder, machine });
    const facts = { ...amd64Facts, architecture, bits, byteOrder, elfMachine: machine, pteFormat: '' };
    const { source: bytes, ranges } = ramImage(ram);
    const core = openKvm(bytes, { architectures, raw: ranges }).core;
    const ours = dumpToBytes(plan(dumpSourceOf(core, facts), { version: 0 }));
    expect(Buffer.compare(ours, kernel.file.bytes())).toBe(0);
  });

  it('leaves out what the source does not hold, and what was dropped by hand', () => {
    const piece = (pa: number): { pa: number; bytes: Uint8Array } => ({
      pa,
      bytes: new Uint8Array(0x1000).fill(pa >>> 12),
    });
    const held = literalMemory([1, 2, 3, 7, 8, 9].map((pfn) => piece(pfn * 0x1000)));
    const memory = { ...held, ranges: new PageRanges([{ start: 0x1000, end: 0xb000 }], 4096) };
    const planned = plan(source(memory), { dropPages: [0x2345, 0x8000, 0x8fff, 0x5000, 0x99999000] });
    expect(planned.report).toMatchObject({
      ...{ pages: 4, size: 0x1000 + 4 * 0x1000, format: 'elf' },
      dropped: { absent: 4, byHand: 2, outsideRam: 0, truncated: 0 },
    });
    const bytes = dumpToBytes(planned);
    expect(loads(plainElf(bytes)).map(({ paddr, vaddr, filesz }) => [paddr, vaddr, filesz])).toEqual([
      ...[1n, 3n, 7n, 9n].map((pfn) => [pfn * 0x1000n, pfn * 0x1000n, 0x1000n]),
    ]);
    for (const { offset, paddr } of loads(plainElf(bytes))) expect(bytes[offset]).toBe(Number(paddr >> 12n));
  });

  it('takes a page that lies in several pieces', () => {
    const held = wideMemory({ start: 0, end: 0x4000 });
    const memory = {
      ...held,
      available: (pa: number, limit: number) => Math.min(limit, 0x700 - (pa % 0x700)),
    };
    const ended = {
      ...memory,
      available: (pa: number, limit: number) =>
        pa < 0x2fff ? memory.available(pa, Math.min(limit, 0x2fff - pa)) : 0,
    };
    expect(plan(source(memory)).report).toMatchObject({ pages: 4, dropped: { absent: 0 } });
    expect(plan(source(ended)).report).toMatchObject({ pages: 2, dropped: { absent: 2 } });
    expect(written(source(memory)).readPhysical(0x3ffe, 2)).toEqual(Uint8Array.of(3, 3));
  });

  it('has more segments than e_phnum can say', () => {
    const held = wideMemory({ start: 0, end: 140_000 * 0x1000 });
    const memory = {
      ...held,
      available: (pa: number, limit: number) =>
        pa % 0x2000 < 0x1000 ? Math.min(limit, 0x1000 - (pa % 0x1000)) : 0,
    };
    for (const facts of [amd64Facts, i386Facts]) {
      const planned = plan(source(memory, [], facts));
      const elf = plainElf(head(planned));
      expect(elf.bits).toBe(facts.bits);
      expect(elf.segments).toHaveLength(70_000);
      const { core } = openKvm(sparseSource(planned.size, [[0, head(planned)]]), { architectures });
      expect(core.memory.pages).toEqual({ dumped: 70_000, missing: 0, partial: 0 });
      expect(core.memory.locate(139_998 * 0x1000 + 0xfff)).toBe(planned.size - 1);
    }
    const more = { ...memory, ranges: wideMemory({ start: 0, end: 2 ** 22 * 0x1000 }).ranges };
    expect(caught(() => plan(source(more)), 'UNSUPPORTED').message).toContain('pieces');
  });

  it.each([
    [[{ start: 0, end: 0x40000000 }], 32],
    [[{ start: 0xfff00000, end: 2 ** 32 }], 32],
    [[{ start: 0xfff00000, end: 2 ** 32 + 0x1000 }], 64],
    [[{ start: 0, end: 2 ** 32 }], 64],
    [
      [
        { start: 0, end: 0x1000 },
        { start: 2 ** 36, end: 2 ** 36 + 0x1000 },
      ],
      64,
    ],
  ] as [RamRange[], number][])('of a 32-bit machine with RAM %j has class %i', (ram, bits) => {
    const planned = plan(source(wideMemory(...ram), [], i386Facts));
    expect(plainElf(head(planned)).bits).toBe(bits);
    expect(planned.report.remarks?.length).toBe(bits === 64 ? 1 : 0);
  });

  it('of a terabyte, or of all that a machine could have, takes no memory to plan', () => {
    const directMap = { base: 0xfffff80000000000n, end: 0xfffff80000000000n + BigInt(TB), phys: 0 };
    const machine = { ...amd64Facts, directMap };
    const before = process.memoryUsage().arrayBuffers;
    const mappings = [{ kva: KVA, pa: 0, length: 0x40000000, pageSize: 0x200000 }];
    const { report, size, sections } = plan(source(wideMemory({ start: 0, end: TB }), mappings, machine));
    expect(report).toMatchObject({ pages: TB / 4096, mappings: 1 });
    // A root, two tables of 512 pages of 1 GB for the direct map, and two down to the pages of 2 MB.
    expect(report.tables).toMatchObject({ bytes: 5 * 4096, leaves: 1024 + 512 });
    expect(size).toBe(4096 + TB + 5 * 4096);
    expect(sections.map(({ name, length }) => [name, length])).toContainEqual(['tables', 5 * 4096]);
    const all = plan(source(wideMemory({ start: 0, end: 2 ** 52 - 2 ** 32 }), mappings));
    expect(all.size).toBe(4096 + 2 ** 52 - 2 ** 32 + 3 * 4096);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 2 ** 20);
  });

  it('can be cancelled', async () => {
    const abort = new AbortController();
    const sink = { write: () => abort.abort() };
    const from = source(wideMemory({ start: 0, end: 0x400_0000 }));
    const error: unknown = await writeDump(plan(from), sink, { signal: abort.signal }).catch(
      (e: unknown) => e,
    );
    expect(isKvmError(error, 'ABORTED')).toBe(true);
  });

  it('of no memory is refused, and so are versions that ELF does not have', () => {
    caught(() => plan(source(literalMemory([]))), 'INVALID_ARGUMENT');
    caught(() => plan(source(wideMemory({ start: 0, end: 4096 })), { version: 2 }), 'UNSUPPORTED');
    caught(() => plan(source(wideMemory({ start: 0, end: 4096 })), { dropPages: [-1] }), 'INVALID_ARGUMENT');
  });
});

describe('page tables that are made for a full dump', () => {
  const ram = { start: 0, end: 0x800000 };

  it('lie where no device is that something maps', () => {
    const mappings = [
      { kva: KVA, pa: 0x1000, length: 0x3000 },
      { kva: KVA + 0x10_0000n, pa: 0x800000, length: 0x100000 },
      { kva: KVA + 0x100_0000n, pa: 2 ** 33, length: 0x1000 },
    ];
    for (const facts of [i386Facts, { ...i386Facts, pteFormat: 'pae' }, amd64Facts]) {
      const own = mappings.slice(0, facts.pteFormat === 'nopae' ? 2 : 3);
      const kvas = own.map(({ kva, ...rest }) => ({
        ...rest,
        kva: BigInt.asUintN(facts.bits, kva),
      }));
      const kvm = written(source(wideMemory(ram), kvas, facts));
      expect(kvm.readU8(kvas[0].kva + 0x2000n)).toBe(3);
      for (const { kva, pa } of kvas.slice(1)) {
        expect(caught(() => kvm.readU8(kva), 'NOT_DUMPED').physicalAddress).toBe(pa);
        expect(kvm.core.memory.locate(pa)).toBe(-1);
      }
    }
  });

  it('lie among RAM that is not there where there is no other room, and are refused where there is none at all', () => {
    const held = wideMemory({ start: 0x1000, end: 0x3000 });
    const everywhere = { ...held, ranges: new PageRanges([{ start: 0, end: 2 ** 33 }], 4096) };
    const mapping = { kva: 0xc0000000n, pa: 0x1000, length: 0x1000 };
    const kvm = written(source({ ...everywhere, hole: (_pa, limit) => limit }, [mapping], i386Facts));
    expect(kvm.readU8(0xc0000000n)).toBe(1);
    const full = wideMemory({ start: 0, end: 2 ** 33 });
    expect(caught(() => plan(source(full, [mapping], i386Facts)), 'UNSUPPORTED').message).toContain(
      'no room',
    );
    // Without them the dump can be written.
    expect(plan(source(full, [mapping], i386Facts), { tables: 'none' }).report.tables.bytes).toBe(0);
  });

  it('have 5 levels where something is mapped that 4 do not reach', () => {
    const far = 0xff11_0000_0000_0000n;
    const mappings = [
      { kva: far, pa: 0x2000, length: 0x1000, protection: 'r-x' },
      { kva: KVA, pa: 0x3000, length: 0x1000 },
    ];
    const kvm = written(source(wideMemory(ram), mappings));
    expect((kvm.core.registers?.CR4 ?? 0n) & 0x1000n).toBe(0x1000n);
    expect([kvm.readU8(far), kvm.readU8(KVA)]).toEqual([2, 3]);
    expect(kvm.resolve(far)).toMatchObject({ physicalAddress: 0x2000, protection: 'r-x', pageSize: 4096 });
    const four = written(source(wideMemory(ram), mappings.slice(1)));
    expect(four.core.registers?.CR4).toBe(0x20n);
  });

  it('may be of another format than those of the source', () => {
    const mappings = [
      { kva: 0xc0400000, pa: 0x400000, length: 0x400000, pageSize: 0x400000, protection: 'rwx' },
    ];
    const from = source(wideMemory(ram), mappings, i386Facts);
    const kvm = written(from, { pteFormat: 'pae' });
    expect(kvm.core.pteFormat).toBe('pae');
    expect(kvm.resolve(0xc0512345)).toMatchObject({ physicalAddress: 0x512345, pageSize: 0x200000 });
    const { losses } = plan(from, { pteFormat: 'pae' }).report;
    expect(losses).toEqual(['pages of 4 MB become 2 MB ones (4194304 bytes of KVA)']);
    expect(caught(() => plan(from, { pteFormat: 'sv39' }), 'UNSUPPORTED').field).toBe('pteFormat');
  });

  it('say what they do not hold', () => {
    const mappings = [{ kva: 0xc0000000, pa: 0x1000, length: 0x2000, protection: 'rw-', memoryType: 9 }];
    const { losses } = plan(source(wideMemory(ram), mappings, i386Facts)).report;
    expect(losses).toEqual([
      'protections read back otherwise of 4 KB pages (8192 bytes of KVA)',
      'memory types of 4 KB pages (8192 bytes of KVA)',
    ]);
  });

  it('refuse what their entries cannot name, or leave it out', () => {
    const mappings = [
      { kva: 0xc0000000, pa: 0x1000, length: 0x1000 },
      { kva: 0xc0400000, pa: 2 ** 32, length: 0x2000 },
    ];
    const from = source(wideMemory(ram), mappings, i386Facts);
    const error = caught(() => plan(from), 'UNSUPPORTED');
    expect([error.address, error.physicalAddress]).toEqual([0xc0400000n, 2 ** 32]);
    const kvm = written(from, { leaveOut: true });
    expect(kvm.readU8(0xc0000fff)).toBe(1);
    caught(() => kvm.resolve(0xc0400000), 'NOT_MAPPED');
    expect(plan(from, { leaveOut: true }).report.lossList).toContainEqual(
      expect.objectContaining({ kind: 'mapping', bytes: 0x2000 }),
    );
    // A 4 MB page of PSE-36 may lie there.
    const big = [{ kva: 0xc0400000, pa: 2 ** 34, length: 0x400000, pageSize: 0x400000 }];
    expect(plan(source(wideMemory(ram), big, i386Facts)).report.tables.leaves).toBe(1);
  });

  it('hold the window of KVAs that was asked for', () => {
    const mappings = [{ kva: KVA, pa: 0, length: 0x800000, pageSize: 0x200000 }];
    const kvm = written(source(wideMemory(ram), mappings), { from: KVA + 0x1000n, to: KVA + 0x400000n });
    caught(() => kvm.resolve(KVA), 'NOT_MAPPED');
    caught(() => kvm.resolve(KVA + 0x400000n), 'NOT_MAPPED');
    // The superpage that the window cuts becomes pages; the other one stays.
    expect(kvm.resolve(KVA + 0x1000n)).toMatchObject({ physicalAddress: 0x1000, pageSize: 0x1000 });
    expect(kvm.resolve(KVA + 0x212345n)).toMatchObject({ physicalAddress: 0x212345, pageSize: 0x200000 });
  });

  it('hold the direct map of what is dumped, in pages as large as can be', () => {
    const directMap = { base: 0xfffff80000000000n, end: 0xfffff80100000000n, phys: 0 };
    const machine = { ...amd64Facts, directMap };
    const memory = wideMemory({ start: 0x1000, end: 0x600000 });
    const kvm = written(source(memory, [{ kva: KVA, pa: 0x1000, length: 0x1000 }], machine));
    const at = (pa: number): unknown => {
      const { physicalAddress, pageSize, protection } = kvm.resolve(directMap.base + BigInt(pa));
      return [physicalAddress, pageSize, protection];
    };
    expect(at(0x1fffff)).toEqual([0x1fffff, 0x1000, 'rw-']);
    expect(at(0x200000)).toEqual([0x200000, 0x200000, 'rw-']);
    caught(() => kvm.resolve(directMap.base), 'NOT_MAPPED');
    caught(() => kvm.resolve(directMap.base + 0x600000n), 'NOT_MAPPED');
  });

  it('keep the exact entries of a source of the same format', () => {
    const { machine } = randomMachine(11);
    const { source: bytes, ranges } = ramImage(machine.ram);
    const image = { architecture: 'amd64', registers: { CR3: BigInt(machine.cr3) } };
    const walked = openKvm(bytes, { architectures: [amd64], raw: ranges, image });
    const exact = planPortable(dumpSourceOf(walked.core), {
      exact: true,
      tolerateDamage: true,
      pages: 'all',
    });
    const kvm = written(dumpSourceOf(openKvm(dumpToBytes(exact), { architectures: [] }).core));
    let kept = 0;
    for (const { kva } of machine.description.mappings) {
      const before = attempt(() => walked.resolve(kva));
      if (before === undefined) continue;
      const after = attempt(() => kvm.resolve(kva));
      if (after?.entry === before.entry) kept++;
    }
    expect(kept).toBeGreaterThan(0);
  });
});

describe('the registers of a full dump', () => {
  it('are those of the source, completed by what was told by hand', () => {
    for (const [format, littleEndian] of [
      ['v4', true],
      ['xscale3', false],
      ['v6-subpages', false],
      ['v6', false],
    ] as const) {
      const { machine } = randomArmMachine(5, { format, littleEndian, dumpable: true });
      const { source: bytes, ranges } = ramImage(machine.ram);
      const { TTBR0 } = machine.registers;
      const image = {
        ...{ architecture: 'arm', registers: { TTBR0 }, pteFormat: format },
        byteOrder: littleEndian ? ('little' as const) : ('big' as const),
      };
      const walked = openKvm(bytes, { architectures, raw: ranges, image });
      const kvm = written(dumpSourceOf(walked.core));
      expect(kvm.core).toMatchObject({ pteFormat: format, byteOrder: image.byteOrder });
      const entries = (of: Kvm): unknown[] =>
        machine.model.mappings.map(({ kva }) => attempt(() => of.resolve(kva))?.entry);
      expect(entries(kvm)).toEqual(entries(walked));
      expect(entries(kvm).some((entry) => entry !== undefined)).toBe(true);
    }
  });

  it('keep the general registers of every processor', () => {
    const notes = { registers: 'cpu0 CR3=0x1000 rip=0x1234\ncpu1 CR3=0x2000 rip=0x5678\n', panic: 'oops' };
    const registers = { CR3: 0x1000n, CR4: 0x20n };
    const from = { ...source(wideMemory({ start: 0, end: 0x4000 })), registers, notes };
    const planned = plan(from);
    expect(planned.report.losses).toEqual([expect.stringContaining('the note panic')]);
    const text = openKvm(dumpToBytes(planned), { architectures }).core.notes?.registers ?? '';
    expect(text).toContain('rip=0x1234');
    expect(text).toContain('rip=0x5678');
    expect(text).toContain('CR4=0x20');
  });

  it('are refused where there are none to keep', () => {
    const from = source(wideMemory({ start: 0, end: 0x4000 }));
    expect(caught(() => plan(from, { tables: 'source' }), 'INVALID_ARGUMENT').field).toBe('tables');
  });
});

const real = unpackedFile('cores/vmcore-amd64-minidump.bz2');
const kernel = unpackedFile('cores/kernel-amd64.xz');

describe("LLVM's FreeBSD/amd64 core", () => {
  it('as a full dump says what it says as a minidump', ({ skip }) => {
    if (real === undefined || kernel === undefined)
      skip('no real core in ../shared/cores (or VMCORE_FIXTURES)');
    const minidump = openKvmFile(real!, { kernel: kernel! });
    try {
      const full = written(dumpSourceOf(minidump.core));
      let mapped = 0;
      for (const { kva, pa, protection, offset } of minidump.pages()) {
        // The file is cut: not every page that it lists is in it.
        if (kva === undefined || offset === undefined || !attempt(() => minidump.read(kva, 4096))) continue;
        mapped++;
        const answer = full.resolve(kva);
        expect([answer.physicalAddress, answer.protection]).toEqual([pa, protection]);
        expect(Buffer.compare(full.read(kva, 4096), minidump.read(kva, 4096))).toBe(0);
      }
      expect(mapped).toBeGreaterThan(50);
      const { dumped, missing, partial } = minidump.core.memory.pages;
      expect(full.core.memory.pages.dumped).toBeGreaterThan(dumped - missing - partial);
    } finally {
      minidump.close();
    }
  });
});

function attempt<T>(use: () => T): T | undefined {
  try {
    return use();
  } catch (error) {
    if (isKvmError(error)) return undefined;
    throw error;
  }
}

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ArmMachine,
  ELF_MACHINES,
  elfKernel,
  I386Machine,
  pagesOf,
  sampleMachine,
  type ElfKernelDescription,
  type SimRam,
} from '@libkvm/fixtures';
import { dumpSourceOf, dumpToBytes, type ImageOptions } from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { unpackedFile } from '../../fixtures/src/shared-files.js';
import { planElfKva } from '../src/elf-write-kva.js';
import { openKvm, planElf } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures, openKvmFile } from '../src/node.js';
import { ramImage } from './support/ram-image.js';

/** ELF cores by KVA in stock gdb, with the kernel file: the debugger sees the bytes and symbols that this library sees. */

const GDB = ['gdb-multiarch', 'gdb'].find((name) => runs(name, '--version'));
const READELF = runs('readelf', '--version') ? 'readelf' : undefined;

interface World {
  readonly name: string;
  readonly ram: SimRam;
  readonly image: ImageOptions;
  readonly kernel: Uint8Array;
  /** Symbols to look at, and how far in. */
  readonly symbols: Readonly<Record<string, bigint>>;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'libkvm-gdb-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const WORLDS = [amd64World, i386World, () => armWorld(true), () => armWorld(false)];

describe.each(WORLDS)('gdb over an ELF core by KVA', (make) => {
  const world = make();

  it(`reads the bytes and symbols of ${world.name}`, ({ skip }) => {
    if (GDB === undefined) skip('gdb-multiarch is not installed');
    const kvm = openWorld(world);
    const { kernel, core } = write(world, kvm);
    const names = Object.keys(world.symbols);
    const commands = names.flatMap((name) => [`x/24xb &${name}`, `info symbol &${name}`]);
    const output = gdb(kernel, core, [...commands, 'x/xb 0x1234']);
    for (const name of names) {
      const kva = world.symbols[name];
      expect([name, bytesAt(output, kva, 24)]).toEqual([name, [...kvm.read(kva, 24)]]);
      expect(output).toMatch(new RegExp(`^${name} in section`, 'm'));
    }
    expect(output).toContain('Cannot access memory at address 0x1234');
  });

  it(`is sound for readelf, ${world.name}`, ({ skip }) => {
    if (READELF === undefined) skip('readelf is not installed');
    const kvm = openWorld(world);
    const { core } = write(world, kvm);
    const full = join(folder, 'full');
    const source = dumpSourceOf(kvm.core);
    writeFileSync(full, dumpToBytes(planElf(source, { architectures: defaultArchitectures })));
    for (const file of [core, full]) {
      const { stdout, stderr } = spawnSync('readelf', ['-lhn', '-W', file], { encoding: 'utf8' });
      expect(stderr).toBe('');
      expect(stdout).toMatch(/Type:\s+CORE/);
      expect(stdout).toMatch(/LOAD\s+0x0/);
      expect(stdout).toMatch(/LIBKVM/);
    }
  });
});

const real = unpackedFile('cores/vmcore-amd64-minidump.bz2');
const realKernel = unpackedFile('cores/kernel-amd64.xz');

it("gdb reads LLVM's FreeBSD/amd64 core as an ELF core by KVA", ({ skip }) => {
  if (GDB === undefined) skip('gdb-multiarch is not installed');
  if (real === undefined || realKernel === undefined)
    skip('no real core in ../shared/cores (or VMCORE_FIXTURES)');
  const kvm = openKvmFile(real!, { kernel: realKernel! });
  try {
    const core = join(folder, 'real');
    const source = dumpSourceOf(kvm.core);
    writeFileSync(
      core,
      dumpToBytes(planElfKva(source, { architectures: defaultArchitectures, pages: 'all' })),
    );
    const direct = kvm.core.directMap!.base + BigInt(kvm.core.memory.nextDumped(0x300_0000));
    const names = ['hz', 'allproc', 'KPML4phys'];
    const addresses = [...names.map((name) => kvm.symbol(name)), direct];
    const output = gdb(realKernel!, core, [...addresses.map((kva) => `x/8xb 0x${kva.toString(16)}`)]);
    for (const kva of addresses) expect([kva, bytesAt(output, kva, 8)]).toEqual([kva, [...kvm.read(kva, 8)]]);
    expect(kvm.readU32(kvm.symbol('hz'))).toBe(100);
  } finally {
    kvm.close();
  }
});

function runs(program: string, option: string): boolean {
  return spawnSync(program, [option], { stdio: 'ignore' }).status === 0;
}

function openWorld({ ram, image, kernel }: World): Kvm {
  const { source, ranges } = ramImage(ram);
  return openKvm(source, { architectures: defaultArchitectures, raw: ranges, image, kernel });
}

function write({ name, kernel }: World, kvm: Kvm): { kernel: string; core: string } {
  const files = { kernel: join(folder, `${name} kernel`), core: join(folder, `${name} core`) };
  writeFileSync(files.kernel, kernel);
  const plan = planElfKva(dumpSourceOf(kvm.core), { architectures: defaultArchitectures });
  writeFileSync(files.core, dumpToBytes(plan));
  return files;
}

function gdb(kernel: string, core: string, commands: readonly string[]): string {
  const run = (args: readonly string[]): string => {
    const { stdout, stderr } = spawnSync(GDB!, ['-batch', '-nx', ...args], { encoding: 'utf8' });
    return `${stdout}\n${stderr}`;
  };
  // Some builds of gdb do not know FreeBSD, and stop at the kernel's EI_OSABI.
  const freebsd = run(['-ex', 'set osabi']).includes('FreeBSD');
  const osabi = freebsd ? [] : ['-iex', 'set osabi GNU/Linux'];
  return run([...osabi, kernel, '-c', core, ...commands.flatMap((command) => ['-ex', command])]);
}

/** Bytes of `x/xb` rows, which name the address: `0xc0100000 <name>:	0x01	0x02 ...`. */
function bytesAt(output: string, kva: bigint, length: number): number[] {
  const bytes: number[] = [];
  for (const [, address, row] of output.matchAll(
    /^(0x[0-9a-f]+)(?: <[^>]*>)?:\s+((?:0x[0-9a-f]{2}\s*)+)$/gm,
  )) {
    const at = Number(BigInt(address) - kva);
    if (at < 0 || at >= length) continue;
    row
      .trim()
      .split(/\s+/)
      .forEach((byte, i) => (bytes[at + i] = Number(byte)));
  }
  return bytes;
}

function amd64World(): World {
  const { machine, kernel, known } = sampleMachine(3);
  const { version, hz, panicbuf, proc0 } = known.symbols;
  return {
    ...{ name: 'amd64', ram: machine.ram, kernel, symbols: { version, hz, panicbuf, proc0 } },
    image: { architecture: 'amd64', registers: { CR3: BigInt(machine.cr3) } },
  };
}

const TEXT = 0xc0100000n;
const DATA = 0xc0400000n;
const SYMBOLS = { btext: TEXT, panic: TEXT + 0x1234n, version: DATA + 0x40n, far: DATA + 0x3ff0n };

/** A kernel whose text is in the file as well, and whose data is in the core alone. */
function smallKernel(machine: number, byteOrder: 'little' | 'big', text: Uint8Array): Uint8Array {
  const description: ElfKernelDescription = {
    ...{ class: 32, byteOrder, machine, entry: TEXT },
    // EABI version 5, as all ARM kernels of today.
    flags: machine === ELF_MACHINES.arm ? 0x0500_0000 : 0,
    loads: [
      { vaddr: TEXT, bytes: text, flags: 5 },
      { vaddr: DATA, memsz: 0x8000, flags: 6 },
    ],
    symbols: Object.entries(SYMBOLS).map(([name, value]) => ({
      ...{ name, value, size: 16, type: value < DATA ? ('func' as const) : ('object' as const) },
    })),
  };
  return elfKernel(description);
}

function i386World(): World {
  const machine = new I386Machine({
    ...{ paging: 'pae', kernbase: 0xc0000000n, kvaEnd: 0xc1000000n, patternSeed: 5 },
    ram: [{ start: 0x100000, end: 0x800000 }],
    tablePool: pagesOf(0x700000, 0x780000),
    mappings: [
      { kva: TEXT, pa: 0x300000, pageSize: 0x1000, pages: 8, writable: false, executable: true },
      { kva: DATA, pa: 0x400000, pageSize: 0x200000, pages: 1, writable: true, executable: false },
      { kva: DATA + 0x200000n, pa: 0x123000, pageSize: 0x1000, pages: 2, writable: true, executable: false },
    ],
  });
  const text = machine.ram.readBytes(0x300000, 0x2000);
  return {
    ...{ name: 'i386', ram: machine.ram, symbols: SYMBOLS },
    image: { architecture: 'i386', registers: machine.registers },
    kernel: smallKernel(ELF_MACHINES.i386, 'little', text),
  };
}

function armWorld(littleEndian: boolean): World {
  const byteOrder = littleEndian ? 'little' : 'big';
  const machine = new ArmMachine({
    ...{ format: 'v6-afe', littleEndian, patternSeed: 6, roots: { ttbr0: 0x40700000 } },
    ram: [{ start: 0x40000000, end: 0x40800000 }],
    tablePool: pagesOf(0x40710000, 0x40780000),
    mappings: [
      { kva: Number(TEXT), pa: 0x40300000, kind: 'section', pages: 1, ap: 5 },
      { kva: Number(DATA), pa: 0x40001000, kind: 'small', pages: 3, ap: 1, xn: true },
      { kva: Number(DATA) + 0x3000, pa: 0x40009000, kind: 'small', pages: 2, ap: 1, xn: true },
    ],
  });
  const text = machine.ram.readBytes(0x40300000, 0x2000);
  return {
    ...{ name: `arm ${byteOrder}-endian`, ram: machine.ram, symbols: SYMBOLS },
    image: { architecture: 'arm', registers: machine.registers, byteOrder },
    kernel: smallKernel(ELF_MACHINES.arm, byteOrder, text),
  };
}

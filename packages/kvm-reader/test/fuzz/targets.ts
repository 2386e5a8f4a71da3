import {
  Amd64Machine,
  arm64Minidump,
  armMinidump,
  elfFullDump,
  ELF_MACHINES,
  elfKernel,
  i386Minidump,
  randomArm64Machine,
  randomArmMachine,
  randomI386Machine,
  sampleMachine,
  type DumpFile,
} from '@libkvm/fixtures';
import { dumpSourceOf, dumpToBytes, planPortable } from '@libkvm/minidump-core';
import { ModelDump } from '../../../minidump-core/test/portable-model.js';
import { openKvm } from '../../src/open.js';
import { defaultArchitectures } from '../../src/node.js';
import { smallDump, smallMachine } from '../support/small-machine.js';
import { checkAmd64, checkElfImage, checkFlat, checkKernel, checkPortable } from './checks.js';
import type { Anatomy, Part } from './mutate.js';

/** A sound file, how to damage it, and what must hold of the result. */
export interface Target {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly anatomy: Anatomy;
  /** Checks a damaged file; gives the code of its refusal, or `opened`. */
  check(bytes: Uint8Array, seed: number): string;
}

type Fields = Anatomy['fields'];

/** Every dialect: minidumps of all kinds, the portable format, full dumps, images, kernels. Made once. */
export function makeTargets(): Target[] {
  return [
    ...([1, 2, 3] as const).map(amd64),
    ...(['nopae', 'pae'] as const).map(i386),
    ...(['v4', 'v6-afe', 'lpae'] as const).flatMap((format) =>
      [true, false].map((little) => arm(format, little)),
    ),
    ...([0x1000, 0x4000] as const).map(arm64),
    ...[true, false].map(portable),
    fullDump(),
    kernel(64),
    kernel(32),
  ];
}

const u32s = (...places: number[]): Fields => places.map((at) => ({ at, width: 4 }));
const u64s = (...places: number[]): Fields => places.map((at) => ({ at, width: 8 }));

/** The parts that every FreeBSD minidump has. */
function anatomyOf(
  file: DumpFile,
  fields: Fields,
  entryBytes: number,
  frames: readonly number[],
  little = true,
): Anatomy {
  const part = (name: string): Part => {
    const { offset, length } = file.section(name);
    return { offset, length };
  };
  const tables = [
    { ...part('table'), entryBytes },
    { ...part('dumpAvail'), entryBytes: 8 },
    // Pages may be page tables; the direct map and full dumps lead to any of them.
    { ...part('pages'), entryBytes: 8 },
  ].filter(({ length }) => length > 0);
  return {
    ...{ little, fields, tables, bitmap: part('bitmap'), frames: frames.map(BigInt) },
    parts: file.sections.map(({ offset, length }) => ({ offset, length })).filter(({ length }) => length > 0),
  };
}

function amd64(version: 1 | 2 | 3): Target {
  const { file, expected } = smallDump(version);
  const fields = [...u32s(24, 28, 32, 36, 64), ...u64s(40, 48, 56)];
  return {
    name: `amd64-v${version}`,
    bytes: file.bytes(),
    anatomy: anatomyOf(file, fields, 8, expected.pages.toArray()),
    check: checkAmd64,
  };
}

function i386(paging: 'nopae' | 'pae'): Target {
  const { machine } = randomI386Machine(5, { paging });
  const { file, expected } = i386Minidump(machine);
  const fields = u32s(24, 28, 32, 36, 40, 44, 48);
  return {
    name: `i386-${paging}`,
    bytes: file.bytes(),
    anatomy: anatomyOf(file, fields, paging === 'pae' ? 8 : 4, expected.pages.toArray()),
    check: (bytes, seed) => checkFlat(bytes, seed, 'i386'),
  };
}

function arm(format: 'v4' | 'v6-afe' | 'lpae', littleEndian: boolean): Target {
  const { machine } = randomArmMachine(7, { format, littleEndian, dumpable: true });
  const { file, expected } = armMinidump(machine, { kernbase: 0xc0000000, kvaEnd: 0xc1000000 });
  const fields = u32s(24, 28, 32, 36, 40, 44, 48, 52);
  return {
    name: `arm-${format}-${littleEndian ? 'le' : 'be'}`,
    bytes: file.bytes(),
    anatomy: anatomyOf(file, fields, format === 'lpae' ? 8 : 4, expected.pages.toArray(), littleEndian),
    check: (bytes, seed) => checkFlat(bytes, seed, 'arm'),
  };
}

function arm64(granule: 0x1000 | 0x4000): Target {
  const { machine } = randomArm64Machine(3, { granule, littleEndian: true, dumpable: true });
  const kernbase = 0xffff_0000_0000_0000n;
  const dmap = { base: 0xffff_a000_0000_0000n, end: 0xffff_fd00_0000_0000n, phys: 0x4000_0000 };
  const { file, pages } = arm64Minidump(machine, { kernbase, kvaEnd: kernbase + 0x200_0000n, dmap });
  const fields = [...u32s(24, 28, 32, 36, 72, 76), ...u64s(40, 48, 56, 64)];
  return {
    name: `arm64-${granule / 1024}k`,
    bytes: file.bytes(),
    anatomy: anatomyOf(file, fields, 8, pages.toArray()),
    check: (bytes, seed) => checkFlat(bytes, seed, 'arm64'),
  };
}

/** The small machine as a portable minidump: with exact entries, or without. */
function portable(exact: boolean): Target {
  const source = openKvm(smallDump(3).file.bytes(), { architectures: defaultArchitectures });
  const bytes = dumpToBytes(planPortable(dumpSourceOf(source.core), { exact }));
  const model = new ModelDump(bytes);
  const parts = model.sections.map(({ offset, bytes: { length } }) => ({ offset, length }));
  const [ranges, segments, leaves] = ['ranges', 'segments', 'leaves'].map(
    (name) => parts[model.sections.findIndex((section) => section.name === name)],
  );
  const rows = Array.from({ length: model.sections.length * 4 }, (_, i) => 144 + 8 * i);
  return {
    name: `portable${exact ? '-exact' : ''}`,
    bytes,
    anatomy: {
      ...{ little: true, parts, frames: [...model.pages.keys()] },
      fields: [...u32s(...words(24, 140, 4)), ...u64s(...words(24, 136, 8), ...rows)],
      tables: [
        { ...ranges, entryBytes: 8 },
        { ...segments, entryBytes: 8 },
        { ...leaves, entryBytes: 8 },
      ],
      bitmap: parts[model.sections.findIndex(({ name }) => name === 'bitmap')],
    },
    check: checkPortable,
  };
}

const words = (from: number, to: number, step: number): number[] =>
  Array.from({ length: (to - from) / step }, (_, i) => from + i * step);

/** The small machine whole, as an ELF core: its tables are walked by a CR3 that the check gives. */
function fullDump(): Target {
  const machine = smallMachine();
  const { file, segments } = elfFullDump(machine.ram, {
    ...{ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
    delta: { vaddr: 0xffffffff80000000n, paddr: 0x1000, align: 4096 },
  });
  const headers = 64;
  const rows = segments.length + 1;
  return {
    name: 'elf-full',
    bytes: file.bytes(),
    anatomy: {
      little: true,
      fields: [
        ...[4, 5, 6, 7].map((at) => ({ at, width: 1 as const })),
        ...[16, 18, 52, 54, 56, 58, 60, 62].map((at) => ({ at, width: 2 as const })),
        ...u64s(24, 32, 40, ...words(headers, headers + 56 * rows, 8)),
        ...u32s(20, 48, ...Array.from({ length: rows }, (_, i) => headers + 56 * i)),
      ],
      tables: segments.map(({ offset, length }) => ({ offset, length, entryBytes: 8 })),
      parts: [{ offset: 0, length: headers }, { offset: headers, length: 56 * rows }, ...segments],
      frames: tablesOf(machine),
    },
    check: (bytes, seed) => checkElfImage(bytes, seed, BigInt(machine.cr3)),
  };
}

function tablesOf(machine: Amd64Machine): bigint[] {
  const { tablePool = [] } = machine.description;
  return [...tablePool].map(BigInt);
}

/** A kernel file with symbols, whose every section header is a field. */
function kernel(bits: 32 | 64): Target {
  const bytes = bits === 64 ? sampleMachine().kernel : kernel32();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const wide = bits === 64;
  const [shoff, shentsize] = [
    wide ? Number(view.getBigUint64(40, true)) : view.getUint32(32, true),
    wide ? 64 : 40,
  ];
  const shnum = view.getUint16(wide ? 60 : 48, true);
  const sections = Array.from({ length: shnum }, (_, i) => {
    const at = shoff + i * shentsize;
    const [offset, length] = wide
      ? [Number(view.getBigUint64(at + 24, true)), Number(view.getBigUint64(at + 32, true))]
      : [view.getUint32(at + 16, true), view.getUint32(at + 20, true)];
    return { type: view.getUint32(at + 4, true), offset, length };
  });
  const real = sections.filter(({ type, length }) => type !== 8 && length > 0);
  const header = { offset: 0, length: wide ? 64 : 52 };
  const table = { offset: shoff, length: shnum * shentsize };
  return {
    name: `kernel-${bits}`,
    bytes,
    anatomy: {
      little: true,
      fields: [
        ...words(4, 16, 1).map((at) => ({ at, width: 1 as const })),
        ...words(16, header.length, 2).map((at) => ({ at, width: 2 as const })),
        ...u32s(...words(16, header.length - 4, 4), ...words(shoff, shoff + table.length, 4)),
        ...u64s(...words(shoff, shoff + table.length, 8)),
      ],
      tables: real.filter(({ type }) => type === 2).map((one) => ({ ...one, entryBytes: wide ? 24 : 16 })),
      parts: [header, table, ...real],
      frames: [0xffffffff80200000n],
    },
    check: checkKernel,
  };
}

function kernel32(): Uint8Array {
  return elfKernel({
    ...{ class: 32, byteOrder: 'little', machine: ELF_MACHINES.i386 },
    symbols: Array.from({ length: 40 }, (_, i) => ({
      ...{ name: `symbol_${i}`, value: 0xc0200000n + BigInt(i * 16), size: i % 20, bind: 'global' as const },
    })),
    loads: [{ vaddr: 0xc0200000n, bytes: new Uint8Array(2000).fill(7), flags: 5 }],
    buildId: { id: Uint8Array.of(1, 2, 3, 4) },
  });
}

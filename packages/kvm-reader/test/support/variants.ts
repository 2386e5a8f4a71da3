import { amd64Minidump, i386Minidump, randomI386Machine, randomMachine, type SimRam } from '@libkvm/fixtures';
import { armMinidump } from '@libkvm/fixtures';
import { randomArmMachine } from '@libkvm/fixtures';
import { arm64Minidump } from '@libkvm/fixtures';
import { randomArm64Machine } from '@libkvm/fixtures';
import type { ImageOptions } from '@libkvm/minidump-core';

/** What is true of an address: by the literal description of the machine, not by its tables. */
export interface Truth {
  readonly pa: number;
  readonly pageSize?: number;
  readonly protection?: string;
}

/** A machine with page tables in its RAM: how it is walked, and what is true of it. */
export interface WalkedMachine {
  readonly ram: SimRam;
  readonly image: ImageOptions;
  readonly probes: readonly bigint[];
  truth(kva: bigint): Truth | undefined;
}

/** A kind of machine, by architecture, page-table format and byte order. */
export interface Variant {
  readonly name: string;
  make(seed: number): WalkedMachine;
}

/** A core file of a machine, and what is true of it. */
export interface DumpedMachine {
  readonly bytes: Uint8Array;
  readonly ram: SimRam;
  readonly probes: readonly bigint[];
  /** `absent`: mapped, and its page is not in the file. `unknown`: a table is missing. */
  truth(kva: bigint): (Truth & { readonly absent: boolean }) | 'unknown' | undefined;
}

export interface DumpVariant {
  readonly name: string;
  make(seed: number): DumpedMachine;
}

const ARM_FORMATS = ['v4', 'xscale', 'xscale3', 'v6-subpages', 'v6', 'v6-afe', 'lpae'] as const;

/** Every architecture, page-table format and byte order that is walked. */
export const VARIANTS: readonly Variant[] = [
  { name: 'amd64', make: amd64Walked },
  { name: 'i386 nopae', make: (seed) => i386Walked(seed, 'nopae') },
  { name: 'i386 pae', make: (seed) => i386Walked(seed, 'pae') },
  ...ARM_FORMATS.flatMap((format) =>
    [true, false].map((little) => ({
      name: `arm ${format} ${little ? 'little' : 'big'}-endian`,
      make: (seed: number) => armWalked(seed, format, little),
    })),
  ),
  ...([0x1000, 0x4000] as const).flatMap((granule) =>
    [true, false].map((little) => ({
      name: `arm64 ${granule / 1024} KB ${little ? 'little' : 'big'}-endian`,
      make: (seed: number) => arm64Walked(seed, granule, little),
    })),
  ),
];

/** Every FreeBSD minidump that is read. */
export const DUMP_VARIANTS: readonly DumpVariant[] = [
  ...([1, 2, 3] as const).map((version) => ({
    name: `amd64 version ${version}`,
    make: (seed: number) => amd64Dumped(seed, version),
  })),
  ...([1, 2] as const).flatMap((version) =>
    (['nopae', 'pae'] as const).map((paging) => ({
      name: `i386 ${paging} version ${version}`,
      make: (seed: number) => i386Dumped(seed, paging, version),
    })),
  ),
  ...([1, 2] as const).flatMap((version) =>
    (['v4', 'v6-afe', 'lpae'] as const).flatMap((format) =>
      [true, false].map((little) => ({
        name: `arm ${format} version ${version} ${little ? 'little' : 'big'}-endian`,
        make: (seed: number) => armDumped(seed, format, version, little),
      })),
    ),
  ),
  ...([0x1000, 0x4000, 0x10000] as const).map((granule) => ({
    name: `arm64 ${granule / 1024} KB version 3`,
    make: (seed: number) => arm64Dumped(seed, granule),
  })),
];

function rwx(writable: boolean, executable: boolean): string {
  return `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`;
}

function amd64Walked(seed: number): WalkedMachine {
  const { machine, probes } = randomMachine(seed);
  return {
    ram: machine.ram,
    image: { architecture: 'amd64', registers: { CR3: BigInt(machine.cr3) } },
    probes,
    truth(kva) {
      const found = machine.translate(kva);
      if (found === undefined) return undefined;
      const { pa, pageSize, writable, executable } = found;
      return { pa, pageSize, protection: rwx(writable, executable) };
    },
  };
}

function i386Walked(seed: number, paging: 'pae' | 'nopae'): WalkedMachine {
  const { machine, probes } = randomI386Machine(seed, { paging, highBigPages: true });
  return {
    ram: machine.ram,
    image: { architecture: 'i386', registers: machine.registers },
    probes: probes.filter((kva) => kva < 2n ** 32n),
    truth(kva) {
      const found = machine.translate(kva);
      if (found === undefined) return undefined;
      const { pa, pageSize, writable, executable } = found;
      return { pa, pageSize, protection: rwx(writable, executable) };
    },
  };
}

function armWalked(seed: number, format: (typeof ARM_FORMATS)[number], littleEndian: boolean): WalkedMachine {
  const { machine, probes } = randomArmMachine(seed, { format, littleEndian });
  const byName = { v4: 'v4', xscale: 'xscale', xscale3: 'xscale3' }[format as string];
  return {
    ram: machine.ram,
    image: {
      architecture: 'arm',
      registers: machine.registers,
      byteOrder: littleEndian ? 'little' : 'big',
      ...(byName !== undefined && { pteFormat: byName }),
    },
    probes: probes.map(BigInt),
    truth(kva) {
      const found = machine.model.translate(Number(kva));
      if (found === undefined) return undefined;
      const { pa, pageBytes, writable, executable } = found;
      return { pa, pageSize: pageBytes, protection: rwx(writable, executable) };
    },
  };
}

function arm64Walked(seed: number, granule: 0x1000 | 0x4000, littleEndian: boolean): WalkedMachine {
  const { machine, probes } = randomArm64Machine(seed, { granule, littleEndian });
  return {
    ram: machine.ram,
    image: {
      architecture: 'arm64',
      registers: machine.registers,
      byteOrder: littleEndian ? 'little' : 'big',
    },
    probes,
    truth(kva) {
      const found = machine.model.translate(kva);
      if (found === undefined) return undefined;
      const { pa, pageBytes, writable, executable } = found;
      return { pa, pageSize: pageBytes, protection: rwx(writable, executable) };
    },
  };
}

/** What the generators' own answers have in common. */
type Answer =
  | { state: 'present' | 'absent'; pa: number; writable?: boolean; executable?: boolean; pageSize?: number }
  | { state: 'unmapped' | 'outside' | 'tableAbsent' };

function truthOf(answer: Answer): ReturnType<DumpedMachine['truth']> {
  if (answer.state === 'tableAbsent') return 'unknown';
  if (answer.state !== 'present' && answer.state !== 'absent') return undefined;
  const { pa, writable, executable, pageSize, state } = answer;
  const protection = writable === undefined ? undefined : rwx(writable, executable === true);
  return {
    pa,
    absent: state === 'absent',
    ...(protection !== undefined && { protection }),
    ...(pageSize !== undefined && { pageSize }),
  };
}

function amd64Dumped(seed: number, version: 1 | 2 | 3): DumpedMachine {
  const { machine, probes } = randomMachine(seed);
  const { file, expected } = amd64Minidump(machine, { version });
  // The generator's answers are libkvm's, by the leaf alone; where upper tables take rights away the hardware's differ.
  const plain = (machine.description.tables ?? []).every(
    ({ writable, executable }) => writable !== false && executable !== false,
  );
  const truth = (kva: bigint): ReturnType<DumpedMachine['truth']> => {
    const answer = truthOf(expected.resolve(kva));
    if (plain || answer === undefined || answer === 'unknown') return answer;
    const { protection: _, ...rest } = answer;
    return rest;
  };
  return { bytes: file.bytes(), ram: machine.ram, probes, truth };
}

function i386Dumped(seed: number, paging: 'pae' | 'nopae', version: 1 | 2): DumpedMachine {
  const { machine, probes } = randomI386Machine(seed, { paging });
  const { file, expected } = i386Minidump(machine, { version });
  const inside = probes.filter((kva) => kva < 2n ** 32n);
  return {
    bytes: file.bytes(),
    ram: machine.ram,
    probes: inside,
    truth: (kva) => truthOf(expected.resolve(kva)),
  };
}

const ARM_KERNBASE = 0xc0000000;

function armDumped(
  seed: number,
  format: 'v4' | 'v6-afe' | 'lpae',
  version: 1 | 2,
  littleEndian: boolean,
): DumpedMachine {
  const { machine, probes } = randomArmMachine(seed, { format, littleEndian, dumpable: true });
  const { file, expected } = armMinidump(machine, {
    kernbase: ARM_KERNBASE,
    kvaEnd: ARM_KERNBASE + 0x2000000,
    version,
  });
  return {
    bytes: file.bytes(),
    ram: machine.ram,
    probes: probes.map(BigInt),
    truth: (kva) => truthOf(expected.resolve(Number(kva))),
  };
}

const ARM64_KERNBASE = 0xffff_0000_0000_0000n;
const ARM64_DMAP = { base: 0xffff_a000_0000_0000n, end: 0xffff_fd00_0000_0000n, phys: 0x4000_0000 };

/** Blocks are expanded with fixed attributes: only where an address leads is compared. */
function arm64Dumped(seed: number, granule: 0x1000 | 0x4000 | 0x10000): DumpedMachine {
  const { machine, probes } = randomArm64Machine(seed, { granule, littleEndian: true, dumpable: true });
  const kvaEnd = ARM64_KERNBASE + 0x1000_0000n;
  const dump = arm64Minidump(machine, { version: 3, kernbase: ARM64_KERNBASE, kvaEnd, dmap: ARM64_DMAP });
  return {
    bytes: dump.file.bytes(),
    ram: machine.ram,
    probes: probes.filter((kva) => kva >= ARM64_KERNBASE && kva < kvaEnd),
    truth(kva) {
      const found = machine.model.translate(kva);
      return found && { pa: found.pa, absent: dump.fileOffset(found.pa) === undefined };
    },
  };
}

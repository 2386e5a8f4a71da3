import { amd64 } from '@libkvm/arch-amd64';
import { Amd64Machine, pagesOf, roundDown, roundUp, type Amd64MachineDescription } from '@libkvm/fixtures';
import {
  dumpSourceOf,
  MemorySource,
  type DumpSource,
  type MachineFacts,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { openKvm } from '../../src/index.js';
import { RamSource } from './ram-source.js';

const GB = 0x4000_0000n;

/**
 * The machine as FreeBSD would have it where dumps of it are compared byte by byte: ranges of RAM in whole pages and not
 * one at the other's end (a planner writes them so, whatever firmware left the kernel with), tables that are RAM, are dumped and take no rights away, and a KVA that ends with the last mapping, rounded up to `unit`.
 */
export function freebsdLike({ description }: Amd64Machine, unit: bigint): Amd64Machine {
  const { ram, kernbase, dmap, kvaEnd, noDumpPages = [] } = description;
  const forTables = new Set(description.tablePool);
  const inside = description.mappings.filter(({ kva }) => kva >= kernbase && kva < kvaEnd);
  const ends = inside
    .filter(({ kva }) => kva < dmap.base || kva >= dmap.end)
    .map(({ kva, pages, pageSize }) => kva + BigInt(pages) * BigInt(pageSize));
  const last = ends.reduce((a, b) => (a > b ? a : b), kernbase);
  const wholePages: { start: number; end: number }[] = [];
  for (const range of ram) {
    const [start, end] = [roundDown(range.start), roundUp(range.end)];
    const before = wholePages.at(-1);
    if (before && before.end >= start) wholePages[wholePages.length - 1] = { start: before.start, end };
    else wholePages.push({ start, end });
  }
  const like: Amd64MachineDescription = {
    ...description,
    ram: wholePages,
    tables: [],
    kvaEnd: kernbase + ((last - kernbase + unit - 1n) / unit) * unit,
    noDumpPages: noDumpPages.filter((pa) => !forTables.has(pa)),
  };
  return new Amd64Machine(like);
}

/** Units of KVA in which table sections end: 2 MB in version 1, 1 GB in later ones. */
export const unitOf = (version: number): bigint => (version === 1 ? 0x20_0000n : GB);

/** The machine walked through its page tables, with the facts that its kernel knows. */
export function walkedSource(machine: Amd64Machine): DumpSource {
  const { ram, cr3, messageRing: ring, description } = machine;
  const size = Math.max(...ram.ranges.map(({ end }) => roundUp(end)));
  const image = { architecture: 'amd64', registers: { CR3: BigInt(cr3) } };
  const raw = ram.ranges.map(({ start, end }) => ({ pa: start, offset: start, length: end - start }));
  const kvm = openKvm(new RamSource(ram, size), { architectures: [amd64], image, raw });
  const facts: Partial<MachineFacts> = {
    kernbase: description.kernbase,
    directMap: { ...description.dmap, phys: 0 },
  };
  return {
    ...dumpSourceOf(kvm.core, facts),
    ...(ring && {
      messageBuffer: { ring: new MemorySource(ram.readBytes(ring.pa, ring.size)), start: 0 },
    }),
  };
}

/** The window, the pages added and dropped, by which the kernel's dumper and the planner look at the same things. */
export function kernelOptions(machine: Amd64Machine): MinidumpOptions {
  const { kernbase, kvaEnd, dmap } = machine.description;
  const limit = Number(dmap.end - dmap.base);
  const pages = (ranges: readonly { start: number; end: number }[]): number[] =>
    ranges.flatMap(({ start, end }) => pagesOf(roundDown(start), end));
  const beyond = limit < 2 ** 41 ? pages(machine.ram.ranges).filter((pa) => pa >= limit) : [];
  return {
    ...{ from: kernbase, to: kvaEnd, kernbase },
    addPages: pages(machine.extraRanges),
    dropPages: [...machine.noDump, ...beyond],
  };
}

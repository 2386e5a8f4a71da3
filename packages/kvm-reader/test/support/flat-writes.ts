import { roundDown, roundUp, type RamRange, type SimRam } from '@libkvm/fixtures';
import {
  dumpSourceOf,
  isKvmError,
  MemorySource,
  Translation,
  type Architecture,
  type DumpPlan,
  type DumpSource,
  type ImageOptions,
  type LossKind,
  type MachineFacts,
} from '@libkvm/minidump-core';
import { same } from '../../../minidump-core/test/same.js';
import { openKvm } from '../../src/index.js';
import type { Kvm } from '../../src/kvm.js';
import { RamSource } from './ram-source.js';

/** What tests of FreeBSD minidumps of 32-bit machines have in common: a machine's RAM as a source, and questions. */

/** A machine of the fixtures, as far as it is the source of a dump. */
export interface WrittenMachine {
  readonly ram: SimRam;
  readonly ring?: { readonly pa: number; readonly size: number } | undefined;
  readonly architecture: Architecture;
  readonly image: ImageOptions;
  readonly facts?: Partial<MachineFacts>;
}

/** The machine's RAM, opened and walked by its registers. */
export function openRam({ ram, architecture, image }: WrittenMachine): Kvm {
  const size = Math.max(...ram.ranges.map(({ end }) => roundUp(end)));
  const raw = ram.ranges.map(({ start, end }) => ({ pa: start, offset: start, length: end - start }));
  return openKvm(new RamSource(ram, size), { architectures: [architecture], image, raw });
}

/** The same as the source of a dump, with its message buffer. */
export function walkedMachine(machine: WrittenMachine): DumpSource {
  const { ram, ring, facts } = machine;
  return {
    ...dumpSourceOf(openRam(machine).core, facts),
    notes: {},
    ...(ring && { messageBuffer: { ring: new MemorySource(ram.readBytes(ring.pa, ring.size)), start: 0 } }),
  };
}

/** Ranges in whole pages, those that touch made one: what a planner writes, whatever firmware left the kernel with. */
export function wholeRanges(ranges: readonly RamRange[]): RamRange[] {
  const joined: { start: number; end: number }[] = [];
  for (const range of ranges) {
    const [start, end] = [roundDown(range.start), roundUp(range.end)];
    const before = joined.at(-1);
    if (before && before.end >= start) before.end = Math.max(before.end, end);
    else joined.push({ start, end });
  }
  return joined;
}

/** Where two files differ first, but for the padding behind the message buffer, in which a kernel has `struct msgbuf`. */
export function firstDifference(ours: Uint8Array, theirs: Uint8Array, ringBytes: number): string {
  const paddingEnd = 4096 + roundUp(ringBytes);
  const mask = (bytes: Uint8Array): Buffer => Buffer.from(bytes).fill(0, 4096 + ringBytes, paddingEnd);
  const [a, b] = [mask(ours), mask(theirs)];
  if (a.equals(b)) return '';
  const at = a.findIndex((byte, i) => byte !== b[i]);
  const piece = (bytes: Buffer): string => bytes.subarray(at, at + 8).toString('hex');
  return `${ours.length} and ${theirs.length} bytes, at 0x${at.toString(16)}: ${piece(a)}, ${piece(b)}`;
}

/** Bytes of KVA by kind of loss. */
export type LossBytes = Partial<Record<LossKind, number>>;

export function lossesOf({ report }: DumpPlan): LossBytes {
  const sums: LossBytes = {};
  for (const { kind, bytes } of report.lossList ?? []) sums[kind] = (sums[kind] ?? 0) + bytes;
  return sums;
}

/** Sums that are 0 left out, to compare with {@link lossesOf}. */
export function sums(counts: LossBytes): LossBytes {
  return Object.fromEntries(Object.entries(counts).filter(([, bytes]) => bytes > 0));
}

/** What a dump must say of an address. */
export interface Wanted {
  readonly pa: number;
  readonly pageSize: number;
  readonly flags: number;
}

/** Asks a dump about addresses; `pages` are the PAs of the pages in it. */
export function checkAnswers(
  dump: Kvm,
  probes: Iterable<bigint>,
  wanted: (kva: bigint) => Wanted | undefined,
  ram: SimRam,
  pages: ReadonlySet<number>,
): void {
  const out = new Translation();
  for (const kva of probes) {
    const right = wanted(kva);
    dump.core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
    const at = `0x${kva.toString(16)}`;
    same(out.outcome === 0, right !== undefined, at, 'mapped');
    if (right === undefined) continue;
    same(out.pa, right.pa, at, 'PA');
    same(out.pageSize, right.pageSize, at, 'page size');
    same(out.flags, right.flags, at, 'flags');
    const frame = right.pa - (right.pa % 4096);
    if (pages.has(frame)) same(dump.readU8(kva), ram.readU8(right.pa), at, 'byte');
    else
      same(
        failure(() => dump.readU8(kva)),
        'NOT_DUMPED',
        at,
      );
  }
}

/** Two dumps say the same of addresses, but for the exact entries; of flags those in `mask` are compared. */
export function sameAnswers(a: Kvm, b: Kvm, probes: Iterable<bigint>, mask = -1): void {
  const [ours, theirs] = [new Translation(), new Translation()];
  for (const kva of probes) {
    const at = `0x${kva.toString(16)}`;
    a.core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), ours);
    b.core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), theirs);
    same(ours.outcome, theirs.outcome, at, 'outcome');
    if (ours.outcome !== 0) continue;
    same(ours.pa, theirs.pa, at, 'PA');
    same(ours.pageSize, theirs.pageSize, at, 'page size');
    same(ours.flags & mask, theirs.flags & mask, at, 'flags');
  }
}

/** The pages of a dump are these, with the bytes of RAM. */
export function checkPages(dump: Kvm, ram: SimRam, pages: ReadonlySet<number>): void {
  const { memory } = dump.core;
  let count = 0;
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
    same(pages.has(pa), true, 'page', pa);
    same(Buffer.compare(dump.readPhysical(pa, 4096), ram.readBytes(pa, 4096)), 0, 'page', pa);
    count++;
  }
  same(count, pages.size, 'pages');
}

/** The code of the KvmError that a call ends with; undefined when it ends well. */
export function failure(call: () => unknown): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (!isKvmError(error)) throw error;
    return error.code;
  }
}

/** Adds the pages that `[start, end)` touches, as far as they are RAM. */
export function addPages(pages: Set<number>, ram: SimRam, start: number, end: number): void {
  for (let pa = roundDown(start); pa < end; pa += 4096) if (ram.has(pa)) pages.add(pa);
}

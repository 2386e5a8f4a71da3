import { arm } from '@libkvm/arch-arm';
import {
  ARM_PAGE_BYTES,
  ArmMachine,
  randomArmMachine,
  type ArmMapping,
  type ArmTableFormat,
  type ArmTableWish,
} from '@libkvm/fixtures';
import { EXECUTE, GLOBAL, READ, USER, WRITE, type DumpSource } from '@libkvm/minidump-core';
import { addPages, sums, walkedMachine, type LossBytes, type Wanted } from './flat-writes.js';

/** What tests of FreeBSD/arm minidumps say of random machines, by their literal descriptions. */

const FOUR_GB = 2 ** 32;
const MB = 0x10_0000;
const OLD = ['v4', 'xscale', 'xscale3', 'v6-subpages'];
/** Formats whose small pages may have TEX, and so may the entries that are made for them. */
const WITH_TEX = ['xscale', 'xscale3', 'v6-subpages'];
const MEMORY_TYPE = 0x1f00;
const RIGHTS = READ | WRITE | EXECUTE | USER;

export type ArmTarget = 'v4' | 'xscale' | 'xscale3' | 'v6-subpages' | 'v6' | 'lpae';

/** The name of a fixture's format on the command line and in headers. */
export function pteFormatOf(format: ArmTableFormat): ArmTarget {
  return format === 'v6-afe' ? 'v6' : format;
}

/** The machine walked through its page tables. Before ARMv6 registers alone do not tell the format. */
export function armSource(machine: ArmMachine, kernbase?: bigint): DumpSource {
  const { ram, messageRing: ring, registers, description, littleEndian } = machine;
  const { format } = description;
  const named = format === 'v4' || format === 'xscale' || format === 'xscale3';
  const byteOrder = littleEndian ? 'little' : 'big';
  const image = { architecture: 'arm', registers, byteOrder, ...(named && { pteFormat: format }) } as const;
  return walkedMachine({
    ...{ ram, ring, architecture: arm, image },
    ...(kernbase !== undefined && { facts: { kernbase } }),
  });
}

/**
 * A random machine as FreeBSD's kernels have them: what its dumper or its definition of mmuformat 3 tells otherwise than
 * the planner does is left out. These are PXN sections, which the dumper takes for unmapped; PAs above 4 GB; execution
 * that a long table takes away, which the dumper of the fixture knows by the bit; and reserved bits of long descriptors.
 */
export function freebsdArm(
  seed: number,
  format: ArmTableFormat,
  littleEndian: boolean,
  kvaEnd: number,
): ArmMachine {
  const { description } = randomArmMachine(seed, { format, littleEndian, dumpable: true }).machine;
  const long = format === 'lpae';
  const sections: readonly string[] = ['section', 'supersection'];
  const mappings = description.mappings
    .filter(({ pa }) => long || pa < FOUR_GB)
    .map((mapping) => ({
      ...mapping,
      ...(sections.includes(mapping.kind) && { pxn: false }),
      ...(mapping.kind === 'page' && { bits: (mapping.bits ?? 0n) & ~(0x1fffn << 40n) }),
    }));
  const last: ArmMapping = {
    kva: kvaEnd - 0x1000,
    pa: 0x1000,
    kind: long ? 'page' : 'small',
    pages: 1,
    ap: 1,
  };
  const taken = mappings.some(({ kva, kind, pages }) => kva + pages * ARM_PAGE_BYTES[kind] > last.kva);
  return new ArmMachine({
    ...description,
    mappings: taken ? mappings : [...mappings, last],
    tables: (description.tables ?? []).map(({ xn: _xn, pxn: _pxn, ...wish }) => wish),
  });
}

/** How a dump was asked for. */
export interface ArmWay {
  readonly pteFormat: ArmTarget;
  readonly superpages: 'freebsd' | 'attributes';
}

interface Part {
  readonly kva: number;
  readonly length: number;
  readonly mapping: ArmMapping;
}

/** What the description says of a dump: answers, pages and losses. */
export class ArmExpectation {
  readonly format: ArmTableFormat;
  /** Whether exact entries can be kept. */
  readonly sameFamily: boolean;
  private readonly toOld: boolean;

  constructor(
    readonly machine: ArmMachine,
    readonly lost: readonly ArmTableWish[],
    readonly way: ArmWay,
    readonly from = 0,
    readonly to = FOUR_GB,
  ) {
    this.format = machine.description.format;
    this.toOld = OLD.includes(way.pteFormat);
    const source = pteFormatOf(this.format);
    this.sameFamily = source === way.pteFormat || (OLD.includes(source) && this.toOld);
  }

  wanted(kva: bigint): Wanted | undefined {
    const at = Number(kva);
    const found = this.isVisible(at) ? this.machine.model.translate(at) : undefined;
    if (found === undefined || this.isLeftOut(at)) return undefined;
    const { pa, pageBytes, mapping } = found;
    return { pa, pageSize: this.madeSize(pageBytes), flags: this.made(at, mapping) };
  }

  pages(): Set<number> {
    const pages = new Set<number>();
    const { ram } = this.machine;
    for (const { kva, length } of this.parts()) {
      const { pa } = this.machine.model.translate(kva)!;
      for (const { start, end } of ram.ranges) {
        const [first, last] = [Math.max(start, pa), Math.min(end, pa + length)];
        if (first < last) addPages(pages, ram, first, last);
      }
    }
    return pages;
  }

  /** `entry` where entries are made in another format is left out: by chance they may have the same bits. */
  losses(): LossBytes {
    const counts = { mapping: 0, protection: 0, user: 0, global: 0, memoryType: 0, pageSize: 0, entry: 0 };
    for (const { kva, length, mapping } of this.parts()) {
      if (this.isLeftOut(kva)) {
        counts.mapping += length;
        continue;
      }
      const differs = this.flags(kva) ^ this.made(kva, mapping);
      if (differs & (READ | WRITE | EXECUTE)) counts.protection += length;
      if (differs & USER) counts.user += length;
      if (differs & GLOBAL) counts.global += length;
      if (differs & MEMORY_TYPE) counts.memoryType += length;
      const size = ARM_PAGE_BYTES[mapping.kind];
      if (this.madeSize(size) !== size) counts.pageSize += length;
      else if (this.sameFamily && this.entryChanges(kva, mapping)) counts.entry += length;
    }
    return sums(counts);
  }

  /** Mappings in parts of equal rights: a quarter of a page each, cut to the window. */
  private *parts(): Generator<Part> {
    for (const mapping of this.machine.model.mappings) {
      const size = ARM_PAGE_BYTES[mapping.kind];
      const step = Math.max(size / 4, 0x400);
      for (let kva = mapping.kva; kva < mapping.kva + mapping.pages * size; kva += step) {
        const start = Math.max(kva, this.from);
        const end = Math.min(kva + step, this.to);
        if (start < end && this.isVisible(start)) yield { kva: start, length: end - start, mapping };
      }
    }
  }

  /** In the window, and not under a table that is no RAM. */
  private isVisible(kva: number): boolean {
    if (kva < this.from || kva >= this.to) return false;
    const size = this.machine.model.translate(kva)?.pageBytes ?? 0;
    return !this.lost.some(
      (wish) => wish.bytes > size && Math.floor(wish.kva / wish.bytes) === Math.floor(kva / wish.bytes),
    );
  }

  private isLeftOut(kva: number): boolean {
    const { pa, mapping } = this.machine.model.translate(kva)!;
    if (this.way.pteFormat !== 'lpae' && pa >= FOUR_GB) return true;
    return mapping.kind === 'tiny' && !this.isWholePage(kva);
  }

  /** Whether the four tiny pages around an address make up a page of 4 KB. */
  private isWholePage(kva: number): boolean {
    const page = kva - (kva % 0x1000);
    const first = this.machine.model.translate(page)?.pa;
    if (first === undefined || first % 0x1000 !== 0) return false;
    return [1, 2, 3].every((i) => this.machine.model.translate(page + i * 0x400)?.pa === first + i * 0x400);
  }

  private madeSize(size: number): number {
    return size === 0x1_0000 && this.way.pteFormat !== 'lpae' ? size : 0x1000;
  }

  private flags(kva: number): number {
    const { writable, executable, user, global, memoryType } = this.machine.model.translate(kva)!;
    const rights = READ | (writable ? WRITE : 0) | (executable ? EXECUTE : 0) | (user ? USER : 0);
    return rights | (global ? GLOBAL : 0) | (memoryType << 8);
  }

  /** Of a page of 4 KB: what all of its quarters allow. */
  private joined(kva: number): number {
    const page = kva - (kva % 0x1000);
    const quarters = [0, 1, 2, 3].map((i) => this.flags(page + i * 0x400));
    return quarters.reduce((all, flags) => all & (flags | ~RIGHTS), quarters[0]);
  }

  /** The flags that the entries of a dump give. */
  private made(kva: number, { kind, bits = 0n }: ArmMapping): number {
    const size = ARM_PAGE_BYTES[kind];
    const { pteFormat, superpages } = this.way;
    const own = this.flags(kva);
    const whole = size <= 0x1000 ? this.joined(kva) : own;
    if (pteFormat === 'v6') return whole;
    if (pteFormat === 'lpae') return (whole & ~MEMORY_TYPE) | (whole & 0x700);
    if (size >= MB && superpages === 'freebsd') return READ | WRITE | EXECUTE;
    if (this.sameFamily && size >= 0x1000 && size < MB && !this.isRemade(kind)) {
      // Kept, and read with TEX whatever the processor had.
      return kind === 'large'
        ? (own & ~MEMORY_TYPE) | (own & 0x300) | (Number((bits >> 12n) & 7n) << 10)
        : own;
    }
    const types = WITH_TEX.includes(pteFormat) ? MEMORY_TYPE : 0x300;
    const user = own & WRITE ? own & USER : 0;
    return (own & (READ | WRITE)) | EXECUTE | user | (own & types);
  }

  /** Plain ARMv4 has no extended small pages. */
  private isRemade(kind: ArmMapping['kind']): boolean {
    return kind === 'extended' && this.way.pteFormat === 'v4' && this.format !== 'v4';
  }

  /** Whether an exact entry of the same format reads otherwise here, or upper levels take rights away. */
  private entryChanges(kva: number, mapping: ArmMapping): boolean {
    if (this.isRemade(mapping.kind)) return true;
    if (this.toOld) return false;
    const { writable, executable, user } = this.machine.model.translate(kva)!;
    const { ap, xn, pxn } = mapping;
    if (executable !== (xn !== true && pxn !== true)) return true;
    // AP[2:1] alone in the reader's view.
    const access = this.format === 'lpae' ? ap : ap >> 1;
    return writable !== access < 2 || user !== ((access & 1) === 1);
  }
}

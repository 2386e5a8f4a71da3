import {
  KvmError,
  SegmentMemory,
  checkedNumber,
  counted,
  cutShort,
  type Architecture,
  type BlockCache,
  type DumpDelta,
  type PhysicalMemory,
  type PhysicalSegment,
  type Section,
  type SegmentOptions,
} from '@libkvm/minidump-core';
import { readCpuNotes, type CpuState } from './cpu-notes.js';
import type { ElfFile } from './elf-file.js';
import type { ElfFileIdentity, ElfSegment } from './elf-headers.js';
import { ET_CORE, PT_DUMP_DELTA, PT_LOAD } from './elf-structs.js';
import { isVirtualCore } from './virtual-note.js';

/** Physical memory as a file holds it, and what the file says of the machine: a core without an address space. */
export interface MemoryImage {
  readonly memory: PhysicalMemory;
  /** What the ELF header says; undefined for raw images. */
  readonly identity?: ElfFileIdentity;
  /** Registers by processor, as far as the notes of the file have them. */
  readonly cpus: readonly CpuState[];
  /** The text of Linux's VMCOREINFO note. */
  readonly vmcoreInfo?: string;
  /** For FreeBSD full dumps of kernels that write it. */
  readonly dumpDelta?: DumpDelta;
  /** The parts of the file that hold memory. */
  readonly sections: readonly Section[];
  readonly cache: BlockCache;
  /** Oddities that did not keep the image from opening, a sentence each. */
  readonly warnings: readonly string[];
}

/** A part of a raw image. */
export interface RawRange {
  /** Physical address of its first byte. */
  readonly pa: number;
  /** Offset of its first byte in the file; 0 unless given. */
  readonly offset?: number;
  /** Bytes; to the end of the file unless given. May reach past it, in a file that was cut. */
  readonly length?: number;
}

/** How an ELF image is opened. */
export interface ElfImageOptions extends SegmentOptions {
  /** Architectures whose notes of registers are understood. */
  readonly architectures?: readonly Architecture[];
}

/** No physical address: what p_paddr says of memory that has none, in the two widths. */
const NO_PADDR = { 32: 0xffff_ffffn, 64: 0xffff_ffff_ffff_ffffn };

/**
 * Opens an ELF core whose segments are physical memory: QEMU's dump-guest-memory, FreeBSD's full dumps
 * (sys/kern/kern_dump.c), Linux's /proc/vmcore. Addresses are p_paddr; p_vaddr is not looked at (QEMU puts the PA there).
 * ELFCLASS64 says nothing of the machine: QEMU writes it for a 32-bit one with any memory that ends at or above 4 GB.
 *
 * @param cache the bytes of the file that `elf` was opened from
 * @throws KvmError `INVALID_ARGUMENT` for an ELF file that is no core, `UNSUPPORTED` for the core of a process or one whose
 *   segments are by KVA (`elf-kva`), `CORRUPT` for impossible addresses
 */
export function openElfImage(cache: BlockCache, elf: ElfFile, options: ElfImageOptions = {}): MemoryImage {
  if (elf.identity.type !== ET_CORE) {
    throw new KvmError(
      'INVALID_ARGUMENT',
      `an ELF file of type ${elf.identity.type} (a program), not a core`,
      {
        field: 'e_type',
        hint: 'a kernel is given as the kernel, beside the core that it left',
      },
    );
  }
  const loads = elf.segments.filter(
    ({ type, fileLength, memLength }) => type === PT_LOAD && fileLength + memLength > 0,
  );
  const none = NO_PADDR[elf.identity.bits];
  const physical = loads.filter(({ paddr }) => paddr !== none);
  if (physical.length === 0 || isProcessCore(physical)) throw noPhysicalMemory(loads.length);
  if (isVirtualCore(elf)) throw virtualCore();
  const memory = new SegmentMemory(cache, physical.map(segmentOf), options);
  const { cpus, vmcoreInfo, warnings } = readCpuNotes(elf, options.architectures ?? []);
  const skipped = loads.length - physical.length;
  const delta = elf.segments.find(({ type }) => type === PT_DUMP_DELTA);
  return {
    ...{ memory, cache, cpus, identity: elf.identity, sections: physical.map(sectionOf) },
    ...(vmcoreInfo !== undefined && { vmcoreInfo }),
    ...(delta && { dumpDelta: { virtual: delta.vaddr, physical: delta.paddr, align: delta.align } }),
    warnings: [
      ...warnings,
      ...warningOfCut(memory),
      ...(skipped > 0 ? [`without physical addresses, and so left out: ${counted(skipped, 'segment')}`] : []),
    ],
  };
}

/**
 * Opens a file that holds physical memory and nothing else, in one piece or several.
 *
 * @example
 * openRawImage(cache, [{ pa: 0x4000_0000 }]); // all of the file is RAM from 1 GB on
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function openRawImage(cache: BlockCache, ranges: readonly RawRange[]): MemoryImage {
  if (ranges.length === 0) throw badRange('a raw image needs the physical address of its first byte');
  const segments = ranges.map((range, i): PhysicalSegment => {
    const pa = checkedNumber(range.pa, `ranges[${i}].pa`);
    const offset = checkedNumber(range.offset ?? 0, `ranges[${i}].offset`);
    const length = checkedNumber(range.length ?? Math.max(0, cache.size - offset), `ranges[${i}].length`);
    checkedNumber(pa + length, `ranges[${i}].pa + length`);
    checkedNumber(offset + length, `ranges[${i}].offset + length`);
    if (offset >= cache.size)
      throw badRange(`ranges[${i}] starts at offset ${offset}, behind the end of the file`);
    return { pa, offset, length };
  });
  const memory = new SegmentMemory(cache, segments);
  const sections = segments.map(({ offset, length }, i) => ({ name: `memory${i}`, offset, length }));
  return { memory, cache, cpus: [], sections, warnings: warningOfCut(memory) };
}

/** Cores of processes leave p_paddr 0 in every segment (FreeBSD sys/kern/imgact_elf.c, Linux fs/binfmt_elf.c). */
function isProcessCore(loads: readonly ElfSegment[]): boolean {
  return loads.length > 1 && loads.every(({ paddr }) => paddr === 0n);
}

/** In JavaScript numbers: in 32-bit cores p_paddr + p_memsz may lie above 4 GB. */
function segmentOf({ paddr, offset, fileLength, memLength }: ElfSegment): PhysicalSegment {
  return { pa: Number(paddr), offset, length: fileLength, memLength };
}

function sectionOf({ offset, fileLength }: ElfSegment, index: number): Section {
  return { name: `memory${index}`, offset, length: fileLength };
}

function warningOfCut({ pages }: PhysicalMemory): string[] {
  const cut = cutShort(pages);
  return cut === undefined ? [] : [`the file is cut short: ${cut}`];
}

function virtualCore(): KvmError {
  return new KvmError('UNSUPPORTED', 'an ELF core whose segments are by KVA, without page tables', {
    field: 'PT_NOTE',
    hint: 'open it with a debugger and the kernel (gdb kernel core); here, open the core that it was made from',
  });
}

function noPhysicalMemory(loads: number): KvmError {
  const what =
    loads === 0 ? 'an ELF core without memory' : 'an ELF core without physical addresses: of a process';
  return new KvmError('UNSUPPORTED', what, {
    field: 'p_paddr',
    hint: 'a memory image has PT_LOAD segments with physical addresses, as those of QEMU and FreeBSD have',
  });
}

function badRange(message: string): KvmError {
  return new KvmError('INVALID_ARGUMENT', message, {
    field: 'ranges',
    hint: 'e.g. [{ pa: 0x40000000 }] for a file that holds RAM from there on',
  });
}

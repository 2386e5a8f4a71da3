import {
  KvmError,
  MemoryRuns,
  SourceWalk,
  copyRuns,
  exactly,
  lossText,
  Losses,
  roundUp,
  type Architecture,
  type DumpDelta,
  type DumpPlan,
  type DumpSource,
  type ElfIdentity,
  type KvaWindow,
  type Loss,
  type PhysicalRun,
  type Section,
  type SectionPlan,
} from '@libkvm/minidump-core';
import { MAX_HEADERS } from './elf-headers.js';
import { formatRegistersNote, parseRegisters, REGISTERS_NOTE } from './elf-registers-note.js';
import { PT_DUMP_DELTA, PT_LOAD, PT_NOTE } from './elf-structs.js';
import { planDumpTables, type DumpTableOptions, type DumpTables } from './elf-write-tables.js';
import { ElfHead, elfNoteBytes, type ElfProgramHeader } from './elf-write-headers.js';

/** How a full dump is planned. */
export interface ElfOptions extends DumpTableOptions, KvaWindow {
  /** PAs of pages to leave out. */
  readonly dropPages?: Iterable<number>;
  /** Where the kernel image lies, for a PT_DUMP_DELTA header; none unless given. */
  readonly dumpDelta?: DumpDelta;
  /** e_version: 1 unless 0 is asked for, which FreeBSD's kernels leave there and some tools balk at. */
  readonly version?: number;
}

const PAGE = 4096;
const FOUR_GB = 2 ** 32;
/** EI_OSABI of FreeBSD's full dumps: standalone. */
const OSABI_STANDALONE = 255;
const PF_READ = 4;

/**
 * Plans a full dump: an ELF core of physical memory as FreeBSD's kernels write it (sys/kern/kern_dump.c), with a segment
 * for each run of pages that the source holds, mapped or not. Absent pages are left out, never zeros.
 *
 * So that KVAs resolve without a kernel file, it holds page tables and a note with the registers that name them (owner
 * `LIBKVM`): the source's own, or ones made from its mappings and its direct map, for the window of KVAs asked for.
 * 32-bit machines with memory from 4 GB on get a 64-bit ELF file, as QEMU makes them.
 *
 * @throws KvmError `UNSUPPORTED` when page tables cannot be made or the memory is in too many pieces, `INVALID_ARGUMENT`
 * @example
 * const plan = planElf(dumpSourceOf(kvm.core), { architectures: defaultArchitectures });
 * await writeDumpFile(plan, 'vmcore.full');
 */
export function planElf(source: DumpSource, options: ElfOptions = {}): DumpPlan {
  const walk = new SourceWalk(source, options);
  const { dropPages, dumpDelta, version = 1 } = options;
  if (version !== 0 && version !== 1) throw badVersion(version);
  const limit = MAX_HEADERS - 3;
  const runs = new MemoryRuns(source.memory, { ...(dropPages && { dropPages }), limit });
  if (runs.length === 0) throw noMemory();
  const tables = planDumpTables(walk, runs, options);
  const notes = registersNote(source, tables);
  const layout = new FullDumpLayout(source, runs, tables, {
    ...{ machine: elfMachineOf(source, options.architectures), notes, version },
    ...(dumpDelta && { dumpDelta }),
  });
  const lossList = lossesOf(source, tables);
  const { size } = layout;
  const pageBytes = runs.pages * runs.ranges.pageSize;
  return {
    size,
    sections: layout.sections,
    report: {
      format: 'elf',
      architecture: source.machine.architecture,
      size,
      ...{ pages: runs.pages, added: 0, ...tables.walked },
      dropped: {
        ...{ outsideRam: 0, absent: runs.absent, byHand: runs.dropped },
        truncated: source.memory.missingPages ?? 0,
      },
      metadataBytes: size - pageBytes,
      metadataShare: (size - pageBytes) / size,
      tables: {
        bytes: tables.made?.tree.length ?? 0,
        pages: (tables.made?.tree.length ?? 0) / PAGE,
        segments: layout.segments,
        leaves: tables.made?.tree.leaves ?? 0,
      },
      losses: lossList.map(lossText),
      lossList,
      remarks: layout.remarks,
    },
    bytes: () => layout.bytes(source),
  };
}

/** e_machine of a source: its own, or that of its architecture's kernels, as minidumps do not say it. */
export function elfMachineOf({ machine }: DumpSource, architectures: readonly Architecture[] = []): number {
  const architecture = architectures.find(({ name }) => name === machine.architecture);
  return machine.elfMachine || (architecture?.elfMachines[0] ?? 0);
}

interface LayoutOptions {
  readonly machine: number;
  readonly notes: Uint8Array;
  readonly version: number;
  readonly dumpDelta?: DumpDelta;
}

/** Where everything goes in a full dump. */
class FullDumpLayout {
  readonly size: number;
  /** Program headers. */
  readonly segments: number;
  readonly remarks: string[] = [];
  /** Width of a KVA. */
  private readonly bits: 32 | 64;
  private readonly head: ElfHead;
  private readonly tablesAt: number;

  constructor(
    { machine }: DumpSource,
    private readonly runs: MemoryRuns,
    private readonly tables: DumpTables,
    private readonly options: LayoutOptions,
  ) {
    const { notes, version, dumpDelta } = options;
    const { made } = tables;
    this.segments = runs.length + (made ? 1 : 0) + (dumpDelta ? 1 : 0) + (notes.length > 0 ? 1 : 0);
    const memory = runs.pages * runs.ranges.pageSize;
    const headOf = (bits: 32 | 64): ElfHead => {
      const identity: ElfIdentity = { machine: options.machine, bits, byteOrder: machine.byteOrder };
      return new ElfHead({ identity, osabi: OSABI_STANDALONE, version, segments: this.segments, notes });
    };
    const bytes = memory + (made?.tree.length ?? 0);
    const narrow = headOf(32);
    const end = Math.max(endOf(runs, tables), narrow.length + bytes, Number(dumpDelta?.physical ?? 0n) + 1);
    const fits = end <= FOUR_GB;
    this.bits = machine.bits;
    this.head = machine.bits === 32 && fits ? narrow : headOf(64);
    this.tablesAt = this.head.length + memory;
    this.size = this.head.length + bytes;
    if (machine.bits === 32 && !fits) {
      this.remarks.push(
        'a 64-bit ELF file of a 32-bit machine: its memory, or the file, reaches beyond 4 GB',
      );
    }
    if (made) {
      const where = `PA 0x${made.pa.toString(16)}`;
      this.remarks.push(
        `${made.tree.tables} page tables were made; they lie at ${where}, which nothing else uses`,
      );
    }
  }

  get sections(): Section[] {
    const { head, options, tables, size, tablesAt } = this;
    const notes = { name: 'notes', offset: head.notesOffset, length: options.notes.length };
    return [
      { name: 'header', offset: 0, length: head.length },
      ...(notes.length > 0 ? [notes] : []),
      { name: 'memory', offset: head.length, length: tablesAt - head.length },
      ...(tables.made ? [{ name: 'tables', offset: tablesAt, length: size - tablesAt }] : []),
    ];
  }

  *bytes({ memory }: DumpSource): Generator<Uint8Array, void, undefined> {
    const { head, runs, tables, tablesAt } = this;
    const parts: SectionPlan[] = [
      { name: 'header', length: head.length, produce: () => head.bytes(this.headers()) },
      { name: 'memory', length: tablesAt - head.length, produce: () => copyRuns(memory, runs) },
    ];
    const tree = tables.made?.tree;
    if (tree) parts.push({ name: 'tables', length: tree.length, produce: () => tree.bytes() });
    for (const part of parts) yield* exactly(part);
  }

  /**
   * Memory by ascending PA, then the page tables, PT_DUMP_DELTA and the note: libkvm takes the first header of any type
   * that spans an address for memory.
   */
  private *headers(): Generator<ElfProgramHeader, void, undefined> {
    const { head, options, tables } = this;
    let offset = head.length;
    for (const run of this.runs) {
      yield loadHeader(run, offset);
      offset += run.length;
    }
    if (tables.made) yield loadHeader({ pa: tables.made.pa, length: tables.made.tree.length }, offset);
    const empty = { flags: PF_READ, offset: 0, vaddr: 0n, paddr: 0n, fileLength: 0, memLength: 0 };
    const { dumpDelta: delta, notes } = options;
    if (delta) {
      const { virtual, physical: paddr, align } = delta;
      const vaddr = BigInt.asUintN(this.bits, virtual);
      yield { ...empty, type: PT_DUMP_DELTA, vaddr, paddr, align };
    }
    if (notes.length > 0) {
      yield { ...empty, type: PT_NOTE, offset: head.notesOffset, fileLength: notes.length, align: 4 };
    }
  }
}

function loadHeader({ pa, length }: PhysicalRun, offset: number): ElfProgramHeader {
  const address = BigInt(pa);
  const lengths = { fileLength: length, memLength: length };
  return { type: PT_LOAD, flags: PF_READ, offset, vaddr: address, paddr: address, ...lengths, align: PAGE };
}

/** The first PA behind everything in the dump. */
function endOf({ ranges }: MemoryRuns, { made }: DumpTables): number {
  const ram = ranges.ranges.at(-1)?.end ?? 0;
  return Math.max(roundUp(ram, ranges.pageSize), made ? made.pa + made.tree.length : 0);
}

/** The registers of all processors that the source knows, with those of the first naming the page tables. */
function registersNote({ machine, notes }: DumpSource, { registers }: DumpTables): Uint8Array {
  if (registers === undefined) return new Uint8Array(0);
  const known = parseRegisters(notes?.registers ?? '').cpus;
  const count = Math.max(1, ...[...known.keys()].map((cpu) => cpu + 1));
  const cpus = Array.from({ length: count }, (_, i) => ({
    registers: i === 0 ? registers : {},
    general: known.get(i)?.general ?? {},
  }));
  const { name, type } = REGISTERS_NOTE;
  return elfNoteBytes(name, type, formatRegistersNote(cpus), machine.byteOrder);
}

function lossesOf({ machine, messageBuffer, notes }: DumpSource, { made }: DumpTables): readonly Loss[] {
  const losses = new Losses(true);
  if (machine.directMap && made) losses.add('directMap', 'the direct map as such: page tables map its pages');
  if (messageBuffer) {
    losses.add(
      'note',
      'the message buffer as a section: a full dump has it where the kernel has it, in memory',
    );
  }
  for (const name of Object.keys(notes ?? {})) {
    if (name !== 'registers')
      losses.add('note', `the note ${name} is left out: full dumps have no place for it`);
  }
  return [...(made?.tree.losses.list ?? []), ...losses.list];
}

function noMemory(): KvmError {
  return new KvmError('INVALID_ARGUMENT', 'the source does not hold a single page of memory', {
    field: 'memory',
    hint: 'there is nothing to write; the portable format can hold an address space without pages',
  });
}

function badVersion(version: number): KvmError {
  return new KvmError('UNSUPPORTED', `ELF has no version ${version}`, {
    field: 'version',
    hint: '1, or 0 as in dumps that FreeBSD kernels write',
  });
}

import {
  KvmError,
  isKvmError,
  latin1,
  type Architecture,
  type ByteOrder,
  type NoteLayout,
  type Registers,
} from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import type { ElfNote } from './elf-notes.js';
import { REGISTERS_NOTE, isGeneral, parseRegisters, type ParsedRegisters } from './elf-registers-note.js';

/** What the notes of a memory image say of one processor. */
export interface CpuState {
  /** Control registers, upper case: CR0, CR2, CR3, CR4, EFER. Empty where the notes have none (QEMU on ARM, Linux). */
  readonly registers: Registers;
  /** Those of {@link CpuState.registers} that no note holds and that were inferred. */
  readonly assumed: readonly string[];
  /** General registers by their usual lower-case names: rax, rip, fs_base, r0, cpsr, ... */
  readonly general: Readonly<Record<string, bigint>>;
}

/** What the notes of a memory image say. */
export interface CpuNotes {
  readonly cpus: readonly CpuState[];
  /** The text of Linux's VMCOREINFO note. */
  readonly vmcoreInfo?: string;
  readonly warnings: readonly string[];
}

/** A megabyte of text is 250 times the VMCOREINFO that kernels write. */
const MAX_TEXT = 2 ** 20;
const VERSION_AT = 0;
const SIZE_AT = 4;

const NO_STATE: CpuState = { registers: {}, assumed: [], general: {} };

/**
 * Reads the notes of a memory image: registers of QEMU's `dump-guest-memory` and of Linux (/proc/vmcore, makedumpfile
 * -E), as the architecture of the file lays them out, and of this library's own note, which win. The notes of a processor
 * are matched by their position among their kind, as QEMU writes them. Damaged notes end the list with a warning;
 * FreeBSD's full dumps have none.
 */
export function readCpuNotes(elf: ElfFile, architectures: readonly Architecture[]): CpuNotes {
  const { machine, byteOrder } = elf.identity;
  const architecture = architectures.find(({ elfMachines }) => elfMachines.includes(machine));
  const kinds = (architecture?.cpuNotes ?? []).map((layout) => ({ layout, states: [] as CpuState[] }));
  const warnings: string[] = [];
  const own: ParsedRegisters[] = [];
  let vmcoreInfo: string | undefined;
  try {
    for (const note of elf.notes()) {
      const kind = kinds.find(({ layout }) => isOf(layout, note));
      if (kind) kind.states.push(stateOf(kind.layout, note, byteOrder));
      else if (note.length > MAX_TEXT) continue;
      else if (note.name === 'VMCOREINFO') vmcoreInfo = latin1(note.desc);
      else if (isOf(OWN, note)) own.push(parseRegisters(note.desc));
    }
  } catch (error) {
    if (!isKvmError(error, 'CORRUPT', 'TRUNCATED')) throw error;
    warnings.push(`the notes cannot be read to their end: ${error.message}`);
  }
  const ignored = own.reduce((sum, parsed) => sum + parsed.ignored, 0);
  if (ignored > 0) warnings.push(`${ignored} words of the note of registers are not understood`);
  const cpus = withOwn(inOrder(kinds.map(({ states }) => states)), own);
  return { cpus, warnings, ...(vmcoreInfo !== undefined && { vmcoreInfo }) };
}

const OWN = { owner: REGISTERS_NOTE.name, type: REGISTERS_NOTE.type };

function isOf({ owner, type }: Pick<NoteLayout, 'owner' | 'type'>, note: ElfNote): boolean {
  return note.name === owner && (type === undefined || note.type === type);
}

/** The n-th notes of all kinds are one processor's; of registers that several have the first kind's are taken. */
function inOrder(kinds: readonly (readonly CpuState[])[]): CpuState[] {
  const count = Math.max(0, ...kinds.map(({ length }) => length));
  return Array.from({ length: count }, (_, i) => {
    const states = kinds.map((states) => states[i] ?? NO_STATE).reverse();
    return states.reduce((below, above) => ({
      registers: { ...below.registers, ...above.registers },
      assumed: [...below.assumed, ...above.assumed],
      general: { ...below.general, ...above.general },
    }));
  });
}

/** Processors with the registers of this library's own notes in place of others. */
function withOwn(cpus: readonly CpuState[], own: readonly ParsedRegisters[]): CpuState[] {
  const all = [...cpus];
  for (const parsed of own) {
    for (const [i, { registers, general }] of parsed.cpus) {
      while (all.length <= i) all.push(NO_STATE);
      const before = all[i];
      all[i] = {
        registers: { ...before.registers, ...registers },
        assumed: before.assumed.filter((name) => !Object.hasOwn(registers, name)),
        general: { ...before.general, ...general },
      };
    }
  }
  return all;
}

/**
 * The registers of a note. One that is too short has none, unless it should say what it is.
 *
 * @throws KvmError `CORRUPT` for a structure of another version or size
 */
function stateOf(layout: NoteLayout, note: ElfNote, byteOrder: ByteOrder): CpuState {
  const { version, size, width, infer } = layout;
  if (note.length < size) {
    if (version === undefined) return NO_STATE;
    throw unknownState(layout, note, `has ${note.length} bytes`);
  }
  const little = byteOrder === 'little';
  const view = new DataView(note.desc.buffer);
  const end = version === undefined ? view.byteLength : ownSize(layout, note, view, little);
  const found = Object.entries(layout.registers)
    .filter(([, at]) => at + width <= end)
    .map(([name, at]): [string, bigint] => [
      name,
      width === 8 ? view.getBigUint64(at, little) : BigInt(view.getUint32(at, little)),
    ]);
  const registers = Object.fromEntries(found.filter(([name]) => !isGeneral(name)));
  const general = Object.fromEntries(found.filter(([name]) => isGeneral(name)));
  const inferred = infer?.(registers) ?? {};
  return { registers: { ...registers, ...inferred }, assumed: Object.keys(inferred), general };
}

/** Bytes of a structure that says its version and size, as far as the note holds them. */
function ownSize(layout: NoteLayout, note: ElfNote, view: DataView, little: boolean): number {
  const version = view.getUint32(VERSION_AT, little);
  const size = view.getUint32(SIZE_AT, little);
  if (version === layout.version && size >= layout.size) return Math.min(size, view.byteLength);
  throw unknownState(layout, note, `has version ${version}, ${size} bytes`);
}

function unknownState({ owner, version }: NoteLayout, note: ElfNote, what: string): KvmError {
  return new KvmError(
    'CORRUPT',
    `the ${owner} note at offset ${note.offset} ${what}; version ${version} was expected`,
    { offset: note.offset, field: owner, hint: 'give the control registers by hand' },
  );
}

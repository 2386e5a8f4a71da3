import type { Registers } from './architecture.js';

/**
 * Where an ELF note has the registers of one processor: words of one width at fixed places of its descriptor, in the byte
 * order of the file. A core has one note of a kind for each processor, in the same order for all kinds.
 */
export interface NoteLayout {
  /** The note's owner: `CORE`, `QEMU`. */
  readonly owner: string;
  /** n_type; any unless given. */
  readonly type?: number;
  /** Bytes of a register. */
  readonly width: 4 | 8;
  /** Bytes that a whole descriptor has at least. */
  readonly size: number;
  /**
   * Offset in the descriptor of each register: control registers by names in capitals (CR3), general ones by the usual
   * names with small letters (rip). Those that lie behind the end of a descriptor are left out.
   */
  readonly registers: Readonly<Record<string, number>>;
  /** For descriptors that say what they are: the version in their first 32 bits; the next 32 have their size in bytes. */
  readonly version?: number;
  /** Control registers that no note holds and that follow from those it holds. */
  readonly infer?: (registers: Registers) => Registers;
}

/** Offsets of registers that lie one behind the other from `at` on, named by a list with spaces between. */
export function registersInRow(names: string, at: number, width: 4 | 8): Record<string, number> {
  return Object.fromEntries(names.split(' ').map((name, i) => [name, at + i * width]));
}

/** NT_PRSTATUS: general registers, in `struct elf_prstatus` (Linux, include/linux/elfcore.h). */
const NT_PRSTATUS = 1;

/**
 * The general registers in the notes of Linux and QEMU: `struct elf_prstatus` has them, in the order of the machine's
 * user_regs, behind 72 bytes on 32-bit and 112 bytes on 64-bit machines.
 *
 * @param names in order, with spaces between
 */
export function prstatusLayout(bits: 32 | 64, names: string): NoteLayout {
  const width = bits === 64 ? 8 : 4;
  const at = bits === 64 ? 112 : 72;
  const registers = registersInRow(names, at, width);
  const size = at + width * Object.keys(registers).length;
  return { owner: 'CORE', type: NT_PRSTATUS, width, size, registers };
}

import { latin1, type Registers } from '@libkvm/minidump-core';

/**
 * The ELF note of this library for registers that no standard note has: ARM's TTBR0, TTBCR and SCTLR, x86's EFER. Its
 * owner is `LIBKVM`, its type 1, and its descriptor the text of `core.notes.registers` in ASCII, a processor a line:
 *
 *     cpu0 TTBR0=0x40004000 TTBCR=0x0 SCTLR=0x20c5387d
 *
 * See docs/formats/elf-images.md.
 */
export const REGISTERS_NOTE = { name: 'LIBKVM', type: 1 } as const;

/** Registers of one processor. */
export interface CpuRegisters {
  /** Control registers, by their upper-case names. */
  readonly registers: Registers;
  /** General registers, by their lower-case names. */
  readonly general?: Readonly<Record<string, bigint>>;
}

/** Lines that cannot be understood, and so are left out, are counted. */
export interface ParsedRegisters {
  /** By number of the processor. */
  readonly cpus: ReadonlyMap<number, Required<CpuRegisters>>;
  readonly ignored: number;
}

/** No machine has more processors; a greater number is damage. */
const MAX_CPUS = 4096;
const CPU = /^cpu(\d{1,5})$/;
const REGISTER = /^([A-Za-z_]\w{0,31})=0x([0-9a-f]{1,16})$/i;

/** The registers of all processors as text, a processor a line: `cpu0 CR3=0x1000 rip=0xffffffff80200000`. */
export function formatRegisters(cpus: readonly CpuRegisters[]): string {
  return cpus.map((cpu, i) => `${registerLine(i, cpu)}\n`).join('');
}

/** The descriptor of a {@link REGISTERS_NOTE}: of registers, or of their text, as a core's notes have it. */
export function formatRegistersNote(registers: readonly CpuRegisters[] | string): Uint8Array<ArrayBuffer> {
  const text = typeof registers === 'string' ? registers : formatRegisters(registers);
  return Uint8Array.from(text, (character) => character.charCodeAt(0) & 0x7f);
}

/**
 * Reads what {@link formatRegisters} or {@link formatRegistersNote} made. Names with a lower-case letter are general
 * registers, others control registers. What is no register of a processor is left out; of two lines for the same
 * processor the later one adds to the first.
 */
export function parseRegisters(note: Uint8Array | string): ParsedRegisters {
  const text = typeof note === 'string' ? note : latin1(note);
  const cpus = new Map<number, Required<CpuRegisters>>();
  let ignored = 0;
  for (const line of text.split(/[\n\0]+/)) {
    const [name, ...words] = line.trim().split(/\s+/);
    if (name === '') continue;
    const cpu = Number(CPU.exec(name)?.[1] ?? MAX_CPUS);
    if (cpu >= MAX_CPUS) ignored++;
    else ignored += addRegisters(cpus, cpu, words);
  }
  return { cpus, ignored };
}

/** Adds the registers of a line and returns how many of its words are none. */
function addRegisters(
  cpus: Map<number, Required<CpuRegisters>>,
  cpu: number,
  words: readonly string[],
): number {
  const found = words.map((word) => REGISTER.exec(word)).filter((match) => match !== null);
  const entries = found.map(([, name, hex]) => [name, BigInt(`0x${hex}`)] as const);
  const before = cpus.get(cpu);
  const control = entries.filter(([name]) => !isGeneral(name));
  const general = entries.filter(([name]) => isGeneral(name));
  cpus.set(cpu, {
    registers: { ...before?.registers, ...Object.fromEntries(control) },
    general: { ...before?.general, ...Object.fromEntries(general) },
  });
  return words.length - found.length;
}

function registerLine(cpu: number, { registers, general = {} }: CpuRegisters): string {
  const all = Object.entries({ ...registers, ...general });
  return [`cpu${cpu}`, ...all.map(([name, value]) => `${name}=0x${value.toString(16)}`)].join(' ');
}

/** Whether a register is a general one, by the letters of its name. */
export function isGeneral(name: string): boolean {
  return /[a-z]/.test(name);
}

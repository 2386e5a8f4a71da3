import {
  KvmError,
  isKvmError,
  latin1,
  struct,
  type ElfIdentity,
  type Registers,
} from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';
import type { ElfNote } from './elf-notes.js';

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

/**
 * QEMUCPUState, the descriptor of the note `QEMU` (type 0) for x86, version 1 (QEMU, target/i386/arch_dump.c). Between
 * the fields here lie the other segments: 24 bytes each (selector, limit, flags, pad: u32; base: u64), in the order
 * cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt. QEMU 3.0 and later add a u64 kernel_gs_base behind cr4.
 */
export const qemuCpuState = struct('QEMUCPUState', {
  version: { at: 0, kind: 'u32', doc: '1' },
  size: { at: 4, kind: 'u32', doc: 'bytes of the structure: 432, or 440 with kernel_gs_base' },
  rsp: {
    at: 56,
    kind: 'u64',
    doc: 'stack pointer; rax, rbx, rcx, rdx, rsi, rdi lie before it, rbp and r8-r15 behind',
  },
  rip: { at: 136, kind: 'u64', doc: 'instruction pointer' },
  rflags: { at: 144, kind: 'u64', doc: 'flags' },
  fs_base: { at: 240, kind: 'u64', doc: 'base of fs' },
  gs_base: { at: 264, kind: 'u64', doc: 'base of gs' },
  tr_base: { at: 336, kind: 'u64', doc: 'base of the task state segment' },
  gdt_base: { at: 360, kind: 'u64', doc: 'base of the global descriptor table' },
  idt_base: { at: 384, kind: 'u64', doc: 'base of the interrupt descriptor table' },
  cr0: { at: 392, kind: 'u64', doc: 'CR0' },
  cr2: { at: 408, kind: 'u64', doc: 'CR2; CR1, which does not exist, lies before it' },
  cr3: { at: 416, kind: 'u64', doc: 'CR3' },
  cr4: { at: 424, kind: 'u64', doc: 'CR4' },
});
const KERNEL_GS_BASE_AT = 432;

const NT_PRSTATUS = 1;
const EM_386 = 3;
const EM_ARM = 40;
const EM_X86_64 = 62;
const EM_AARCH64 = 183;
/** A megabyte of VMCOREINFO is 250 times what kernels write. */
const MAX_VMCOREINFO = 2 ** 20;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const EFER_NXE = 0x800n;

/** Where `struct elf_prstatus` (Linux, include/linux/elfcore.h) has the general registers of a machine. */
interface PrStatus {
  readonly at: number;
  readonly width: 4 | 8;
  readonly names: readonly string[];
}

const PRSTATUS: Readonly<Record<number, PrStatus>> = {
  // user_regs_struct of arch/x86/include/asm/user_32.h and user_64.h
  [EM_386]: {
    at: 72,
    width: 4,
    names: words('ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss'),
  },
  [EM_X86_64]: {
    ...{ at: 112, width: 8 },
    names: words(
      'r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base gs_base ds es fs gs',
    ),
  },
  // pt_regs of arch/arm/include/uapi/asm/ptrace.h, user_pt_regs of arch/arm64
  [EM_ARM]: { at: 72, width: 4, names: words('r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 sp lr pc cpsr') },
  [EM_AARCH64]: {
    ...{ at: 112, width: 8 },
    names: [...Array.from({ length: 31 }, (_, i) => `x${i}`), 'sp', 'pc', 'pstate'],
  },
};

/**
 * Reads the notes of a memory image: registers of QEMU's `dump-guest-memory` and of Linux (/proc/vmcore, makedumpfile
 * -E). The notes `CORE` and `QEMU` of a processor are matched by their position among their kind, as QEMU writes them.
 * Damaged notes end the list with a warning; FreeBSD's full dumps have none.
 *
 * EFER is in no note. QEMU marks a dump as EM_X86_64 exactly when the first processor is in long mode (cpu_get_dump_info
 * in target/i386/arch_dump.c), so LME and LMA follow from the machine; NXE is assumed where page-table entries have the
 * bit at all (PAE and long mode): every kernel that uses them sets it, and for those that do not the bit is never set.
 */
export function readCpuNotes(elf: ElfFile): CpuNotes {
  const general: Record<string, bigint>[] = [];
  const control: QemuState[] = [];
  const warnings: string[] = [];
  let vmcoreInfo: string | undefined;
  try {
    for (const note of elf.notes()) {
      if (note.name === 'CORE' && note.type === NT_PRSTATUS) general.push(prStatus(note, elf.identity));
      else if (note.name === 'QEMU' && isX86(elf.identity)) control.push(qemuState(note, elf.identity));
      else if (note.name === 'VMCOREINFO' && note.length <= MAX_VMCOREINFO) vmcoreInfo = latin1(note.desc);
    }
  } catch (error) {
    if (!isKvmError(error, 'CORRUPT', 'TRUNCATED')) throw error;
    warnings.push(`the notes cannot be read to their end: ${error.message}`);
  }
  const count = Math.max(general.length, control.length);
  const cpus = Array.from({ length: count }, (_, i) => cpuState(general[i], control[i]));
  return { cpus, warnings, ...(vmcoreInfo !== undefined && { vmcoreInfo }) };
}

/** What QEMU's own note adds to the general registers. */
interface QemuState {
  readonly registers: Registers;
  readonly general: Readonly<Record<string, bigint>>;
}

function cpuState(general: Record<string, bigint> = {}, qemu?: QemuState): CpuState {
  if (qemu === undefined) return { registers: {}, assumed: [], general };
  return { registers: qemu.registers, assumed: ['EFER'], general: { ...qemu.general, ...general } };
}

/** The general registers of an NT_PRSTATUS note, as far as it reaches; none for a machine that is not known. */
function prStatus(note: ElfNote, { machine, byteOrder }: ElfIdentity): Record<string, bigint> {
  const layout = PRSTATUS[machine];
  const registers: Record<string, bigint> = {};
  if (layout === undefined || note.length < layout.at + layout.width * layout.names.length) return registers;
  const view = new DataView(note.desc.buffer);
  const little = byteOrder === 'little';
  layout.names.forEach((name, i) => {
    const at = layout.at + i * layout.width;
    registers[name] = layout.width === 8 ? view.getBigUint64(at, little) : BigInt(view.getUint32(at, little));
  });
  return registers;
}

function qemuState(note: ElfNote, { machine, byteOrder }: ElfIdentity): QemuState {
  if (note.length < qemuCpuState.size) throw unknownState(note, `has ${note.length} bytes`);
  const bytes = note.desc;
  const { version, size, cr0, cr2, cr3, cr4, ...general } = qemuCpuState.read(bytes, 0, byteOrder);
  if (version !== 1 || size < qemuCpuState.size)
    throw unknownState(note, `has version ${version}, ${size} bytes`);
  const pae = (cr4 & CR4_PAE) !== 0n ? EFER_NXE : 0n;
  const efer = machine === EM_X86_64 ? EFER_LME | EFER_LMA | EFER_NXE : pae;
  const registers = { CR0: cr0, CR2: cr2, CR3: cr3, CR4: cr4, EFER: efer };
  if (Math.min(size, bytes.length) < KERNEL_GS_BASE_AT + 8) return { registers, general };
  const gsBase = new DataView(bytes.buffer).getBigUint64(KERNEL_GS_BASE_AT, byteOrder === 'little');
  return { registers, general: { ...general, kernel_gs_base: gsBase } };
}

function isX86({ machine }: ElfIdentity): boolean {
  return machine === EM_386 || machine === EM_X86_64;
}

function unknownState(note: ElfNote, what: string): KvmError {
  return new KvmError('CORRUPT', `the QEMU note at offset ${note.offset} ${what}; version 1 was expected`, {
    offset: note.offset,
    field: 'QEMUCPUState',
    hint: 'give the control registers by hand',
  });
}

function words(text: string): string[] {
  return text.split(' ');
}

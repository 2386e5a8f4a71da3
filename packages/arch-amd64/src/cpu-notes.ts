import { prstatusLayout, type NoteLayout, type Registers } from '@libkvm/minidump-core';

const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const EFER_NXE = 0x800n;

/** user_regs_struct of Linux, arch/x86/include/asm/user_64.h. */
const PRSTATUS = prstatusLayout(
  64,
  'r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base gs_base ds es fs gs',
);

/**
 * QEMUCPUState, the descriptor of the note `QEMU` (type 0), version 1 (QEMU, target/i386/arch_dump.c). Before rsp lie rax,
 * rbx, rcx, rdx, rsi and rdi, behind it rbp and r8 to r15; behind rflags ten segments of 24 bytes each (selector, limit,
 * flags, pad: u32; base: u64), in the order cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt; CR1, which does not exist, lies
 * between CR0 and CR2. QEMU 3.0 and later add kernel_gs_base.
 */
const QEMU: NoteLayout = {
  ...{ owner: 'QEMU', width: 8, size: 432, version: 1 },
  registers: {
    ...{ rsp: 56, rip: 136, rflags: 144 },
    ...{ fs_base: 240, gs_base: 264, tr_base: 336, gdt_base: 360, idt_base: 384 },
    ...{ CR0: 392, CR2: 408, CR3: 416, CR4: 424, kernel_gs_base: 432 },
  },
  infer: efer,
};

/** The notes that hold registers of a processor in 64-bit mode. */
export const amd64CpuNotes: readonly NoteLayout[] = [PRSTATUS, QEMU];

/**
 * EFER is in no note. QEMU marks a dump as EM_X86_64 exactly when the first processor is in long mode (cpu_get_dump_info
 * in target/i386/arch_dump.c), so LME and LMA follow from the machine; NXE is assumed: every kernel sets it where there is
 * the bit, and where not no entry has it.
 */
function efer(): Registers {
  return { EFER: EFER_LME | EFER_LMA | EFER_NXE };
}

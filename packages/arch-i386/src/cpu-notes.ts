import { prstatusLayout, type NoteLayout, type Registers } from '@libkvm/minidump-core';

const CR4_PAE = 0x20n;
const EFER_NXE = 0x800n;

/** user_regs_struct of Linux, arch/x86/include/asm/user_32.h. */
const PRSTATUS = prstatusLayout(32, 'ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss');

/**
 * QEMUCPUState, the descriptor of the note `QEMU` (type 0), version 1 (QEMU, target/i386/arch_dump.c): registers are 8
 * bytes in it, and have their 64-bit names, on 32-bit processors too. Behind rflags lie ten segments of 24 bytes each
 * (selector, limit, flags, pad: u32; base: u64), in the order cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt; CR1, which does
 * not exist, lies between CR0 and CR2. QEMU 3.0 and later add kernel_gs_base.
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

/** The notes that hold registers of a processor in 32-bit mode. */
export const i386CpuNotes: readonly NoteLayout[] = [PRSTATUS, QEMU];

/**
 * EFER is in no note. QEMU marks a dump as EM_386 exactly when the first processor is not in long mode; NXE is assumed
 * where entries have the bit at all (PAE): every kernel that uses it sets NXE, and for those that do not it is never set.
 */
function efer({ CR4 = 0n }: Registers): Registers {
  return { EFER: (CR4 & CR4_PAE) === 0n ? 0n : EFER_NXE };
}

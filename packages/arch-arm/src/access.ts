import { EXECUTE, MEMORY_TYPE_SHIFT, READ, USER, WRITE } from '@libkvm/minidump-core';

/**
 * Whose reading of the access bits the flags of a mapping show.
 *
 * - `hardware`: what the processor lets privileged code do now. The default.
 * - `policy`: what FreeBSD's pmap means to allow. It differs for ARMv6/v7 entries, where a writable page that was not
 *   written yet is write-protected in hardware (sys/arm/include/pte-v6.h, PTE2_NM and PTE2_RO).
 * - `libkvm`: the `kp_prot` of kvm_walk_pages, mistakes included (lib/libkvm/kvm_minidump_arm.c): for comparison.
 *
 * READ is always set: access rights never hide a page from somebody who reads a core.
 */
export type ArmView = 'hardware' | 'policy' | 'libkvm';

/** What a table takes away from nothing below it. */
export const ALL_RIGHTS = READ | WRITE | EXECUTE | USER;

/**
 * Rights by the two AP bits of ARMv4 and v5 (Arm ARM DDI 0100, B3.3): 00 depends on the S and R bits of the control
 * register and never lets anybody write, 01 privileged read and write, 10 the same and user read, 11 all. There is no
 * execute-never.
 */
export function apRights(ap: number): number {
  return READ | EXECUTE | (ap > 0 ? WRITE : 0) | (ap > 1 ? USER : 0);
}

/**
 * The memory type of a short descriptor as flags: TEX[2:0], C, B (Arm ARM DDI 0406, B3.8.2).
 *
 * @param tex position of TEX[0], or -1 where the descriptor has none; C and B are always bits 3 and 2
 */
export function shortMemoryType(low: number, tex: number): number {
  const cacheable = (low >>> 2) & 3;
  return (tex < 0 ? cacheable : (((low >>> tex) & 7) << 2) | cacheable) << MEMORY_TYPE_SHIFT;
}

/** AttrIndx[2:0] of a long descriptor as flags: the field of MAIR that tells the memory type (DDI 0406, B3.6.2). */
export function longMemoryType(low: number): number {
  return ((low >>> 2) & 7) << MEMORY_TYPE_SHIFT;
}

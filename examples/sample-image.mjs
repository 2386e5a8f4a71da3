// @ts-check
// Writes a memory image as QEMU's `dump-guest-memory` does, of a small machine with page tables, for examples that are
// run without arguments.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Amd64Machine, pagesOf } from '@libkvm/fixtures';

export const KERNBASE = 0xfffffe0000000000n;
const RAM = { start: 0, end: 0x400000 };
const HEADERS = 0x1000;

/** 4 MB of RAM, of which a kernel of 2 MB and 40 pages of data are mapped. */
export function sampleImageMachine() {
  const common = { executable: false, writable: true, global: true };
  return new Amd64Machine({
    ram: [RAM],
    patternSeed: 1,
    kernbase: KERNBASE,
    kvaEnd: 1n << 64n,
    dmap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n },
    tablePool: pagesOf(0x10000, 0x40000),
    mappings: [
      {
        kva: KERNBASE,
        pa: 0x200000,
        pageSize: 0x200000,
        pages: 1,
        writable: false,
        executable: true,
        global: true,
      },
      { ...common, kva: KERNBASE + 0x400000n, pa: 0x80000, pageSize: 0x1000, pages: 40 },
    ],
  });
}

/** @returns {{ image: string, out: string }} paths */
export function sampleImage() {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-sample-'));
  const machine = sampleImageMachine();
  const paths = { image: join(folder, 'guest.elf'), out: join(folder, 'guest.minidump') };
  writeFileSync(paths.image, elfImage(machine.ram.readBytes(RAM.start, RAM.end - RAM.start), machine.cr3));
  return paths;
}

/**
 * An ELF core with one PT_LOAD, and the note from which registers are found.
 *
 * @param {Uint8Array} ram
 * @param {number} cr3
 */
function elfImage(ram, cr3) {
  const file = new Uint8Array(HEADERS + ram.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 4, true); // e_type: ET_CORE
  view.setUint16(18, 62, true); // e_machine: x86-64
  view.setUint32(20, 1, true);
  view.setBigUint64(32, 64n, true); // e_phoff
  view.setUint16(52, 64, true); // e_ehsize
  view.setUint16(54, 56, true); // e_phentsize
  view.setUint16(56, 2, true); // e_phnum
  const note = qemuNote(cr3);
  programHeader(view, 64, 4, 0x200, note.length);
  programHeader(view, 120, 1, HEADERS, ram.length);
  file.set(note, 0x200);
  file.set(ram, HEADERS);
  return file;
}

/**
 * @param {DataView} view
 * @param {number} at
 * @param {number} type
 * @param {number} offset
 * @param {number} length
 */
function programHeader(view, at, type, offset, length) {
  view.setUint32(at, type, true);
  view.setBigUint64(at + 8, BigInt(offset), true);
  view.setBigUint64(at + 32, BigInt(length), true); // p_filesz
  view.setBigUint64(at + 40, BigInt(length), true); // p_memsz; p_paddr stays 0
}

/**
 * QEMUCPUState (QEMU, target/i386/arch_dump.c), with the control registers alone.
 *
 * @param {number} cr3
 */
function qemuNote(cr3) {
  const note = new Uint8Array(12 + 8 + 432);
  const view = new DataView(note.buffer);
  view.setUint32(0, 5, true);
  view.setUint32(4, 432, true);
  note.set(new TextEncoder().encode('QEMU'), 12);
  view.setUint32(20, 1, true); // version
  view.setUint32(24, 432, true); // size
  view.setBigUint64(20 + 392, 0x80050033n, true); // CR0
  view.setBigUint64(20 + 416, BigInt(cr3), true);
  view.setBigUint64(20 + 424, 0x6f0n, true); // CR4
  return note;
}

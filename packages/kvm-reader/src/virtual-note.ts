import { isKvmError } from '@libkvm/minidump-core';
import type { ElfFile } from './elf-file.js';

/**
 * The ELF note of this library that a core is one of virtual addresses: for debuggers, not to be taken for an image of
 * physical memory though its segments have a p_paddr. Its owner is `LIBKVM`, its type 2.
 */
export const VIRTUAL_NOTE = {
  name: 'LIBKVM',
  type: 2,
  desc: Uint8Array.from('segments are by KVA\n', (character) => character.charCodeAt(0)),
} as const;

/** Whether a core has that note. Damaged notes are no reason to refuse a core. */
export function isVirtualCore(elf: ElfFile): boolean {
  try {
    for (const note of elf.notes()) {
      if (note.name === VIRTUAL_NOTE.name && note.type === VIRTUAL_NOTE.type) return true;
    }
  } catch (error) {
    if (!isKvmError(error, 'CORRUPT', 'TRUNCATED')) throw error;
  }
  return false;
}

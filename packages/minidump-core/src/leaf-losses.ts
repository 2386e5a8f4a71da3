import { EXECUTE, GLOBAL, MEMORY_TYPE_MASK, READ, USER, WRITE } from './address-space.js';
import type { LossKind, Losses } from './losses.js';

const FLAGS: readonly (readonly [number, LossKind, string])[] = [
  [READ | WRITE | EXECUTE, 'protection', 'protections read back otherwise'],
  [USER, 'user', 'rights of user mode'],
  [GLOBAL, 'global', 'the global flag'],
  [MEMORY_TYPE_MASK, 'memoryType', 'memory types'],
];

/** Everything that flags say of a mapping, but for who made it. */
export const COMPARED_FLAGS = READ | WRITE | EXECUTE | USER | GLOBAL | MEMORY_TYPE_MASK;

/**
 * Counts in what the flags of an entry that was made differ from those of the mapping it was made for.
 *
 * @param pageSize bytes of the mapping's pages, for the text
 * @param length bytes of KVA
 */
export function countFlagLosses(
  wanted: number,
  made: number,
  pageSize: number,
  length: number,
  losses: Losses,
): void {
  if (((wanted ^ made) & COMPARED_FLAGS) === 0) return;
  for (const [mask, kind, what] of FLAGS) {
    if (((wanted ^ made) & mask) !== 0) losses.add(kind, `${what} of ${sizeText(pageSize)} pages`, length);
  }
}

/** `4 KB`, `2 MB`, `1 GB`. */
export function sizeText(bytes: number): string {
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${bytes / 1024 ** power} ${['bytes', 'KB', 'MB', 'GB'][power]}`;
}

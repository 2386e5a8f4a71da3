import { KvmError } from '@libkvm/minidump-core';
import type { SymbolRecords } from './symbol-records.js';

const PRIME = 0x0100_0193;
/** Names share bytes only as tails of each other; many times the string table is what no linker writes. */
const MAX_SHARING = 16;

/**
 * Symbols by name: an open-addressing hash table of row numbers over the name bytes in the file's string table, so that
 * 60 thousand names are not 60 thousand strings. Of several symbols with one name it holds the best: global before
 * weak before local, then the first.
 */
export class SymbolNames {
  private readonly slots: Uint32Array;
  private readonly mask: number;
  private readonly hashes: Uint32Array;
  /** Differs from table to table, so that no file is made of names that all meet in one slot. */
  private readonly seed = Math.floor(Math.random() * 0x1_0000_0000);

  constructor(private readonly records: SymbolRecords) {
    let capacity = 16;
    while (capacity < records.count * 2) capacity *= 2;
    this.mask = capacity - 1;
    this.slots = new Uint32Array(capacity);
    this.hashes = new Uint32Array(capacity);
    let hashed = 0;
    for (let row = 1; row < records.count; row++) {
      if (!records.isNamed(row)) continue;
      hashed += this.insert(row);
      if (hashed > MAX_SHARING * records.names.length) throw tangled();
    }
  }

  /** The row of a name in UTF-8, or 0. */
  find(bytes: Uint8Array): number {
    if (bytes.length === 0 || bytes.includes(0)) return 0;
    let hash = this.seed;
    for (const byte of bytes) hash = Math.imul(hash ^ byte, PRIME);
    hash = mix(hash);
    const { slots, hashes, mask } = this;
    for (let slot = hash & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
      if (hashes[slot] === hash && this.isNameOf(slots[slot], bytes)) return slots[slot];
    }
    return 0;
  }

  /** Enters a row and returns the length of its name. */
  private insert(row: number): number {
    const { records, slots, hashes, mask } = this;
    const start = records.nameOffset(row);
    const end = records.nameEnd(start);
    let hash = this.seed;
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ records.names[i], PRIME);
    hash = mix(hash);
    let slot = hash & mask;
    while (slots[slot] !== 0 && !(hashes[slot] === hash && this.sameName(slots[slot], start, end))) {
      slot = (slot + 1) & mask;
    }
    if (slots[slot] === 0 || records.rank(row) > records.rank(slots[slot])) slots[slot] = row;
    hashes[slot] = hash;
    return end - start;
  }

  private isNameOf(row: number, name: Uint8Array): boolean {
    const { names } = this.records;
    const start = this.records.nameOffset(row);
    for (let i = 0; i < name.length; i++) if (names[start + i] !== name[i]) return false;
    return this.records.nameEnd(start) === start + name.length;
  }

  private sameName(row: number, start: number, end: number): boolean {
    const { names } = this.records;
    const other = this.records.nameOffset(row);
    if (other === start) return true;
    for (let i = 0; i < end - start; i++) if (names[other + i] !== names[start + i]) return false;
    return this.records.nameEnd(other) === other + end - start;
  }
}

/** Spreads the bits of an FNV-1a hash: its low ones alone are poor. As an unsigned number. */
function mix(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}

function tangled(): KvmError {
  return new KvmError('CORRUPT', 'the names of the symbols overlap in a way that no linker writes', {
    field: 'st_name',
    hint: 'the symbol table of the kernel file is damaged; copy it again',
  });
}

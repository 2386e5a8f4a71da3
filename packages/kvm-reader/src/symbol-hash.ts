import type { ElfFile } from './elf-file.js';
import type { ElfSection } from './elf-headers.js';
import { SHT_DYNSYM, SHT_GNU_HASH, SHT_GNU_VERSYM, SHT_HASH } from './elf-structs.js';
import { gnuChain, sysvChain, type HashBytes } from './hash-chains.js';
import { LazySection } from './lazy-section.js';
import { MAX_NAME } from './symbol-records.js';
import { SymbolRows, symbolSection } from './symbol-rows.js';

/** 60 thousand symbols take half a megabyte; a larger section is left alone. */
const MAX_HASH_BYTES = 4 * 1024 * 1024;
/** Names looked at for one question. Buckets of sound tables have a handful; damaged ones may lead anywhere. */
const MAX_COMPARED = 64;

/** The sections of a hash table that can be used. */
interface HashPlace {
  readonly chain: typeof gnuChain;
  readonly hash: LazySection;
  readonly symbols: ElfSection;
  /** Bytes of a row, and the number of rows. */
  readonly stride: number;
  readonly count: number;
  readonly names: ElfSection;
}

/**
 * Looks up exported symbols through .gnu.hash or .hash: of the file only that section, the row and the name are read.
 *
 * It answers only where the whole table must give the same: with a global symbol, defined here, that is the only one of
 * its name in the chain. A damaged hash section can hide a symbol but never give another one, as names are compared.
 */
export class SymbolHash {
  private readonly rows: SymbolRows;
  private found: { readonly place: HashPlace | undefined } | undefined;
  private bytes: HashBytes | undefined;

  constructor(private readonly elf: ElfFile) {
    this.rows = new SymbolRows(elf.identity);
  }

  /**
   * The symbol of a name in UTF-8, as row 0 of the rows returned, which hold until the next call; undefined where the
   * whole table has to be asked.
   *
   * @throws KvmError `CORRUPT`, `TRUNCATED` when the section headers are damaged
   */
  find(name: Uint8Array): SymbolRows | undefined {
    this.found ??= { place: placeOf(this.elf, this.rows) };
    const { place } = this.found;
    // Names that the whole table would cut are left to it.
    if (place === undefined || name.length === 0 || name.length >= MAX_NAME || name.includes(0))
      return undefined;
    const row = this.onlyRowOf(name, place);
    if (row === 0) return undefined;
    this.hold(row, place);
    return this.rows.isDefined(0) && this.rows.rank(0) === 2 ? this.rows : undefined;
  }

  /** The row of a name, or 0 where there is none, or more than one. */
  private onlyRowOf(name: Uint8Array, place: HashPlace): number {
    this.bytes ??= this.load(place);
    const [wanted, found] = [new Uint8Array(name.length + 1), new Uint8Array(name.length + 1)];
    wanted.set(name);
    let compared = 0;
    let only = 0;
    for (const row of place.chain(this.bytes, name)) {
      if (row >= place.count || ++compared > MAX_COMPARED) return 0;
      if (!this.isNameOf(row, place, wanted, found)) continue;
      if (only !== 0) return 0;
      only = row;
    }
    return only;
  }

  private load(place: HashPlace): HashBytes {
    const { bits, byteOrder } = this.elf.identity;
    const view = new DataView(place.hash.read().buffer);
    return { view, little: byteOrder === 'little', wordBytes: bits / 8 };
  }

  /** Whether a row has a name, given with its NUL. One without a NUL in the file is not taken for any. */
  private isNameOf(row: number, place: HashPlace, wanted: Uint8Array, found: Uint8Array): boolean {
    this.hold(row, place);
    const start = this.rows.nameOffset(0);
    if (start + wanted.length > place.names.length) return false;
    this.elf.source.readSync(place.names.offset + start, found, 0, found.length);
    return found.every((byte, i) => byte === wanted[i]);
  }

  /** Reads a row. */
  private hold(row: number, { symbols, stride }: HashPlace): void {
    const bytes = new Uint8Array(stride);
    this.elf.source.readSync(symbols.offset + row * stride, bytes, 0, stride);
    this.rows.hold(bytes, stride);
  }
}

/**
 * The hash table of a file, if it is sure to agree with the symbol table. Not with symbol versions, of which several
 * have one name: kernels have none. And not where .symtab has fewer rows than .dynsym: names were taken out of it.
 */
function placeOf(elf: ElfFile, rows: SymbolRows): HashPlace | undefined {
  const { sections } = elf;
  if (sections.some(({ type }) => type === SHT_GNU_VERSYM)) return undefined;
  // GNU's first: it has the hashes at hand, so that hardly any other symbol has to be read to find one.
  const gnu = sections.filter(({ type }) => type === SHT_GNU_HASH);
  const sysv = sections.filter(({ type, entrySize }) => type === SHT_HASH && entrySize <= 4);
  for (const hash of [...gnu, ...sysv]) {
    const place = placeWith(elf, rows, hash, hash.type === SHT_GNU_HASH ? gnuChain : sysvChain);
    if (place) return place;
  }
  return undefined;
}

function placeWith(
  { sections, source }: ElfFile,
  rows: SymbolRows,
  hash: ElfSection,
  chain: typeof gnuChain,
): HashPlace | undefined {
  const symbols = sections[hash.link];
  const names = sections[symbols?.link ?? 0];
  if (symbols?.type !== SHT_DYNSYM || symbols.link === 0 || names === undefined) return undefined;
  const inFile = [hash, symbols, names].every(({ offset, length }) => offset + length <= source.size);
  if (!inFile || hash.length > MAX_HASH_BYTES) return undefined;
  const all = symbolSection(sections);
  const stride = rows.strideOf(symbols);
  const fullStride = all && rows.strideOf(all);
  if (all === undefined || stride === undefined || fullStride === undefined) return undefined;
  const count = Math.floor(symbols.length / stride);
  if (all !== symbols && (all.type === SHT_DYNSYM || all.length / fullStride < count)) return undefined;
  return {
    ...{ chain, symbols, stride, count, names },
    hash: new LazySection(source.source, hash, 'the hash table of the symbols'),
  };
}

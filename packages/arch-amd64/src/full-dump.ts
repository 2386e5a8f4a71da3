import { RootSearch, type FoundRoot, type PhysicalMemory, type RootFacts } from '@libkvm/minidump-core';
import { amd64Walker } from './walker.js';

/** KERNBASE of sys/amd64/include/vmparam.h, where the kernel file does not say it. */
const KERNBASE = 0xffff_ffff_8000_0000n;
/** The image starts so far above KERNBASE (KERNLOAD), and is loaded at a multiple of it, below 4 GB. */
const KERNLOAD = 0x20_0000n;
const FOUR_GB = 1n << 32n;

const CR0_PE_WP_PG = 0x8001_0001n;
const CR4_PAE = 0x20n;
const CR4_LA57 = 0x1000n;
/** LME, LMA, NXE. */
const EFER = 0xd00n;

/** A guess at where the kernel is in memory: KVA - `base` + `at`. */
interface Place {
  readonly base: bigint;
  readonly at: bigint;
}

/**
 * The page tables of a FreeBSD/amd64 kernel, through its variables KPML4phys and, with 5-level paging, KPML5phys
 * (sys/amd64/amd64/pmap.c).
 *
 * Where the image is, follows from PT_DUMP_DELTA (sys/amd64/amd64/dump_machdep.c, from 15 on): PA = KVA - KERNBASE - 2 MB +
 * p_paddr, as the boot page tables map it, or without the 2 MB, should a writer mean it so. Kernels up to 13.0, and those
 * that the loader left at 2 MB, are at KVA - KERNBASE. Others (13.1 on) are looked for at all multiples of 2 MB below 4 GB.
 * A place counts only when the tables that it leads to map the variable to it.
 *
 * @throws KvmError `NO_SYMBOL`, `NOT_DUMPED`, `TRUNCATED`, `MISMATCH`
 */
export function findAmd64Root(memory: PhysicalMemory, facts: RootFacts): FoundRoot {
  const search = new RootSearch(memory, facts, 64);
  const variable = search.needed('KPML4phys');
  const kernbase = search.symbol('kernbase') ?? KERNBASE;
  for (const place of places(facts, kernbase)) {
    const delta = place.at - place.base;
    const root = facts.ruledOut?.has(delta) === true ? undefined : rootAt(memory, search, place);
    if (root === undefined) {
      facts.ruledOut?.add(delta);
      continue;
    }
    return {
      registers: registersOf(root),
      kernbase,
      kernphys: Number(kernbase + KERNLOAD - place.base + place.at),
      warnings: warningsOf(facts, place),
    };
  }
  throw search.failure('KPML4phys', variable);
}

function* places({ delta }: RootFacts, kernbase: bigint): Generator<Place> {
  if (delta) {
    yield { base: delta.virtual, at: delta.physical - KERNLOAD };
    yield { base: delta.virtual, at: delta.physical };
  }
  yield { base: kernbase, at: 0n };
  for (let at = -KERNLOAD; at < FOUR_GB - KERNLOAD; at += KERNLOAD) {
    if (at !== 0n) yield { base: kernbase, at };
  }
}

interface Root {
  readonly levels: 4 | 5;
  readonly pa: number;
}

/**
 * The root that the variables name if the kernel is at a place. With 5-level paging the 4-level root is there as well, for
 * the top of the address space: it is taken only where the variable la57 is 0, or the other does not stand the test.
 */
function rootAt(memory: PhysicalMemory, search: RootSearch, place: Place): Root | undefined {
  const la57 = search.symbol('la57');
  const flat = la57 !== undefined && search.word(paOf(la57, place), 4) === 0;
  const five = flat ? undefined : verified(memory, search, place, 'KPML5phys', 5);
  return five ?? verified(memory, search, place, 'KPML4phys', 4);
}

function verified(
  memory: PhysicalMemory,
  search: RootSearch,
  place: Place,
  name: string,
  levels: 4 | 5,
): Root | undefined {
  const kva = search.symbol(name);
  if (kva === undefined) return undefined;
  const pa = search.word(paOf(kva, place), 8);
  if (!search.isTable(pa, 4096)) return undefined;
  const root: Root = { levels, pa };
  const space = amd64Walker(memory, { registers: registersOf(root) });
  return search.maps(space, kva, paOf(kva, place)) ? root : undefined;
}

function paOf(kva: bigint, { base, at }: Place): bigint {
  return kva - base + at;
}

function registersOf({ levels, pa }: Root): FoundRoot['registers'] {
  const CR4 = levels === 5 ? CR4_PAE | CR4_LA57 : CR4_PAE;
  return { CR0: CR0_PE_WP_PG, CR3: BigInt(pa), CR4, EFER };
}

function warningsOf({ delta }: RootFacts, { base, at }: Place): string[] {
  if (delta === undefined || base - at === delta.virtual - delta.physical + KERNLOAD) return [];
  return ['PT_DUMP_DELTA does not say where the kernel is: its page tables were found elsewhere'];
}

import {
  RootSearch,
  type FoundRoot,
  type PhysicalMemory,
  type Registers,
  type RootFacts,
} from '@libkvm/minidump-core';
import { i386Walker } from './walker.js';

/** KERNBASE of kernels before 12.0 (sys/i386/include/vmparam.h), where the kernel file does not say it. */
const KERNBASE = 0xc000_0000n;

const CR0_PE_WP_PG = 0x8001_0001n;
const CR4_PSE = 0x10n;
const CR4_PAE = 0x20n;
const EFER_NXE = 0x800n;

/** The variable that holds the PA of the root table, and what kind of table it is. */
interface RootVariable {
  readonly name: 'IdlePDPT' | 'IdlePTD' | 'IdlePTD_nopae';
  readonly pae: boolean;
}

/**
 * The page tables of a FreeBSD/i386 kernel, through its variables (sys/i386/i386/pmap.c): IdlePDPT of kernels with PAE or
 * IdlePTD of others; from 13.0 on, where one kernel is both, pae_mode chooses between IdlePDPT and IdlePTD_nopae.
 *
 * The image is at PA = KVA - kernbase. From 12.0 on (the 4/4 GB split), to be recognised by kernload being kernbase or by
 * the symbol tramp_idleptd, PA = KVA. The other of the two is tried as well: a place counts only when the tables that it
 * leads to map the variable to it.
 *
 * @throws KvmError `NO_SYMBOL`, `NOT_DUMPED`, `TRUNCATED`, `MISMATCH`
 */
export function findI386Root(memory: PhysicalMemory, facts: RootFacts): FoundRoot {
  const search = new RootSearch(memory, facts, 32);
  const kernbase = search.symbol('kernbase') ?? KERNBASE;
  const kernload = search.symbol('kernload');
  const split = kernload === kernbase || search.symbol('tramp_idleptd') !== undefined;
  for (const delta of split ? [0n, kernbase] : [kernbase, 0n]) {
    const registers = registersAt(memory, search, delta);
    if (registers === undefined) continue;
    return {
      ...{ registers, kernbase, warnings: [] },
      ...(kernload !== undefined && { kernphys: Number(kernload) }),
    };
  }
  const { name } = rootVariable(search, 0n) ?? { name: 'pae_mode' };
  throw search.failure(name, search.needed(name));
}

/** The registers that lead to the root, if the kernel is at its KVAs less `delta`. */
function registersAt(memory: PhysicalMemory, search: RootSearch, delta: bigint): Registers | undefined {
  const variable = rootVariable(search, delta);
  if (variable === undefined) return undefined;
  const kva = search.needed(variable.name);
  const root = search.word(kva - delta, 4);
  if (!search.isTable(root, variable.pae ? 32 : 4096)) return undefined;
  const registers = {
    CR0: CR0_PE_WP_PG,
    CR3: BigInt(root),
    CR4: variable.pae ? CR4_PAE | CR4_PSE : CR4_PSE,
    EFER: variable.pae ? EFER_NXE : 0n,
  };
  return search.maps(i386Walker(memory, { registers }), kva, kva - delta) ? registers : undefined;
}

/** Which variable holds the root; undefined where the one that says so cannot be read. */
function rootVariable(search: RootSearch, delta: bigint): RootVariable | undefined {
  const paeMode = search.symbol('pae_mode');
  if (paeMode === undefined) {
    return search.symbol('IdlePDPT') !== undefined
      ? { name: 'IdlePDPT', pae: true }
      : { name: 'IdlePTD', pae: false };
  }
  const mode = search.word(paeMode - delta, 4);
  if (mode === undefined) return undefined;
  return mode === 0 ? { name: 'IdlePTD_nopae', pae: false } : { name: 'IdlePDPT', pae: true };
}

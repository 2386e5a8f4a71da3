import {
  KvmError,
  RootSearch,
  type FoundRoot,
  type PhysicalMemory,
  type Registers,
  type RootFacts,
} from '@libkvm/minidump-core';
import type { ArmPteFormat } from './pte-format.js';
import { SCTLR_AFE, SCTLR_B, SCTLR_EE, SCTLR_M, SCTLR_XP } from './registers.js';
import { armWalker } from './walker.js';

/** The L1 table: 4096 entries, aligned to its size. */
const TABLE_BYTES = 0x4000;
const COARSE_TABLE = 1;
/** "Should be one" in a coarse table's entry before ARMv6, on all but XScale; zero from ARMv6 on. */
const COARSE_IMP = 1 << 4;

/** Where the kernel is in memory: KVA - `virtual` + `physical`. */
interface Place {
  readonly virtual: bigint;
  readonly physical: bigint;
}

/**
 * The page tables of a FreeBSD/arm kernel, through its variable kernel_l1pa (sys/arm/arm/pmap-v4.c, pmap-v6.c), in the
 * byte order of the dump. Where the image is, follows from PT_DUMP_DELTA (sys/arm/arm/dump_machdep.c), or from the symbols
 * kernbase and physaddr. It counts only when the table that it leads to maps the variable to it.
 *
 * FreeBSD uses TTBR0 for everything (TTBCR.N = 0). No kernel of it has long descriptors.
 *
 * @throws KvmError `NO_SYMBOL`, `NOT_DUMPED`, `TRUNCATED`, `MISMATCH`, `UNSUPPORTED` (LPAE), `INVALID_ARGUMENT` for a
 *   page-table format that does not exist
 */
export function findArmRoot(memory: PhysicalMemory, facts: RootFacts): FoundRoot {
  if (facts.pteFormat === 'lpae') throw noLongDescriptors();
  const search = new RootSearch(memory, facts, 32);
  const kva = search.needed('kernel_l1pa');
  for (const { virtual, physical } of places(search, facts)) {
    const pa = kva - virtual + physical;
    const root = search.word(pa, 4);
    if (!search.isTable(root, TABLE_BYTES)) continue;
    const pteFormat = facts.pteFormat ?? formatOf(search, root);
    const registers = registersOf(root, pteFormat, facts);
    if (!search.maps(armWalker(memory, { registers, pteFormat }), kva, pa)) continue;
    const kernbase = search.symbol('kernbase') ?? virtual;
    return { registers, pteFormat, kernbase, kernphys: Number(physical), warnings: [] };
  }
  throw search.failure('kernel_l1pa', kva);
}

function places(search: RootSearch, { delta }: RootFacts): Place[] {
  const found: Place[] = delta ? [{ virtual: delta.virtual, physical: delta.physical }] : [];
  const [virtual, physical] = [search.symbol('kernbase'), search.symbol('physaddr')];
  if (virtual !== undefined && physical !== undefined) return [...found, { virtual, physical }];
  if (delta === undefined) search.needed(virtual === undefined ? 'kernbase' : 'physaddr');
  return found;
}

/**
 * The format that the kernel was built for. Where a PA is, both families say alike in all that FreeBSD maps its kernel
 * with; what they say of rights and of 64 KB pages differs.
 *
 * The pmap of ARMv6 and ARMv7 has the variable pmap_kern_ttb (11.0 on); kernels for XScale have its functions. Of others
 * the table tells: see {@link COARSE_IMP}.
 */
function formatOf(search: RootSearch, root: number): ArmPteFormat {
  if (search.symbol('pmap_kern_ttb') !== undefined) return 'v6';
  if (search.symbol('xscale_setttb') !== undefined) return 'xscale';
  for (let at = 0; at < TABLE_BYTES; at += 4) {
    const entry = search.word(BigInt(root + at), 4) ?? 0;
    if ((entry & 3) === COARSE_TABLE && (entry & COARSE_IMP) !== 0) return 'v4';
  }
  return 'v6';
}

/** FreeBSD uses the access flag wherever there is one (sys/arm/include/pte-v6.h). */
function registersOf(root: number, pteFormat: string, { byteOrder }: RootFacts): Registers {
  const big = byteOrder === 'big';
  const TTBR0 = BigInt(root);
  if (pteFormat !== 'v6') return { TTBR0, SCTLR: BigInt(SCTLR_M | (big ? SCTLR_B : 0)) };
  return { TTBR0, TTBCR: 0n, SCTLR: BigInt(SCTLR_M | SCTLR_XP | SCTLR_AFE | (big ? SCTLR_EE : 0)) };
}

function noLongDescriptors(): KvmError {
  return new KvmError('UNSUPPORTED', 'no FreeBSD kernel has LPAE tables: its symbols do not lead to them', {
    field: 'pteFormat',
    hint: 'give the registers TTBR0, TTBR1 and TTBCR (--reg)',
  });
}

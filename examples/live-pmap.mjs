// @ts-check
// What the author of a kernel or emulator implements to dump from a live pmap: DumpMemory, and `mappings` of an
// AddressSpace. Here the pmap is that of a toy machine with 16-bit page tables: node examples/live-pmap.mjs [OUT]
import { writeFileSync } from 'node:fs';
import { dumpToBytes, MAPPED, PageRanges, planPortable, READ, WRITE } from '@libkvm/minidump-core';

const PAGE = 4096;
const FRAMES = 64;
/** First virtual page of the kernel: KVA 0xc0000000. */
const KERNEL_PAGE = 0xc0000;

/** The machine: 256 KB of RAM, and a page table in it: an entry of 16 bits for each page, frame * 4 + writable * 2 + valid. */
export class ToyMachine {
  ram = new Uint8Array(FRAMES * PAGE);
  table = new Uint16Array(this.ram.buffer, 0, PAGE / 2);

  /**
   * @param {number} page from the start of the kernel
   * @param {number} frame
   * @param {boolean} writable
   */
  map(page, frame, writable) {
    this.table[page] = frame * 4 + (writable ? 2 : 0) + 1;
  }
}

/**
 * Its physical memory: what exists, how much of it can be read in one go, and the bytes.
 *
 * @param {ToyMachine} machine
 * @returns {import('@libkvm/minidump-core').DumpMemory}
 */
function memoryOf(machine) {
  return {
    ranges: new PageRanges([{ start: 0, end: FRAMES * PAGE }], PAGE),
    available: (pa, limit) => Math.max(0, Math.min(limit, FRAMES * PAGE - pa)),
    readSync: (pa, target, at, length) => target.set(machine.ram.subarray(pa, pa + length), at),
  };
}

/**
 * Its address space: the mappings in a window of pages, ascending. Nothing is allocated for each; a walk can be left at
 * any time, and is begun anew for every pass.
 *
 * @param {ToyMachine} machine
 * @returns {Pick<import('@libkvm/minidump-core').AddressSpace, 'mappings'>}
 */
function addressSpaceOf(machine) {
  return {
    mappings(fromPage, toPage) {
      let page = Math.max(fromPage, KERNEL_PAGE);
      const end = Math.min(toPage, KERNEL_PAGE + machine.table.length);
      return {
        next(out) {
          while (page < end && (machine.table[page - KERNEL_PAGE] & 1) === 0) page++;
          if (page >= end) return false;
          const entry = machine.table[page - KERNEL_PAGE];
          out.outcome = MAPPED;
          out.page = page++;
          out.offset = 0;
          out.pa = (entry >> 2) * PAGE;
          out.length = PAGE;
          out.pageSize = PAGE;
          out.flags = READ | (entry & 2 ? WRITE : 0);
          out.setEntry(1, entry, 0, 32);
          return true;
        },
      };
    },
  };
}

/** @param {ToyMachine} machine */
export function dumpMachine(machine) {
  return planPortable(
    {
      machine: {
        architecture: 'toy',
        elfMachine: 0,
        bits: 32,
        byteOrder: 'little',
        pageSize: PAGE,
        pteFormat: 'toy16',
        kernbase: BigInt(KERNEL_PAGE * PAGE),
      },
      memory: memoryOf(machine),
      addressSpace: addressSpaceOf(machine),
    },
    { exact: true },
  );
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const machine = new ToyMachine();
  for (let page = 0; page < 20; page++) machine.map(page, 40 - page, page >= 8);
  machine.ram.set(new TextEncoder().encode('hello from a toy'), 40 * PAGE);
  const plan = dumpMachine(machine);
  const out = process.argv[2] ?? 'toy.minidump';
  writeFileSync(out, dumpToBytes(plan));
  console.log(
    `${out}: ${plan.report.pages} pages, ${plan.size} bytes; try \`vmcore resolve ${out} 0xc0000000\``,
  );
}

// @ts-check
// A small core for the tests of a debugger: the machine is a literal, and so are the answers to expect.
// node examples/fixture-core.mjs [OUT]
import { writeFileSync } from 'node:fs';
import { dumpToBytes, literalAddressSpace, literalMemory, planPortable } from '@libkvm/minidump-core';

const KERNBASE = 0xffffffff80000000n;
const text = new TextEncoder();

/** What a test of the debugger would ask for. */
export const EXPECTED = {
  version: { kva: KERNBASE + 0x1000n, text: 'FreeBSD 13.2-RELEASE test fixture' },
  ticks: { kva: KERNBASE + 0x2010n, value: 424242 },
  /** Mapped, but its page is not in the core. */
  absent: KERNBASE + 0x3000n,
  /** Not mapped. */
  hole: KERNBASE + 0x4000n,
};

export function fixtureCore() {
  const data = new DataView(new ArrayBuffer(0x1000));
  data.setUint32(0x10, EXPECTED.ticks.value, true);
  const plan = planPortable(
    {
      machine: {
        architecture: 'amd64',
        elfMachine: 62,
        bits: 64,
        byteOrder: 'little',
        pageSize: 4096,
        pteFormat: 'amd64',
        kernbase: KERNBASE,
      },
      memory: literalMemory([
        { pa: 0x7000, bytes: text.encode(EXPECTED.version.text) },
        { pa: 0x3000, bytes: new Uint8Array(data.buffer) },
        { pa: 0x9000, bytes: text.encode('never seen') },
      ]),
      addressSpace: literalAddressSpace([
        { kva: KERNBASE + 0x1000n, pa: 0x7000, length: 0x1000, protection: 'r-x' },
        { kva: KERNBASE + 0x2000n, pa: 0x3000, length: 0x1000 },
        { kva: KERNBASE + 0x3000n, pa: 0x9000, length: 0x1000 },
      ]),
      notes: { panic: 'fixture', kernelVersion: EXPECTED.version.text },
    },
    { dropPages: [0x9000] },
  );
  return dumpToBytes(plan);
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const out = process.argv[2] ?? 'fixture.minidump';
  const core = fixtureCore();
  writeFileSync(out, core);
  console.log(`${out}: ${core.length} bytes; try \`vmcore pages ${out}\``);
}

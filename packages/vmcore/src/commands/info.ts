import { statSync } from 'node:fs';
import type { Command } from 'commander';
import { toHex, type Core } from '@libkvm/minidump-core';
import type { Kvm } from '@libkvm/kvm-reader';
import { describe } from '../describe.js';
import { dumpObject } from '../dump-facts.js';
import { infoSheet, type CoreFile } from '../info-sheet.js';
import { kernelFacts, type KernelFacts } from '@libkvm/kvm-reader';
import { addCoreOptions, withCore, type CoreOptions } from '../open.js';
import type { Session } from '../session.js';

interface InfoOptions extends CoreOptions {
  readonly json?: boolean;
}

/** `vmcore info`. */
export function addInfo(program: Command, session: Session): void {
  const command = program
    .command('info')
    .summary('what a core is')
    .description(
      'Says what a core file is: its format, machine, sections and sizes, how many pages it holds and whether it is cut ' +
        'short; with the kernel also its version, the panic, and whether the two belong together.',
    )
    .argument('<core>', 'core file')
    .option('--json', 'print JSON, one object');
  addCoreOptions(command).action(async (core: string, options: InfoOptions) => {
    await withCore(session, core, options, async (kvm) => {
      const file = { path: core, size: statSync(core).size };
      const kernel = kernelFacts(kvm);
      if (session.json) session.out.json(infoObject(file, kvm, kernel));
      else session.out.write(infoSheet(file, kvm, kernel, session.out));
    });
  });
  describe(command, {
    json: `One object: \`format\`, \`architecture\`, \`version\`, \`byteOrder\`, \`bits\`, \`pageSize\`, \`pteFormat\`,
\`kernbase\`, \`directMap:{base,end,phys}\`, \`fileSize\`, \`sections:[{name,offset,length}]\`,
\`pages:{dumped,missing,partial}\`, \`ranges:[{start,end}]\`, \`dumpHeader\` (that of a dump device, else null),
\`infoFile\` (what info.N beside the core says, else null), \`dataOffset\` (of the core in the file), \`notes\`, \`warnings\`. With --kernel also
\`kernel:{verdict,reason,buildId}\`, \`kernelVersion\`, \`osrelease\` and \`panic\`, those that can be read. \`panic\` is
null when the kernel had not panicked.`,
    examples: ['vmcore info vmcore.0', 'vmcore info vmcore.0 --kernel /boot/kernel/kernel'],
  });
}

function infoObject({ size }: CoreFile, kvm: Kvm, kernel: KernelFacts | undefined): Record<string, unknown> {
  const { core } = kvm;
  const { format, architecture, byteOrder, bits, pageSize, kernbase, memory } = core;
  const { dumped, missing, partial } = memory.pages;
  return {
    format,
    architecture,
    version: core.version ?? null,
    byteOrder,
    bits,
    pageSize,
    pteFormat: core.pteFormat ?? null,
    kernbase: kernbase === undefined ? null : toHex(kernbase),
    directMap: directMap(core),
    fileSize: size,
    sections: core.sections.map(({ name, offset, length }) => ({ name, offset, length })),
    pages: { dumped, missing, partial },
    ranges: memory.ranges.ranges.map(({ start, end }) => ({ start: toHex(start), end: toHex(end) })),
    ...dumpObject(core),
    notes: core.notes ?? {},
    warnings: core.warnings,
    ...(kernel && kernelFields(kernel)),
  };
}

function directMap({ directMap: window }: Core): Record<string, string> | null {
  if (window === undefined) return null;
  return { base: toHex(window.base), end: toHex(window.end), phys: toHex(window.phys) };
}

/** Fields that are undefined are left out of JSON. */
function kernelFields(kernel: KernelFacts): Record<string, unknown> {
  const { verdict, reason, buildId, version, osrelease, panic } = kernel;
  return { kernel: { verdict, reason, buildId }, kernelVersion: version, osrelease, panic };
}

import {
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  planPortable,
  type DumpSource,
  type KvmError,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Resolved } from '../src/answers.js';
import { planElf } from '../src/elf-write-plan.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures } from '../src/node.js';
import { runs } from './support/long.js';
import { ramImage } from './support/ram-image.js';
import { DUMP_VARIANTS, VARIANTS, type Truth, type WalkedMachine } from './support/variants.js';

/**
 * Full dumps of every architecture, page-table format and byte order: whatever the source, the file answers what the
 * literal description of the machine says, through page tables that a walker reads.
 */

const architectures = defaultArchitectures;

describe.each(VARIANTS)('a full dump of $name', ({ make }) => {
  it('with the page tables of the machine answers what is true of it', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const machine = make(seed);
        const dump = fullDump(dumpSourceOf(openMachine(machine).core));
        expect(dump.report.tables.bytes).toBe(0);
        for (const kva of machine.probes) checkProbe(dump.kvm, machine, kva);
      }),
      runs(4),
    );
  });

  it('with page tables that were made answers what is true of it', () => {
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), (seed, exact) => {
        const machine = make(seed);
        const image = openMachine(machine);
        const portable = planPortable(dumpSourceOf(image.core), {
          exact,
          tolerateDamage: true,
          pages: 'all',
        });
        const kept = openKvm(dumpToBytes(portable), { architectures: [] });
        const dump = fullDump(dumpSourceOf(kept.core));
        // Halves with different granules become halves of the smaller one.
        const mixed = kept.core.pteFormat === '';
        for (const kva of machine.probes) {
          // A table outside of RAM: nobody can tell what it maps.
          if (isKvmError(ask(image, kva), 'NOT_DUMPED') && machine.truth(kva) !== undefined) continue;
          checkProbe(dump.kvm, machine, kva, mixed);
          const before = ask(kept, kva);
          const after = ask(dump.kvm, kva);
          if (isKvmError(before) || isKvmError(after)) continue;
          if (!mixed)
            expect([after.level, after.physicalAddress]).toEqual([before.level, before.physicalAddress]);
        }
        const kinds = new Set(dump.report.lossList?.map(({ kind }) => kind));
        for (const kind of ['protection', 'mapping', ...(mixed ? [] : ['pageSize'])])
          expect(kinds).not.toContain(kind);
      }),
      runs(6),
    );
  });
});

describe.each(DUMP_VARIANTS)('a full dump of a FreeBSD minidump, $name', ({ make }) => {
  it('answers as the minidump does', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const { bytes, probes } = make(seed);
        const minidump = openKvm(bytes, { architectures });
        if (minidump.core.memory.pages.dumped === 0) return;
        const { kvm: dump, report } = fullDump(dumpSourceOf(minidump.core));
        expect(report.pages).toBe(minidump.core.memory.pages.dumped);
        // Nothing is mapped: there are no page tables to ask.
        if (report.mappings === 0 && minidump.core.directMap === undefined) return;
        const direct = minidump.core.directMap;
        for (const kva of probes) {
          const before = ask(minidump, kva);
          const after = ask(dump, kva);
          const inDirectMap = direct !== undefined && kva >= direct.base && kva < direct.end;
          // Where a table is missing, nobody can tell.
          if (outline(before, inDirectMap) === 'nothing' && isKvmError(after)) continue;
          expect(outline(after, inDirectMap), kva.toString(16)).toEqual(outline(before, inDirectMap));
          if (isKvmError(before)) continue;
          expect(dump.readU8(kva)).toBe(minidump.readU8(kva));
        }
      }),
      runs(5),
    );
  });
});

function openMachine({ ram, image }: WalkedMachine): Kvm {
  const { source, ranges } = ramImage(ram);
  return openKvm(source, { architectures, raw: ranges, image });
}

function fullDump(source: DumpSource): { kvm: Kvm; report: ReturnType<typeof planElf>['report'] } {
  const plan = planElf(source, { architectures });
  const bytes = dumpToBytes(plan);
  expect(bytes.length).toBe(plan.size);
  // What was told of the machine by hand is not told again: all of it is in the file.
  return { kvm: openKvm(bytes, { architectures }), report: plan.report };
}

function ask(kvm: Kvm, kva: bigint): Resolved | KvmError {
  try {
    return kvm.resolve(kva);
  } catch (error) {
    if (isKvmError(error)) return error;
    throw error;
  }
}

function checkProbe(kvm: Kvm, { ram, truth }: WalkedMachine, kva: bigint, anySize = false): void {
  const at = `0x${kva.toString(16)}`;
  const wanted = truth(kva);
  const answer = ask(kvm, kva);
  if (wanted === undefined) {
    if (!isKvmError(answer) || answer.physicalAddress !== undefined) expect.fail(`${at} is mapped`);
    return;
  }
  // A table that no RAM holds.
  if (isKvmError(answer, 'NOT_DUMPED') && answer.physicalAddress === undefined) return;
  if (answer.physicalAddress !== wanted.pa)
    expect.fail(`${at}: PA ${answer.physicalAddress}, not ${wanted.pa}`);
  if (isKvmError(answer)) {
    // No RAM, or RAM that ends inside a page: a dump holds whole pages.
    const page = wanted.pa - (wanted.pa % 4096);
    const whole = ram.ranges.some(({ start, end }) => start <= page && page + 4096 <= end);
    if (whole) expect.fail(`${at}: ${answer.message}`);
    return;
  }
  checkFacts(answer, anySize ? { ...wanted, pageSize: answer.pageSize } : wanted, at);
  if (kvm.readU8(kva) !== ram.readBytes(wanted.pa, 1)[0]) expect.fail(`${at} has another byte`);
}

function checkFacts({ pageSize, protection }: Resolved, wanted: Truth, at: string): void {
  expect({ at, pageSize, protection }).toEqual({
    at,
    pageSize: wanted.pageSize ?? pageSize,
    protection: wanted.protection ?? protection,
  });
}

/** What has to be the same in both files. Of a page of the direct map that is not there, only that it is not. */
function outline(answer: Resolved | KvmError, inDirectMap: boolean): unknown {
  if (isKvmError(answer)) {
    if (inDirectMap || (answer.code === 'NOT_DUMPED' && answer.physicalAddress === undefined))
      return 'nothing';
    return answer.code === 'NOT_CANONICAL'
      ? ['NOT_MAPPED', undefined]
      : [answer.code, answer.physicalAddress];
  }
  const { physicalAddress, protection, pageSize } = answer;
  return inDirectMap ? [physicalAddress, protection] : [physicalAddress, protection, pageSize];
}

import fc from 'fast-check';
import { unpackedFile } from '@libkvm/fixtures/node';
import { dumpToBytes, type DumpPlan } from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openKvm, planConversion, type ConvertOptions } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures as architectures, openKvmFile } from '../src/node.js';
import { compare, CReader, type Agreement, type Question } from './c-reader/c-reader.js';
import { runs } from './support/long.js';
import { ramImage } from './support/ram-image.js';
import { DUMP_VARIANTS, VARIANTS } from './support/variants.js';

/**
 * The FreeBSD minidumps that are written, as an existing C reader sees them: for every address the bytes that this library
 * reads, or none. Runs where the environment variable LIBKVM_C_READER names a driver program,
 *
 *   driver KERNEL CORE
 *
 * with a line "KVA LEN" a read on stdin (hex, decimal), and a line of hex or "-" each on stdout. Status 1 says that it
 * does not open the core, stderr why. c-reader/driver.c is one over libfbsdvmcore, and says how to build it.
 */
const PROGRAM = process.env.LIBKVM_C_READER;
if (PROGRAM === undefined) console.log('skipped: LIBKVM_C_READER names no driver of a C reader');

interface Target {
  readonly pteFormat?: string;
  readonly versions: readonly number[];
}
const TARGETS: Readonly<Record<string, readonly Target[]>> = {
  amd64: [{ versions: [1, 2, 3] }],
  i386: [
    { pteFormat: 'nopae', versions: [1, 2] },
    { pteFormat: 'pae', versions: [1, 2] },
  ],
  arm: [
    { pteFormat: 'v4', versions: [1, 2] },
    { pteFormat: 'xscale', versions: [2] },
    { pteFormat: 'v6', versions: [1, 2] },
  ],
};
const TOP = 1n << 64n;
/** Of amd64 one half of the canonical address space, and of version 1 what its table can hold. */
const UPPER = { from: TOP - (1n << 47n), to: TOP };
const KERNEL = { from: 0xffff_ffff_8000_0000n, to: TOP };

interface Source {
  readonly name: string;
  make(seed: number): { readonly kvm: Kvm; readonly probes: readonly bigint[] };
}

const SOURCES: readonly Source[] = [
  ...VARIANTS.map(({ name, make }) => ({
    name: `memory of ${name}`,
    make(seed: number) {
      const { ram, image, probes } = make(seed);
      const { source, ranges } = ramImage(ram);
      return { kvm: openKvm(source, { architectures, raw: ranges, image }), probes };
    },
  })),
  ...DUMP_VARIANTS.map(({ name, make }) => ({
    name: `the minidump of ${name}`,
    make(seed: number) {
      const { bytes, probes } = make(seed);
      return { kvm: openKvm(bytes, { architectures }), probes };
    },
  })),
].filter(({ name }) => !name.includes('arm64'));

let reader: CReader;
beforeAll(() => {
  if (PROGRAM !== undefined) reader = new CReader(PROGRAM);
});
afterAll(() => reader?.close());

describe.skipIf(PROGRAM === undefined).each(SOURCES)('a FreeBSD minidump of $name', ({ make }) => {
  it('says to a C reader what it says to this library', () => {
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), fc.boolean(), (seed, all, attributes) => {
        const { kvm, probes } = make(seed);
        for (const { pteFormat, versions } of TARGETS[kvm.core.architecture]) {
          for (const version of versions) {
            const plan = planOf(kvm, {
              ...{ version, pages: all ? 'all' : 'mapped' },
              superpages: attributes ? 'attributes' : 'freebsd',
              ...(pteFormat !== undefined && { pteFormat }),
            });
            if (plan.report.pages > 0) agreement(plan, probes);
          }
        }
      }),
      runs(2),
    );
  });
});

describe.skipIf(PROGRAM === undefined)('what the C reader does not open', () => {
  const arm = VARIANTS.find(({ name }) => name === 'arm lpae little-endian')!;

  it('are long descriptors, which are an extension: their version says so', () => {
    const { ram, image } = arm.make(1);
    const { source, ranges } = ramImage(ram);
    const kvm = openKvm(source, { architectures, raw: ranges, image });
    for (const version of [1, 2]) {
      const bytes = dumpToBytes(planOf(kvm, { version, pteFormat: 'lpae' }));
      const verdict = reader.ask(openKvm(bytes, { architectures }), bytes, []);
      expect(verdict).toMatchObject({
        refusal: expect.stringMatching(`version.*${0x100 + version}`) as unknown,
      });
    }
  });
});

const core = unpackedFile('cores/vmcore-amd64-minidump.bz2');
if (core === undefined) console.log('skipped: no real core in ../shared/cores (or VMCORE_FIXTURES)');

describe.skipIf(PROGRAM === undefined || core === undefined)('the dump of a FreeBSD kernel', () => {
  it.each([2, 3])('says the same when it was converted to version %i', (version) => {
    const kvm = openKvmFile(core!);
    const plan = planConversion(kvm, { architectures, format: 'freebsd', version });
    const { read } = agreement(plan, []);
    expect(read).toBeGreaterThan(1000);
    kvm.close();
  });
});

function planOf(kvm: Kvm, options: Omit<ConvertOptions, 'architectures'>): DumpPlan {
  const window = kvm.core.architecture !== 'amd64' ? {} : options.version === 1 ? KERNEL : UPPER;
  const anyhow = { format: 'freebsd', leaveOut: true, tolerateDamage: true };
  return planConversion(kvm, { ...anyhow, ...window, ...options, architectures });
}

/** Asks both readers about addresses, and about both ends of each mapping. */
function agreement(plan: DumpPlan, probes: readonly bigint[]): Agreement {
  const bytes = dumpToBytes(plan);
  const dump = openKvm(bytes, { architectures });
  const questions = [...probes.flatMap(around), ...mapped(dump)].filter(([kva]) => kva >= 0n && kva < TOP);
  const verdict = reader.ask(dump, bytes, questions);
  if ('refusal' in verdict) throw new Error(`it is not opened: ${verdict.refusal}`);
  return compare(dump, questions, verdict.answers);
}

function around(kva: bigint): Question[] {
  return [
    [kva, 1],
    [kva, 24],
  ];
}

function* mapped(dump: Kvm): Generator<Question> {
  let left = 2000;
  for (const { kva, dmap, length } of dump.pages()) {
    if (left-- === 0) return;
    if (dmap !== undefined) yield [dmap, 8];
    if (kva !== undefined) yield* [[kva - 1n, 2] as const, [kva + BigInt(length) - 8n, 16] as const];
  }
}

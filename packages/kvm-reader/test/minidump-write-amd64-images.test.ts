import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { amd64, amd64Minidump } from '@libkvm/arch-amd64';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import {
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  planMinidump,
  toHex,
  type DumpPlan,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { FileSource } from '../src/node-file-source.js';
import { SparseStore } from './support/sparse-store.js';

/** Real page tables as FreeBSD/amd64 minidumps. The oracle is the MMU of the emulator that ran the machine. */

const TOP = 1n << 64n;
const LOWER: Window = { from: 0n, to: 1n << 47n };
const UPPER: Window = { from: TOP - (1n << 47n), to: TOP };
const KERNEL: Window = { from: 0xffff_ffff_8000_0000n, to: TOP };
const LOW_GIGABYTES: Window = { from: 0n, to: 0x1_0000_0000n };
interface Window {
  readonly from: bigint;
  readonly to: bigint;
}

interface Row {
  readonly va: string;
  readonly pa: string | null;
}

/** A way to write an image. */
interface Way {
  readonly what: string;
  readonly window: Window;
  readonly options: MinidumpOptions;
  /** The kinds of what is lost. */
  readonly lost: readonly string[];
}

const ATTRIBUTES: MinidumpOptions = { version: 1, superpages: 'attributes' };

/** Linux: no page of 1 GB, no right that only an upper level takes away. */
const LINUX: readonly Way[] = [
  { what: 'the upper half, version 3', window: UPPER, options: { version: 3 }, lost: [] },
  { what: 'the upper half, version 2', window: UPPER, options: { version: 2 }, lost: [] },
  { what: 'the lower half, version 3', window: LOWER, options: { version: 3 }, lost: [] },
  {
    ...{ what: 'the kernel, version 1', window: KERNEL, options: { version: 1 } },
    lost: ['global', 'pageSize', 'protection'],
  },
  { what: 'the kernel, version 1 with attributes', window: KERNEL, options: ATTRIBUTES, lost: ['pageSize'] },
  { what: 'user pages, version 1', window: LOW_GIGABYTES, options: { version: 1 }, lost: [] },
  {
    what: 'a window that begins in a superpage, version 3',
    window: { from: 0xffff_ffff_8100_3000n, to: TOP },
    ...{ options: { version: 3 }, lost: ['pageSize'] },
  },
];

/** Tables made for tests: pages of 1 GB, and upper levels that take rights away. */
const BARE: readonly Way[] = [
  { what: 'the upper half, version 3', window: UPPER, options: { version: 3 }, lost: ['entry', 'pageSize'] },
  { what: 'the upper half, version 2', window: UPPER, options: { version: 2 }, lost: ['entry', 'pageSize'] },
  { what: 'the lower half, version 3', window: LOWER, options: { version: 3 }, lost: ['pageSize'] },
  {
    ...{ what: 'its end, version 1', window: KERNEL, options: { version: 1 } },
    lost: ['entry', 'pageSize', 'protection'],
  },
  {
    ...{ what: 'its end, version 1 with attributes', window: KERNEL, options: ATTRIBUTES },
    lost: ['entry', 'pageSize'],
  },
  { what: 'the first 4 GB, version 1', window: LOW_GIGABYTES, options: ATTRIBUTES, lost: ['pageSize'] },
  {
    what: 'a window that cuts pages of 1 GB and 2 MB, version 3',
    window: { from: 0xffff_8000_3000_3000n, to: 0xffff_8000_4010_0000n },
    ...{ options: { version: 3 }, lost: ['pageSize'] },
  },
];

for (const [name, ways] of [
  ['amd64-nokaslr', LINUX],
  ['x86-64-bare', BARE],
] as const) {
  const path = unpackedFile(`images/${name}/image.elf.xz`);
  if (path === undefined) console.warn(`images/${name} is not there: its tests are skipped`);
  describe.skipIf(path === undefined)(`image ${name}`, () => {
    let source: FileSource;
    let image: Kvm;
    let rows: Row[];
    const plan = (options: MinidumpOptions): DumpPlan =>
      planMinidump(dumpSourceOf(image.core), amd64Minidump, options);
    beforeAll(() => {
      source = new FileSource(path ?? '');
      image = openKvm(source, { architectures: [amd64] });
      const text = gunzipSync(
        readFileSync(sharedFile(`images/${name}/translations.jsonl.gz`) ?? ''),
      ).toString();
      rows = text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Row);
    });
    afterAll(() => source.close());

    it.each(ways)('$what', ({ window, options, lost }) => {
      const planned = plan({ ...options, ...window });
      const dump = openKvm(SparseStore.of(planned), { architectures: [amd64] });
      expect(dump.core.warnings).toEqual([]);
      const inside = rows.filter(({ va }) => BigInt(va) >= window.from && BigInt(va) < window.to);
      expect(inside.length).toBeGreaterThan(5);
      const wrong = inside.filter(({ va, pa }) => paOf(dump, va) !== pa);
      expect(wrong.map(({ va, pa }) => `${va}: ${paOf(dump, va)}, not ${pa}`)).toEqual([]);
      const kinds = planned.report.lossList!.map(({ kind }) => kind).filter((kind) => kind !== 'note');
      expect([...new Set(kinds)].sort()).toEqual(lost);
      if (!kinds.includes('protection'))
        for (const { va } of inside) expect([va, rightsOf(dump, va)]).toEqual([va, rightsOf(image, va)]);
      checkPages(image, dump, planned);
    });

    it('is refused where there is no room for it', () => {
      for (const version of [1, 2, 3]) {
        const error = expectCode('UNSUPPORTED', () => plan({ version }));
        expect(error.message).toMatch(
          /the mapping at 0x[0-9a-f]+ to 0x[0-9a-f]+ and KVAs of the other canonical half/,
        );
        expect(error.hint).toMatch(/--kva/);
      }
      const error = expectCode('UNSUPPORTED', () => plan({ version: 1, ...UPPER }));
      expect(error.message).toMatch(
        /the page-table section for 0xffff8.* would have 0x[0-9a-f]+ bytes, 4 GB or more/,
      );
      expect(error.hint).toMatch(/--kva/);
    });
  });
}

const real = unpackedFile('cores/vmcore-amd64-minidump.bz2');
if (real === undefined) console.warn('cores/vmcore-amd64-minidump is not there: its test is skipped');

describe.skipIf(real === undefined)('the dump of a FreeBSD kernel', () => {
  it('has the same table section when it is written again', () => {
    const bytes = readFileSync(real ?? '');
    const kvm = openKvm(bytes, { architectures: [amd64] });
    const { version = 0, memory, sections } = kvm.core;
    const planned = planMinidump(dumpSourceOf(kvm.core), amd64Minidump, { version, pages: 'all' });
    const written = dumpToBytes(planned);
    for (const name of ['header', 'msgbuf', 'dumpAvail', 'table']) {
      const { offset, length } = sections.find((section) => section.name === name)!;
      const [ours, theirs] = [written, bytes].map((file) => file.subarray(offset, offset + length));
      expect([name, Buffer.compare(ours, theirs)]).toEqual([name, 0]);
    }
    // The file is cut short: the pages that it lacks are not in the new one.
    expect(planned.report.pages).toBe(memory.pages.dumped - memory.pages.missing - memory.pages.partial);
    expect(planned.report.lossList!.filter(({ kind }) => kind !== 'note')).toEqual([]);
  });
});

/** The PA of a KVA, whether its page is there or not; null when it is not mapped. */
function paOf(kvm: Kvm, va: string): string | null {
  try {
    return toHex(kvm.resolve(BigInt(va)).physicalAddress);
  } catch (error) {
    if (!isKvmError(error)) throw error;
    if (error.physicalAddress !== undefined) return toHex(error.physicalAddress);
    return ['NOT_MAPPED', 'NOT_CANONICAL', 'NOT_DUMPED'].includes(error.code) ? null : error.code;
  }
}

/** Protection, and the size of the page where it stays. */
function rightsOf(kvm: Kvm, va: string): string {
  try {
    return kvm.resolve(BigInt(va)).protection;
  } catch (error) {
    if (isKvmError(error)) return 'nothing';
    throw error;
  }
}

/** Every page of a dump is the image's, but for the page tables that were made up. */
function checkPages(image: Kvm, dump: Kvm, { report }: DumpPlan): void {
  const ours = new Uint8Array(4096);
  const theirs = new Uint8Array(4096);
  const { memory } = dump.core;
  let pages = 0;
  let made = 0;
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
    pages++;
    if (!image.core.memory.ranges.has(pa)) {
      made++;
      continue;
    }
    dump.readPhysicalInto(pa, ours);
    image.readPhysicalInto(pa, theirs);
    if (Buffer.compare(ours, theirs) !== 0) throw new Error(`page ${pa.toString(16)} differs`);
  }
  expect(pages).toBe(report.pages);
  expect(made).toBeLessThanOrEqual(report.tables.pages!);
}

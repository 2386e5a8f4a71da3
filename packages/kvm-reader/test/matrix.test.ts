import type { SimRam } from '@libkvm/fixtures';
import {
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  planPortable,
  type ByteSource,
  type KvmError,
  type PlanOptions,
} from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openKvm } from '../src/index.js';
import type { Resolved } from '../src/answers.js';
import type { Kvm } from '../src/kvm.js';
import { defaultArchitectures } from '../src/node.js';
import { runs } from './support/long.js';
import { DUMP_VARIANTS, VARIANTS, type Truth, type WalkedMachine } from './support/variants.js';

/**
 * Cross-debugging: every architecture, page-table format and byte order through the one reader, on this one host, with
 * the same test body. What is true comes from the literal description of each machine.
 */

const WAYS: readonly PlanOptions[] = [{}, { run: false }, { exact: true }, { exact: true, run: false }];

describe.each(VARIANTS)('$name', ({ make }) => {
  it('walks, plans, writes and opens to what is true of the machine', () => {
    const property = fc.property(fc.nat(), fc.constantFrom(...WAYS), (seed, way) => {
      const machine = make(seed);
      const { ranges, source } = image(machine.ram);
      const direct = openKvm(source, {
        architectures: defaultArchitectures,
        raw: ranges,
        image: machine.image,
      });
      const plan = planPortable(dumpSourceOf(direct.core), { ...way, tolerateDamage: true });
      const dump = openKvm(dumpToBytes(plan), { architectures: [] });
      for (const kva of machine.probes) {
        const answer = ask(direct, kva);
        // A table outside of RAM: the walk knows that it does not know.
        if (isKvmError(answer, 'NOT_DUMPED') && answer.physicalAddress === undefined) continue;
        expect(disagreement(answer, direct, machine, kva)).toBe('');
        const kept = ask(dump, kva);
        expect(disagreement(kept, dump, machine, kva)).toBe('');
        if (!isKvmError(kept)) expect(kept.entry).toBe(way.exact === true ? entryOf(answer) : undefined);
      }
    });
    fc.assert(property, runs(6));
  });
});

describe.each(DUMP_VARIANTS)('FreeBSD minidump, $name', ({ make }) => {
  it('answers what is true of the machine', () => {
    const property = fc.property(fc.nat(), (seed) => {
      const { bytes, ram, probes, truth } = make(seed);
      const kvm = openKvm(bytes, { architectures: defaultArchitectures });
      for (const kva of probes) {
        const wanted = truth(kva);
        const answer = ask(kvm, kva);
        if (wanted === 'unknown') expect(isKvmError(answer, 'NOT_DUMPED', 'TRUNCATED')).toBe(true);
        else if (wanted?.absent === true) {
          expect(isKvmError(answer, 'NOT_DUMPED') && answer.physicalAddress).toBe(wanted.pa);
        } else expect(disagreement(answer, kvm, { ram, truth: () => wanted }, kva)).toBe('');
      }
    });
    fc.assert(property, runs(6));
  });
});

describe('addresses of a 32-bit machine', () => {
  it.each(VARIANTS.filter(({ name }) => /^(i386|arm )/.test(name)))('sign-extended, $name', ({ make }) => {
    const machine = make(7);
    const { ranges, source } = image(machine.ram);
    const kvm = openKvm(source, { architectures: defaultArchitectures, raw: ranges, image: machine.image });
    for (const kva of machine.probes) {
      const extended = BigInt.asUintN(64, BigInt.asIntN(32, kva));
      expect(outline(ask(kvm, extended))).toEqual(outline(ask(kvm, kva)));
    }
    for (const kva of [2n ** 32n, 2n ** 63n, 0xffff_ffff_0000_0000n, 0xffff_fffe_8000_0000n]) {
      expect(isKvmError(ask(kvm, kva), 'NOT_CANONICAL')).toBe(true);
    }
  });
});

function ask(kvm: Kvm, kva: bigint): Resolved | KvmError {
  try {
    return kvm.resolve(kva);
  } catch (error) {
    if (isKvmError(error)) return error;
    throw error;
  }
}

/** How an answer differs from what is true; an empty string when it does not. */
function disagreement(
  answer: Resolved | KvmError,
  kvm: Kvm,
  { ram, truth }: Pick<WalkedMachine, 'ram' | 'truth'>,
  kva: bigint,
): string {
  const at = `0x${kva.toString(16)}`;
  const wanted = truth(kva);
  if (wanted === undefined)
    return isKvmError(answer) && answer.physicalAddress === undefined ? '' : `${at} is mapped`;
  if (answer.physicalAddress !== wanted.pa) return `${at}: PA ${answer.physicalAddress}, not ${wanted.pa}`;
  // RAM that ends inside a page: a minidump holds whole pages only.
  if (isKvmError(answer)) return isWhole(ram, wanted.pa) ? `${at}: ${answer.message}` : '';
  return facts(answer, wanted, at) || bytesDiffer(kvm, ram, kva, wanted.pa, at);
}

function isWhole({ ranges }: SimRam, pa: number): boolean {
  const page = pa - (pa % 4096);
  return ranges.some(({ start, end }) => start <= page && page + 4096 <= end);
}

function facts({ pageSize, protection }: Resolved, wanted: Truth, at: string): string {
  if (wanted.pageSize !== undefined && pageSize !== wanted.pageSize)
    return `${at}: page size ${pageSize}, not ${wanted.pageSize}`;
  if (wanted.protection !== undefined && protection !== wanted.protection)
    return `${at}: ${protection}, not ${wanted.protection}`;
  return '';
}

function bytesDiffer(kvm: Kvm, ram: SimRam, kva: bigint, pa: number, at: string): string {
  const ours = kvm.readU8(kva);
  const theirs = ram.readBytes(pa, 1)[0];
  return ours === theirs ? '' : `${at}: byte ${ours}, not ${theirs}`;
}

function entryOf(answer: Resolved | KvmError): bigint | undefined {
  return isKvmError(answer) ? undefined : answer.entry;
}

function outline(answer: Resolved | KvmError): unknown {
  return isKvmError(answer) ? [answer.code, answer.physicalAddress] : { ...answer, kva: undefined };
}

/** RAM as a raw image: its ranges one behind the other. */
function image(ram: SimRam): {
  source: ByteSource;
  ranges: { pa: number; offset: number; length: number }[];
} {
  let size = 0;
  const ranges = ram.ranges.map(({ start, end }) => {
    const range = { pa: start, offset: size, length: end - start };
    size += range.length;
    return range;
  });
  const source: ByteSource = {
    size,
    readSync(offset, target, at, length) {
      let done = 0;
      for (const range of ranges) {
        const inside = offset + done - range.offset;
        if (inside < 0 || inside >= range.length || done >= length) continue;
        const count = Math.min(length - done, range.length - inside);
        target.set(ram.readBytes(range.pa + inside, count), at + done);
        done += count;
      }
      return done;
    },
  };
  return { source, ranges };
}

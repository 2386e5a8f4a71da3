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
import { defaultArchitectures } from '../src/node.js';
import { FACES, outcome, runsOf, syncFace, type Face } from './support/faces.js';
import { DUMP_VARIANTS, VARIANTS, type Truth, type WalkedMachine } from './support/variants.js';

/**
 * Cross-debugging: every architecture, page-table format and byte order through the one reader, on this one host, with
 * the same test body, on every face of an opened core. What is true comes from the literal description of each machine.
 */

const WAYS: readonly PlanOptions[] = [{}, { run: false }, { exact: true }, { exact: true, run: false }];

/** Calls that are compared between the faces, errors whole: codes, addresses, lengths, hints. */
const CALLS: readonly ((face: Face, kva: bigint) => Promise<unknown>)[] = [
  (face, kva) => face.resolve(kva),
  (face, kva) => face.read(kva, 0),
  (face, kva) => face.readPartial(kva, 5000),
  (face, kva) => face.readPartial(kva, 70_000),
  (face, kva) => face.read(kva, 70_000),
  (face, kva) => face.read(kva, 70_000, { pad: true }),
  (face, kva) => face.readPointer(kva),
  (face, kva) => face.readU16(kva),
  (face, kva) => face.readCString(kva, 40),
  (face, kva) => face.readPhysical(Number(kva & 0xffff_ffffn), 100),
  (face, kva) => face.readPhysical(Number(kva & 0xffff_ffffn), 66_000),
  (face, kva) => face.read(kva, 2 ** 33),
];

/** One of the calls about each of some addresses, on a face and on `Kvm`. */
async function compareFaces(face: Face, twin: Face, probes: readonly bigint[], seed: number): Promise<void> {
  const step = Math.max(1, Math.floor(probes.length / 60));
  for (let i = seed % step; i < probes.length; i += step) {
    const call = CALLS[(i + seed) % CALLS.length];
    const [found, wanted] = [
      await outcome(() => call(face, probes[i])),
      await outcome(() => call(twin, probes[i])),
    ];
    if (JSON.stringify(found, bigints) !== JSON.stringify(wanted, bigints)) expect(found).toEqual(wanted);
  }
  await compareWalks(face, twin, probes[seed % probes.length] ?? 0n);
}

/** The start of a page walk from some address on, and of a search for bytes that are somewhere. */
async function compareWalks(face: Face, twin: Face, from: bigint): Promise<void> {
  const end = 1n << BigInt(twin.core.bits);
  const to = from + 0x400_0000n;
  // Not all of it: random tables may share tables, and then be walked through thousands of times.
  const window = { from, to: to < end ? to : end };
  const rows = (one: Face): Promise<unknown> => start(one.pages(window), 300);
  expect(await rows(face)).toEqual(await rows(twin));
  const pa = twin.core.memory.nextDumped(0);
  // RAM may begin and end inside a page.
  if (pa < 0 || twin.core.memory.locate(pa) < 0) return;
  const needle = await twin.readPhysical(pa, 6);
  const found = (one: Face): Promise<unknown> => start(one.searchPhysical(needle), 20);
  expect(await found(face)).toEqual(await found(twin));
}

async function start<T>(items: AsyncIterable<T>, count: number): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) if (found.push(item) === count) break;
  return found;
}

const bigints = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);

describe.each(VARIANTS)('$name', ({ make }) => {
  it.each(FACES)('walks, plans, writes and opens to what is true of the machine, $name', async (kind) => {
    const property = fc.asyncProperty(fc.nat(), fc.constantFrom(...WAYS), async (seed, way) => {
      const machine = make(seed);
      const { ranges, source } = image(machine.ram);
      const options = { architectures: defaultArchitectures, raw: ranges, image: machine.image };
      const direct = openKvm(source, options);
      const plan = planPortable(dumpSourceOf(direct.core), { ...way, tolerateDamage: true });
      const bytes = dumpToBytes(plan);
      const [walked, dump] = [
        await kind.open(source, options),
        await kind.open(bytes, { architectures: [] }),
      ];
      for (const kva of machine.probes) {
        const answer = await ask(walked, kva);
        // A table outside of RAM: the walk knows that it does not know.
        if (isKvmError(answer, 'NOT_DUMPED') && answer.physicalAddress === undefined) continue;
        expect(await disagreement(answer, walked, machine, kva)).toBe('');
        const kept = await ask(dump, kva);
        expect(await disagreement(kept, dump, machine, kva)).toBe('');
        if (!isKvmError(kept)) expect(kept.entry).toBe(way.exact === true ? entryOf(answer) : undefined);
      }
      if (kind === FACES[0]) return;
      await compareFaces(walked, syncFace(direct), machine.probes, seed);
      await compareFaces(dump, syncFace(openKvm(bytes, { architectures: [] })), machine.probes, seed);
    });
    await fc.assert(property, runsOf(kind, 4));
  });
});

describe.each(DUMP_VARIANTS)('FreeBSD minidump, $name', ({ make }) => {
  it.each(FACES)('answers what is true of the machine, $name', async (kind) => {
    const options = { architectures: defaultArchitectures };
    const property = fc.asyncProperty(fc.nat(), async (seed) => {
      const { bytes, ram, probes, truth } = make(seed);
      const face = await kind.open(bytes, options);
      for (const kva of probes) {
        const wanted = truth(kva);
        const answer = await ask(face, kva);
        if (wanted === 'unknown') expect(isKvmError(answer, 'NOT_DUMPED', 'TRUNCATED')).toBe(true);
        else if (wanted?.absent === true) {
          expect(isKvmError(answer, 'NOT_DUMPED') && answer.physicalAddress).toBe(wanted.pa);
        } else expect(await disagreement(answer, face, { ram, truth: () => wanted }, kva)).toBe('');
      }
      if (kind !== FACES[0]) await compareFaces(face, syncFace(openKvm(bytes, options)), probes, seed);
    });
    await fc.assert(property, runsOf(kind, 4));
  });
});

describe('addresses of a 32-bit machine', () => {
  it.each(VARIANTS.filter(({ name }) => /^(i386|arm )/.test(name)))(
    'sign-extended, $name',
    async ({ make }) => {
      const machine = make(7);
      const { ranges, source } = image(machine.ram);
      const kvm = syncFace(
        openKvm(source, { architectures: defaultArchitectures, raw: ranges, image: machine.image }),
      );
      for (const kva of machine.probes) {
        const extended = BigInt.asUintN(64, BigInt.asIntN(32, kva));
        expect(outline(await ask(kvm, extended))).toEqual(outline(await ask(kvm, kva)));
      }
      for (const kva of [2n ** 32n, 2n ** 63n, 0xffff_ffff_0000_0000n, 0xffff_fffe_8000_0000n]) {
        expect(isKvmError(await ask(kvm, kva), 'NOT_CANONICAL')).toBe(true);
      }
    },
  );
});

async function ask(face: Face, kva: bigint): Promise<Resolved | KvmError> {
  try {
    return await face.resolve(kva);
  } catch (error) {
    if (isKvmError(error)) return error;
    throw error;
  }
}

/** How an answer differs from what is true; an empty string when it does not. */
async function disagreement(
  answer: Resolved | KvmError,
  face: Face,
  { ram, truth }: Pick<WalkedMachine, 'ram' | 'truth'>,
  kva: bigint,
): Promise<string> {
  const at = `0x${kva.toString(16)}`;
  const wanted = truth(kva);
  if (wanted === undefined)
    return isKvmError(answer) && answer.physicalAddress === undefined ? '' : `${at} is mapped`;
  if (answer.physicalAddress !== wanted.pa) return `${at}: PA ${answer.physicalAddress}, not ${wanted.pa}`;
  // RAM that ends inside a page: a minidump holds whole pages only.
  if (isKvmError(answer)) return isWhole(ram, wanted.pa) ? `${at}: ${answer.message}` : '';
  return facts(answer, wanted, at) || bytesDiffer(face, ram, kva, wanted.pa, at);
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

async function bytesDiffer(face: Face, ram: SimRam, kva: bigint, pa: number, at: string): Promise<string> {
  const ours = await face.readU8(kva);
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

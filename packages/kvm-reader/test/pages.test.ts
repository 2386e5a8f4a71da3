import { amd64Minidump, randomMachine } from '@libkvm/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PageEntry } from '../src/page-walk.js';
import { caseOf, dumps } from './support/cases.js';
import { caughtLater, FACES, listOf, openAmd64On, runsOf } from './support/faces.js';
import { LONG } from './support/long.js';
import type { ModelByte } from './support/model.js';
import { Model } from './support/model.js';
import { SlowMinidump } from './support/slow-minidump.js';

/** The page walk against the literal description of the machine, and, over cut files, against the slow reader. */

const TOP = 1n << 64n;

describe.each(FACES)('the page walk, $name', (face) => {
  it('lists every mapping as the description has it, and every other dumped page once', async () => {
    const property = fc.asyncProperty(dumps, async (choice) => {
      const { model, bytes } = caseOf(choice, true);
      const kvm = await openAmd64On(face, bytes);
      checkRows(await listOf(kvm.pages()), model, (kva) => model.at(kva), bytes.length);
    });
    await fc.assert(property, runsOf(face, 40));
  });

  it.runIf(LONG)('lists the 262144 entries that version 1 has for a page of 1 GB', async () => {
    for (const seed of [1, 3, 5]) {
      const { machine } = randomMachine(seed);
      expect(machine.description.mappings.some(({ pageSize }) => pageSize === 0x40000000)).toBe(true);
      const dump = amd64Minidump(machine, { version: 1 });
      const model = new Model(machine, dump);
      const bytes = dump.file.bytes();
      const kvm = await openAmd64On(face, bytes);
      checkRows(await listOf(kvm.pages()), model, (kva) => model.at(kva), bytes.length);
    }
  });

  it('does so over files that end early', async () => {
    const property = fc.asyncProperty(dumps, fc.nat(0xffff_ffff), async (choice, random) => {
      const { model, bytes: whole } = caseOf(choice, true);
      const { offset, length } = model.dump.expected.sections.pages;
      const bytes = whole.subarray(0, offset + (random % (length + 1)));
      const slow = new SlowMinidump(bytes);
      const at = (kva: bigint): ModelByte => {
        const { pa, ...answer } = slow.resolve(kva);
        return { ...answer, ...(pa !== undefined && { pa: Number(pa) }) };
      };
      const kvm = await openAmd64On(face, bytes);
      checkRows(await listOf(kvm.pages()), model, at, bytes.length);
      const { dumped, missing, partial } = kvm.core.memory.pages;
      const rest = offset + length - bytes.length;
      expect({ dumped, missing, partial }).toEqual({
        ...{ dumped: length / 4096, missing: Math.floor(rest / 4096), partial: rest % 4096 > 0 ? 1 : 0 },
      });
    });
    await fc.assert(property, runsOf(face, 30));
  });

  it('cut to a window has the same rows, cut', async () => {
    const edges = fc.record({ probe: fc.nat(0xffff), delta: fc.integer({ min: -5000, max: 5000 }) });
    const property = fc.asyncProperty(dumps, edges, edges, async (choice, ...pair) => {
      const { random, bytes } = caseOf(choice, true);
      const { probes } = random;
      const kvm = await openAmd64On(face, bytes);
      const [from, to] = pair
        .map(({ probe, delta }) => probes[probe % probes.length] + BigInt(delta))
        .map((kva) => (kva < 0n ? 0n : kva > TOP ? TOP : kva))
        .sort((a, b) => (a < b ? -1 : 1));
      if (from === TOP) return;
      // Pages at the edges count whole.
      const [first, last] = [from & ~0xfffn, (to + 0xfffn) & ~0xfffn];
      const all = (await listOf(kvm.pages())).filter(({ kva }) => kva !== undefined);
      expect(await listOf(kvm.pages({ from, to }))).toEqual(all.flatMap((row) => cut(row, first, last)));
      expect(await listOf(kvm.pages({ from }))).toEqual(all.flatMap((row) => cut(row, first, TOP)));
      expect(await listOf(kvm.pages({ to }))).toEqual(all.flatMap((row) => cut(row, 0n, last)));
      if (to < TOP && to - from > 4096n) expect(await listOf(kvm.pages({ from: to, to: from }))).toEqual([]);
    });
    await fc.assert(property, runsOf(face, 15));
  });

  it('takes no windows that are no addresses', async () => {
    const kvm = await openAmd64On(face, amd64Minidump(randomMachine(1).machine).file.bytes());
    for (const bad of [-1, -1n, NaN, Infinity, 1.5, 2 ** 60, (1n << 64n) + 1n, '5' as unknown as number]) {
      await caughtLater(() => listOf(kvm.pages({ from: bad })), 'INVALID_ARGUMENT');
      await caughtLater(() => listOf(kvm.search('x', { from: bad })), 'INVALID_ARGUMENT');
      await caughtLater(() => listOf(kvm.pages({ to: bad })), 'INVALID_ARGUMENT');
      await caughtLater(() => listOf(kvm.search('x', { to: bad })), 'INVALID_ARGUMENT');
    }
    const mapped = (await listOf(kvm.pages())).filter(({ kva }) => kva !== undefined);
    expect(await listOf(kvm.pages({ to: 1n << 64n }))).toEqual(mapped);
    expect(await listOf(kvm.pages({ from: 0 }))).toEqual(mapped);
  });
});

/** Throws at the first row that is wrong; a machine may have a quarter of a million of them. */
function checkRows(
  rows: readonly PageEntry[],
  model: Model,
  at: (kva: bigint) => ModelByte,
  size: number,
): void {
  const { base, end } = model.machine.description.dmap;
  const dmapOf = (pa: number): bigint | undefined =>
    BigInt(pa) < end - base ? base + BigInt(pa) : undefined;
  const dumped = model.dump.expected.pages.toArray();
  const offsets = new Map(dumped.map((pa) => [pa, model.dump.expected.fileOffset(pa)!] as const));
  const offsetOf = (pa: number): number | undefined => {
    const offset = offsets.get(pa);
    return offset === undefined || offset >= size ? undefined : offset;
  };
  const mapped = rows.filter(({ kva }) => kva !== undefined);
  const seen = new Set<number>();
  let previousEnd = 0n;
  for (const row of mapped) {
    const { kva = 0n, pa, dmap, offset, length } = row;
    const said = at(kva);
    const last = at(kva + BigInt(length - 4096));
    const wrong =
      kva < previousEnd ||
      length <= 0 ||
      said.pa !== pa ||
      last.pa !== pa + length - 4096 ||
      dmap !== dmapOf(pa) ||
      said.offset !== offset ||
      (offset !== undefined && (said.protection !== row.protection || said.pageSize !== row.pageSize));
    if (wrong) expect.fail(`row ${show(row)}, but the description says ${show(said)}`);
    previousEnd = kva + BigInt(length);
    // Presence and contiguity do not change within a row.
    for (let done = 0; done < length && (offset !== undefined || length <= 0x200000); done += 4096) {
      if (offsetOf(pa + done) === (offset === undefined ? undefined : offset + done)) continue;
      expect.fail(`row ${show(row)}: the page at ${done} is at ${offsetOf(pa + done) ?? 'no offset'}`);
    }
    for (const page of dumped) if (page >= pa && page < pa + length) seen.add(page);
  }
  expect(mapped.reduce((sum, { length }) => sum + length, 0)).toBe(mappedBytes(model, at));
  // The rest: each page once, in physical order.
  const rest = dumped.filter((pa) => !seen.has(pa));
  expect(rows.slice(mapped.length)).toEqual(
    rest.map((pa) => ({
      ...{ kva: undefined, pa, dmap: dmapOf(pa), protection: 'rw-', offset: offsetOf(pa) },
      ...{ length: 4096, pageSize: 4096 },
    })),
  );
}

function show(value: object): string {
  return JSON.stringify(value, (_, field: unknown) =>
    typeof field === 'bigint' ? field.toString(16) : field,
  );
}

/** Bytes of KVA whose mapping the dump can tell. */
function mappedBytes({ machine }: Model, at: (kva: bigint) => ModelByte): number {
  const { mappings, kernbase, kvaEnd } = machine.description;
  let bytes = 0;
  for (const { kva, pages, pageSize } of mappings) {
    if (kva < kernbase || kva >= kvaEnd) continue; // the direct map's own page tables are in no minidump
    const unit = Math.min(pageSize, 0x200000); // what one entry of the file maps
    for (let done = 0; done < pages * pageSize; done += unit) {
      if (at(kva + BigInt(done)).pa !== undefined) bytes += unit;
    }
  }
  return bytes;
}

function cut(row: PageEntry, from: bigint, to: bigint): PageEntry[] {
  const { kva = 0n, pa, dmap, offset, length } = row;
  const start = kva < from ? from : kva;
  const end = kva + BigInt(length) > to ? to : kva + BigInt(length);
  if (start >= end) return [];
  const skipped = Number(start - kva);
  return [
    {
      ...{ ...row, kva: start, pa: pa + skipped, length: Number(end - start) },
      dmap: dmap === undefined ? undefined : dmap + BigInt(skipped),
      offset: offset === undefined ? undefined : offset + skipped,
    },
  ];
}

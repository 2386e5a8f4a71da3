import { describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

interface PageRow {
  readonly kva: string | null;
  readonly pa: string;
  readonly dmap: string | null;
  readonly protection: string;
  readonly offset: number | null;
  readonly length: number;
  readonly pageSize: number;
}

const { core, dump, machine } = sampleFiles();
const { expected } = dump;
const PAGE = 4096;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** What a row says that is not so. */
function* mistakes(row: PageRow): Generator<unknown> {
  const pa = Number(row.pa);
  if (row.length % PAGE !== 0 || row.dmap !== hex(machine.directKva(pa))) yield row;
  for (let i = 0; i < row.length; i += PAGE) {
    const place = row.offset === null ? undefined : row.offset + i;
    if (expected.fileOffset(pa + i) !== place) yield { row, place: expected.fileOffset(pa + i) };
    const model = row.kva === null ? undefined : machine.translate(BigInt(row.kva) + BigInt(i));
    if (model === undefined) continue; // No KVA, or the recursive mapping of the page tables.
    const rights = `r${model.writable ? 'w' : '-'}${model.executable ? 'x' : '-'}`;
    const size = Math.min(model.pageSize, 0x200000);
    if (model.pa !== pa + i || row.protection !== rights || row.pageSize !== size) yield { row, model };
  }
}

/** Pages of KVA, or of PA, that rows stand for. */
function pagesOf(rows: readonly PageRow[], which: 'kva' | 'pa'): Set<bigint> {
  const pages = new Set<bigint>();
  for (const row of rows) {
    const start = row[which];
    if (start !== null) for (let i = 0; i < row.length; i += PAGE) pages.add(BigInt(start) + BigInt(i));
  }
  return pages;
}

describe('vmcore pages', () => {
  it('lists what the machine has mapped, then what no KVA maps, and every dumped page', async () => {
    const ran = await vmcore(['pages', core, '--json']);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const listed = rows<PageRow>(ran);
    expect(Object.keys(listed[0])).toEqual([
      'kva',
      'pa',
      'dmap',
      'protection',
      'offset',
      'length',
      'pageSize',
    ]);
    expect(listed.flatMap((row) => [...mistakes(row)])).toEqual([]);
    const present = listed.filter(({ offset }) => offset !== null);
    expect(pagesOf(present, 'pa').size).toBe(expected.pages.count);

    const kvas = listed.flatMap(({ kva }) => (kva === null ? [] : [BigInt(kva)]));
    expect(kvas.every((kva, i) => i === 0 || kva > kvas[i - 1])).toBe(true);
    const mapped = pagesOf(listed, 'kva');
    const { mappings, kernbase, kvaEnd } = machine.description;
    const missing = mappings
      .filter(({ kva }) => kva >= kernbase && kva < kvaEnd)
      .flatMap(({ kva, pageSize, pages }) =>
        Array.from({ length: (pageSize * pages) / PAGE }, (_, i) => kva + BigInt(i * PAGE)),
      )
      .filter((kva) => !mapped.has(kva));
    expect(missing).toEqual([]);

    const lone = listed.filter(({ kva }) => kva === null);
    expect(listed.slice(-lone.length)).toEqual(lone);
    const withKva = pagesOf(
      listed.filter(({ kva }) => kva !== null),
      'pa',
    );
    expect(lone.filter(({ pa }) => withKva.has(BigInt(pa)))).toEqual([]);
  });

  it('lists a window of addresses', async () => {
    const all = rows<PageRow>(await vmcore(['pages', core, '--json']));
    const ran = await vmcore(['pages', core, '--json', '--kva', '0xffffffff80000000-']);
    expect(rows(ran)).toEqual(all.filter(({ kva }) => kva !== null && BigInt(kva) >= 0xffffffff80000000n));
    expect(rows(ran).length).toBeGreaterThan(2);
    const low = await vmcore(['pages', core, '--json', '--kva', '-0xfffffe0000002000']);
    expect(rows(low)).toEqual(all.filter(({ kva }) => kva !== null && BigInt(kva) < 0xfffffe0000002000n));
    for (const window of ['2-1', '1', 'a-b', '0-0x10000000000000001', '1-2-3']) {
      expect([window, (await vmcore(['pages', core, '--kva', window])).status]).toEqual([window, 2]);
    }
  });

  it('prints a table for people', async () => {
    const ran = await vmcore(['pages', core]);
    const [heading, ...lines] = ran.stdout.trimEnd().split('\n');
    expect(ran.status).toBe(0);
    expect(heading).toMatch(/^kva +pa +dmap +prt +offset +length +page$/);
    for (const line of lines) {
      expect(line.length).toBe(heading.length);
      expect(line.slice(heading.indexOf('prt'))).toMatch(
        /^[r-][w-][x-] {2}(0x[\da-f]+|-) +\d+[KMG] +(4K|2M)$/,
      );
    }
  });
});

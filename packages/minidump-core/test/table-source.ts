import {
  Losses,
  Mapping,
  MAPPED,
  literalAddressSpace,
  literalMemory,
  type DumpSource,
  type LiteralMapping,
  type MachineFacts,
  type TableSource,
} from '../src/index.js';

/** A source of a table section, of mappings that are said outright. */
export interface LiteralTable extends TableSource {
  /** The mappings from now on: a source that changes. */
  change(mappings: readonly LiteralMapping[]): void;
}

export function literalTable(
  mappings: readonly LiteralMapping[],
  facts: Partial<MachineFacts> = {},
  losses = new Losses(),
): LiteralTable {
  const machine: MachineFacts = {
    ...{
      architecture: 'toy',
      elfMachine: 0,
      bits: 64,
      byteOrder: 'little',
      pageSize: 4096,
      pteFormat: 'toy',
    },
    ...facts,
  };
  let space = literalAddressSpace(mappings, machine.bits);
  const source: DumpSource = { machine, memory: literalMemory([]), addressSpace: space };
  const first = mappingsOf(space).next().value;
  let toPage = 0;
  for (const { page, offset, length } of mappingsOf(space))
    toPage = page + Math.ceil((offset + length) / 4096);
  return {
    ...{ source, fromPage: first?.page ?? 0, toPage, sparePa: 0, losses },
    sparePlace: () => undefined,
    mappings: () => mappingsOf(space),
    holdsPage: () => false,
    change: (changed) => (space = literalAddressSpace(changed, machine.bits)),
  };
}

function* mappingsOf(space: DumpSource['addressSpace']): Generator<Mapping, undefined, undefined> {
  const cursor = space.mappings(0, 2 ** 52);
  const out = new Mapping();
  while (cursor.next(out)) if (out.outcome === MAPPED) yield out;
  return undefined;
}

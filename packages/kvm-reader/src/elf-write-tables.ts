import {
  KvmError,
  MAPPED,
  PhysicalUse,
  TableTree,
  countDamage,
  noDamage,
  toHex,
  withDirectMap,
  type Architecture,
  type DumpSource,
  type Mapping,
  type MemoryRuns,
  type Registers,
  type SourceWalk,
  type TableEncoder,
  type WalkDamage,
} from '@libkvm/minidump-core';

/** Page tables of a full dump: the source's own, made up, or none. */
export type TableChoice = 'source' | 'synthesised' | 'none';

/** How the page tables of a full dump come about. */
export interface DumpTableOptions {
  /** Architectures whose page tables can be made. */
  readonly architectures?: readonly Architecture[];
  /**
   * `source`: those that lie in the source's memory, named by its registers. `synthesised`: made from its mappings, at
   * physical addresses that nothing else uses. The source's own unless told otherwise, and where it has none, made ones.
   */
  readonly tables?: TableChoice;
  /** Format of the page-table entries to make; the source's own unless given. */
  readonly pteFormat?: string;
  /** Leave out, and count, mappings that the tables cannot hold. Off unless asked for: they are refused. */
  readonly leaveOut?: boolean;
}

/** The page tables of a full dump, decided. */
export interface DumpTables {
  /** The control registers that name them; undefined when there are none. */
  readonly registers?: Registers;
  /** Those that were made, and where they lie. */
  readonly made?: { readonly tree: TableTree; readonly pa: number };
  /** What the walk over the source found; all 0 where it was not walked. */
  readonly walked: { mappings: number; mappedBytes: number; damage: WalkDamage };
}

/**
 * Decides on the page tables of a full dump.
 *
 * @throws KvmError `UNSUPPORTED` when tables have to be made and cannot, with the reason
 */
export function planDumpTables(walk: SourceWalk, runs: MemoryRuns, options: DumpTableOptions): DumpTables {
  const { source } = walk;
  const { machine, registers } = source;
  const walked = { mappings: 0, mappedBytes: 0, damage: noDamage() };
  const pteFormat = options.pteFormat ?? machine.pteFormat;
  const own = registers !== undefined && pteFormat === machine.pteFormat;
  const choice = options.tables ?? (own ? 'source' : 'synthesised');
  if (choice === 'none') return { walked };
  const encoder = encoderOf(source, options.architectures ?? [], pteFormat);
  if (choice === 'source') {
    if (registers === undefined) throw noRegisters();
    return { registers: encoder?.completeRegisters?.(registers) ?? registers, walked };
  }
  const place = new TablePlace(runs, encoder?.tableLimit ?? 2 ** 52);
  for (const mapping of walk.all()) {
    if (mapping.outcome !== MAPPED) {
      countDamage(walked.damage, mapping.outcome);
      continue;
    }
    walked.mappings++;
    walked.mappedBytes += mapping.length;
    place.avoid(mapping);
  }
  if (walked.mappings === 0 && machine.directMap === undefined) return { walked };
  if (encoder === undefined) throw cannotMake(machine.architecture, pteFormat);
  const tree = TableTree.plan(encoder, () => withDirectMap(walk, runs), options.leaveOut);
  const pa = place.find(tree);
  tree.place(pa);
  return { registers: tree.registers, made: { tree, pa }, walked };
}

/** Finds physical addresses for tables, where no RAM is and nothing that a mapping leads to. */
class TablePlace {
  /** All RAM, and the RAM that is dumped: minidumps of old kernels count all from PA 0 on as RAM. */
  private readonly ram: PhysicalUse;
  private readonly dumped: PhysicalUse;

  constructor(
    runs: MemoryRuns,
    private readonly limit: number,
  ) {
    this.ram = new PhysicalUse(limit);
    this.dumped = new PhysicalUse(limit);
    for (const { start, end } of runs.ranges.ranges) this.ram.addRam(start, end - start);
    for (const { pa, length } of runs) this.dumped.addRam(pa, length);
  }

  avoid({ pa, length }: Mapping): void {
    this.ram.add(pa, length);
    this.dumped.add(pa, length);
  }

  /** @throws KvmError `UNSUPPORTED` when there is no room */
  find({ length, align }: TableTree): number {
    const pa = this.ram.find(length, align) ?? this.dumped.find(length, align);
    if (pa !== undefined) return pa;
    throw new KvmError(
      'UNSUPPORTED',
      `no room for ${length} bytes of page tables below PA ${toHex(this.limit)}: RAM and devices are everywhere`,
      { field: 'tables', hint: 'write the portable format, or dump a smaller window of KVAs (--kva)' },
    );
  }
}

function encoderOf(
  { machine }: DumpSource,
  architectures: readonly Architecture[],
  pteFormat: string,
): TableEncoder | undefined {
  const architecture = architectures.find(({ name }) => name === machine.architecture);
  return architecture?.tableEncoder?.(pteFormat, machine.byteOrder);
}

function noRegisters(): KvmError {
  return new KvmError(
    'INVALID_ARGUMENT',
    'the source has no page tables in its memory, or their root is not known',
    {
      field: 'tables',
      hint: 'have them made (synthesised), or left out (none)',
    },
  );
}

function cannotMake(architecture: string, pteFormat: string): KvmError {
  return new KvmError(
    'UNSUPPORTED',
    `a full dump needs page tables, and those of ${architecture} ${pteFormat} cannot be made`,
    {
      field: 'pteFormat',
      hint: 'write the portable format, or a full dump without page tables (tables: none)',
    },
  );
}

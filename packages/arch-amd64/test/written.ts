import {
  BlockCache,
  dumpToBytes,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  openMinidump,
  planMinidump,
  Translation,
  type Core,
  type DumpPlan,
  type DumpSource,
  type LiteralMapping,
  type LossKind,
  type MachineFacts,
  type MinidumpOptions,
} from '@libkvm/minidump-core';
import { amd64Minidump } from '../src/index.js';

export const AMD64: MachineFacts = {
  ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
  pteFormat: 'amd64',
};

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** 16 MB of RAM from 0 on, all zeros but for the first byte of each page, which is its number. */
const RAM: readonly Range[] = [{ start: 0, end: 0x100_0000 }];

/** A machine without page tables: mappings said outright. */
export function literalSource(
  mappings: readonly LiteralMapping[],
  { ram = RAM, ...facts }: Partial<MachineFacts> & { readonly ram?: readonly Range[] } = {},
): DumpSource {
  const memory = literalMemory([], ram);
  return {
    machine: { ...AMD64, ...facts },
    memory: {
      ...memory,
      readSync(pa, target, at, length) {
        target.fill(0, at, at + length);
        for (let page = Math.ceil(pa / 4096) * 4096; page < pa + length; page += 4096)
          target[at + page - pa] = page / 4096;
      },
    },
    addressSpace: literalAddressSpace(mappings),
  };
}

/** A minidump that was planned, written and opened. */
export interface Written {
  readonly plan: DumpPlan;
  readonly bytes: Uint8Array;
  readonly core: Core;
  /** A 64-bit word of the table section. */
  entry(index: number): bigint;
  /** A 64-bit word of physical memory. */
  word(pa: number): bigint;
}

export function write(source: DumpSource, options: MinidumpOptions = {}): Written {
  const plan = planMinidump(source, amd64Minidump, { tolerateDamage: true, ...options });
  const bytes = dumpToBytes(plan);
  const core = openMinidump(new BlockCache(new MemorySource(bytes)), amd64Minidump);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const table = core.sections.find(({ name }) => name === 'table')!;
  return {
    ...{ plan, bytes, core },
    entry: (index) => view.getBigUint64(table.offset + index * 8, true),
    word: (pa) => view.getBigUint64(core.memory.locate(pa), true),
  };
}

/** Bytes of KVA by kind of loss. */
export function lossesOf({ plan }: Pick<Written, 'plan'>): Partial<Record<LossKind, number>> {
  const lost: Partial<Record<LossKind, number>> = {};
  for (const { kind, bytes } of plan.report.lossList ?? []) lost[kind] = (lost[kind] ?? 0) + bytes;
  return lost;
}

export function translate(core: Core, kva: bigint): Translation {
  const out = new Translation();
  core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
  return out;
}

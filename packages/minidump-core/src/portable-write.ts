import type { Section } from './core.js';
import type { Crc32 } from './crc32.js';
import type { MachineFacts } from './dump-source.js';
import { exactly, type SectionPlan } from './dump-sections.js';
import { roundUp } from './minidump-layout.js';
import type { PageSelection } from './page-selection.js';
import {
  CHECKSUMS_AT,
  HAS_DIRECT_MAP,
  HAS_KERNBASE,
  PORTABLE_ALIGN,
  PORTABLE_MAGIC,
  PORTABLE_VERSION,
  portableHeader,
  portableSection,
  portableTrailer,
  SECTION_TABLE_AT,
  TRAILER_MAGIC,
} from './portable-header.js';
import { planPortableSections, type PortableOptions, type SegmentReport } from './portable-plan.js';

/** A portable minidump with all its sizes. */
export interface PortableDump {
  readonly size: number;
  readonly sections: readonly Section[];
  readonly tables: SegmentReport;
  readonly losses: readonly string[];
  readonly bytes: (crc32: Crc32) => Generator<Uint8Array, void, undefined>;
}

/** Lays out a portable minidump: header page, the planned sections, trailer. */
export function portableDump(selection: PageSelection, options: PortableOptions): PortableDump {
  const { sections: plans, tables, entryBits, losses } = planPortableSections(selection, options);
  const placed = place(plans);
  const size = placed.end + PORTABLE_ALIGN;
  const header = headerPage(selection, placed.sections, size, entryBits);
  const trailer = { name: 'trailer', offset: placed.end, length: PORTABLE_ALIGN };
  return {
    size,
    sections: [{ name: 'header', offset: 0, length: PORTABLE_ALIGN }, ...placed.sections, trailer],
    tables,
    losses,
    bytes: (crc32) => fileBytes(header, plans, crc32),
  };
}

function place(plans: readonly SectionPlan[]): { sections: Section[]; end: number } {
  let end = PORTABLE_ALIGN;
  const sections = plans.map(({ name, length }) => {
    const section = { name, offset: end, length };
    end += roundUp(length, PORTABLE_ALIGN);
    return section;
  });
  return { sections, end };
}

function headerPage(
  { source }: PageSelection,
  sections: readonly Section[],
  size: number,
  entryBits: number,
): Uint8Array {
  const { machine, messageBuffer } = source;
  const page = new Uint8Array(PORTABLE_ALIGN);
  portableHeader.write(page, 0, 'little', {
    magic: PORTABLE_MAGIC,
    version: PORTABLE_VERSION,
    elfMachine: machine.elfMachine,
    elfClass: machine.bits === 32 ? 1 : 2,
    elfData: machine.byteOrder === 'little' ? 1 : 2,
    pageSize: source.memory.ranges.pageSize,
    basePageSize: machine.pageSize,
    architecture: machine.architecture,
    pteFormat: machine.pteFormat,
    entryBits,
    sectionCount: sections.length,
    fileSize: BigInt(size),
    msgbufStart: BigInt(messageBuffer?.start ?? 0),
    ...addressFields(machine),
  });
  sections.forEach(({ name, offset, length }, i) => {
    const at = SECTION_TABLE_AT + i * portableSection.size;
    portableSection.write(page, at, 'little', { name, offset: BigInt(offset), length: BigInt(length) });
  });
  return page;
}

function addressFields({ kernbase, directMap }: MachineFacts): {
  flags: number;
  kernbase: bigint;
  dmapBase: bigint;
  dmapEnd: bigint;
  dmapPhys: bigint;
} {
  return {
    flags: (kernbase === undefined ? 0 : HAS_KERNBASE) | (directMap ? HAS_DIRECT_MAP : 0),
    kernbase: kernbase ?? 0n,
    dmapBase: directMap?.base ?? 0n,
    dmapEnd: BigInt.asUintN(64, directMap?.end ?? 0n),
    dmapPhys: BigInt(directMap?.phys ?? 0),
  };
}

function* fileBytes(header: Uint8Array, plans: readonly SectionPlan[], crc32: Crc32): Generator<Uint8Array> {
  const zeros = new Uint8Array(PORTABLE_ALIGN);
  const checksums = [crc32(header)];
  yield header;
  for (const plan of plans) {
    let crc = 0;
    for (const piece of exactly(plan)) {
      crc = crc32(piece, crc);
      yield piece;
    }
    const padding = zeros.subarray(0, roundUp(plan.length, PORTABLE_ALIGN) - plan.length);
    checksums.push(crc32(padding, crc));
    if (padding.length > 0) yield padding;
  }
  yield trailerPage(checksums, crc32);
}

/** The trailer: checksums of all that came before, and the mark that the file is complete. */
function trailerPage(checksums: readonly number[], crc32: Crc32): Uint8Array {
  const page = new Uint8Array(PORTABLE_ALIGN);
  const view = new DataView(page.buffer);
  portableTrailer.write(page, 0, 'little', { magic: TRAILER_MAGIC, sectionCount: checksums.length });
  checksums.forEach((crc, i) => view.setUint32(CHECKSUMS_AT + i * 4, crc, true));
  portableTrailer.write(page, 0, 'little', { crc: crc32(page) });
  return page;
}

import {
  KVA_PAGE,
  KvmError,
  Losses,
  PageSelection,
  copyRuns,
  exactly,
  kvaOf,
  lossText,
  requireSoundTables,
  type Architecture,
  type DumpPlan,
  type DumpSource,
  type Selection,
} from '@libkvm/minidump-core';
import { MAX_HEADERS } from './elf-headers.js';
import { PT_LOAD, PT_NOTE } from './elf-structs.js';
import { ElfHead, elfNoteBytes, type ElfProgramHeader } from './elf-write-headers.js';
import { elfMachineOf } from './elf-write-plan.js';
import { KvaSegments, type KvaSegment, type KvaStorage } from './kva-segments.js';
import { VIRTUAL_NOTE } from './virtual-note.js';

/** How an ELF core by KVA is planned. */
export interface ElfKvaOptions extends Selection {
  /** Architectures, for the e_machine of sources that do not say it. */
  readonly architectures?: readonly Architecture[];
  /**
   * `kva`: the bytes of each segment by KVA, so that there are few segments. `shared`: each page once. Chosen by size unless
   * given: `shared` where the file would be more than twice as large otherwise.
   */
  readonly storage?: KvaStorage;
  /** Plan even over page tables that are too damaged to be trusted. Off unless asked for. */
  readonly tolerateDamage?: boolean;
}

const FOUR_GB = 2 ** 32;
const ELFOSABI_NONE = 0;
/** p_paddr of a segment whose PA does not fit. */
const NO_PADDR = 0xffff_ffffn;

/**
 * Plans an ELF core of the kernel's address space, which debuggers open together with the kernel file: `gdb kernel core`,
 * `lldb -c core kernel`. It has a segment for each run of KVA with the same rights, and for the direct map; pages that the
 * source does not hold are left out, and segments end there.
 *
 * p_paddr is the PA of a segment's first byte alone. The file is of no use as an image of physical memory, and has a note
 * that says so.
 *
 * @throws KvmError `UNSUPPORTED` for a 32-bit machine when the file would have 4 GB or more, and for too many segments;
 *   `CORRUPT` when the page tables are too damaged; `INVALID_ARGUMENT`
 * @example
 * const plan = planElfKva(dumpSourceOf(kvm.core), { architectures: defaultArchitectures });
 * await writeDumpFile(plan, 'vmcore.elf'); // gdb kernel vmcore.elf
 */
export function planElfKva(source: DumpSource, options: ElfKvaOptions = {}): DumpPlan {
  const selection = new PageSelection(source, options);
  if (options.tolerateDamage !== true) requireSoundTables(selection);
  const { machine, memory } = source;
  const parts = new KvaSegments(selection);
  const storage = options.storage ?? (parts.kvaBytes > 2 * parts.pageBytes ? 'shared' : 'kva');
  const bytes = storage === 'shared' ? parts.pageBytes : parts.kvaBytes;
  const losses = new Losses(true);
  const segments = countSegments(parts, storage, machine.bits, losses);
  const notes = elfNoteBytes(VIRTUAL_NOTE.name, VIRTUAL_NOTE.type, VIRTUAL_NOTE.desc, machine.byteOrder);
  const { bits, byteOrder } = machine;
  const identity = { machine: elfMachineOf(source, options.architectures), bits, byteOrder };
  const head = new ElfHead({ identity, osabi: ELFOSABI_NONE, version: 1, segments: segments + 1, notes });
  const size = head.length + bytes;
  if (bits === 32 && size > FOUR_GB) throw tooLarge(size);
  countLosses(source, selection, parts, losses);
  const headers = (): Iterable<ElfProgramHeader> => programHeaders(parts, storage, head, notes.length, bits);
  return {
    size,
    sections: [
      { name: 'header', offset: 0, length: head.length },
      { name: 'memory', offset: head.length, length: bytes },
    ],
    report: {
      format: 'elf-kva',
      architecture: machine.architecture,
      size,
      ...{ ...selection.report, pages: parts.reached.count },
      metadataBytes: head.length,
      metadataShare: head.length / size,
      tables: { bytes: head.length, segments: segments + 1 },
      losses: losses.list.map(lossText),
      lossList: losses.list,
      remarks: [storageText(storage, parts)],
    },
    *bytes() {
      yield* exactly({ name: 'header', length: head.length, produce: () => head.bytes(headers()) });
      yield* exactly({ name: 'memory', length: bytes, produce: () => copyRuns(memory, parts.runs(storage)) });
    },
  };
}

function countSegments(parts: KvaSegments, storage: KvaStorage, bits: 32 | 64, losses: Losses): number {
  let count = 0;
  for (const { pa, length } of parts.segments(storage)) {
    count++;
    if (bits === 32 && pa >= FOUR_GB) losses.add('mapping', 'the PAs of segments above 4 GB', length);
  }
  if (count < MAX_HEADERS) return count;
  throw new KvmError(
    'UNSUPPORTED',
    `the core would have ${count} segments; readers take up to ${MAX_HEADERS}`,
    {
      field: 'storage',
      hint:
        storage === 'shared'
          ? 'store it by KVA, choose a window of KVAs (--kva), or write the portable format'
          : 'choose a window of KVAs (--kva), or write the portable format',
    },
  );
}

function* programHeaders(
  parts: KvaSegments,
  storage: KvaStorage,
  head: ElfHead,
  noteBytes: number,
  bits: 32 | 64,
): Generator<ElfProgramHeader, void, undefined> {
  for (const segment of parts.segments(storage)) yield loadHeader(segment, head.length, bits);
  yield {
    ...{ type: PT_NOTE, flags: 4, offset: head.notesOffset, vaddr: 0n, paddr: 0n },
    ...{ fileLength: noteBytes, memLength: 0, align: 4 },
  };
}

function loadHeader(
  { page, offset, length, rights, pa, fileOffset }: KvaSegment,
  memoryAt: number,
  bits: 32 | 64,
): ElfProgramHeader {
  const at = memoryAt + fileOffset;
  return {
    type: PT_LOAD,
    // READ, WRITE, EXECUTE are 1, 2, 4; PF_R, PF_W, PF_X are 4, 2, 1.
    flags: ((rights & 1) << 2) | (rights & 2) | ((rights >> 2) & 1),
    offset: at,
    vaddr: kvaOf(page, offset),
    paddr: bits === 32 && pa >= FOUR_GB ? NO_PADDR : BigInt(pa),
    ...{ fileLength: length, memLength: length },
    // The gABI wants p_offset and p_vaddr to agree modulo p_align; parts of pages do not.
    align: offset === 0 && at % KVA_PAGE === 0 ? KVA_PAGE : 1,
  };
}

function countLosses(
  { messageBuffer, notes }: DumpSource,
  { bitmap }: PageSelection,
  { reached }: KvaSegments,
  losses: Losses,
): void {
  const lost = bitmap.count - reached.count;
  if (lost > 0) losses.add('mapping', `${lost} pages that no KVA reaches`);
  losses.add('pageSize', 'page sizes, user rights, memory types: a segment has none');
  if (messageBuffer)
    losses.add('note', 'the message buffer as a section: it is there where the kernel maps it');
  for (const name of Object.keys(notes ?? {})) losses.add('note', `the note ${name} is left out`);
}

function storageText(storage: KvaStorage, { kvaBytes, pageBytes }: KvaSegments): string {
  const sizes = `${kvaBytes} bytes by KVA, ${pageBytes} of distinct pages`;
  return storage === 'shared'
    ? `each page is stored once, and segments share it (${sizes})`
    : `pages are stored by KVA, those of several KVAs once for each (${sizes})`;
}

function tooLarge(size: number): KvmError {
  return new KvmError(
    'UNSUPPORTED',
    `the core would have ${size} bytes; a 32-bit ELF file has less than 4 GB`,
    {
      field: 'size',
      hint: 'choose a window of KVAs (--kva), or write a full dump (--format elf) or the portable format',
    },
  );
}

import { KvmError, clampLength, isKvmError, latin1, readBytes, type ByteSource } from '@libkvm/minidump-core';
import { ElfFile } from './elf-file.js';
import { isElf, type ElfFileIdentity } from './elf-headers.js';
import {
  ET_CORE,
  ET_REL,
  PT_LOAD,
  SHF_ALLOC,
  SHF_WRITE,
  SHT_NOBITS,
  SHT_NOTE,
  SHT_PROGBITS,
} from './elf-structs.js';
import { SymbolTable } from './symbol-table.js';

/** NT_GNU_BUILD_ID, of the owner `GNU`. */
const NT_GNU_BUILD_ID = 3;
const MAX_BUILD_ID = 64;
const HEAD_BYTES = 64;

/** Files met in place of a kernel, by their first bytes: what they are and what to do. */
const LOOKALIKES: readonly (readonly [string, string, string])[] = [
  ['1f8b', 'a gzip stream', 'decompress it first: gunzip kernel.gz'],
  ['425a68', 'a bzip2 stream', 'decompress it first: bunzip2'],
  ['fd377a585a00', 'an xz stream', 'decompress it first: xz -d'],
  ['28b52ffd', 'a zstd stream', 'decompress it first: zstd -d'],
  [
    '6d696e6964756d7020',
    'a minidump',
    'give the core as the core, and the kernel it came from as the kernel',
  ],
  ['4d5a', 'a PE file', 'FreeBSD kernels are ELF files: /boot/kernel/kernel'],
  ['213c617263683e0a', 'an ar archive', 'FreeBSD kernels are ELF files: /boot/kernel/kernel'],
];

/** A linker's build id. */
export interface BuildId {
  /** In hex. */
  readonly id: string;
  /** KVA of its bytes. */
  readonly address?: bigint;
}

/** A kernel's ELF file: its symbols, and what its image holds before it runs. */
export class KernelFile {
  readonly symbols: SymbolTable;
  /** Machine, width, byte order, type, OSABI and entry point. */
  readonly identity: ElfFileIdentity;
  private foundBuildId: { readonly note: BuildId | undefined } | undefined;

  constructor(readonly elf: ElfFile) {
    this.symbols = new SymbolTable(elf);
    this.identity = elf.identity;
  }

  /** The linker's build id in hex; undefined where the file has none, or its notes are damaged. */
  get buildId(): string | undefined {
    return this.buildIdNote?.id;
  }

  /** The same with the KVA that the running kernel has it at, where it is loaded. */
  get buildIdNote(): BuildId | undefined {
    this.foundBuildId ??= { note: findBuildId(this.elf) };
    return this.foundBuildId.note;
  }

  /** The parts of the running kernel that nobody writes to, and the file has: code and constants. */
  get readOnlyParts(): readonly { readonly address: bigint; readonly length: number }[] {
    return this.elf.sections.filter(
      ({ type, flags, length }) =>
        type === SHT_PROGBITS && (flags & (SHF_ALLOC | SHF_WRITE)) === SHF_ALLOC && length > 0,
    );
  }

  /**
   * What the file holds for a link address: up to `length` bytes, fewer where the part of the file ends, or undefined
   * where it holds none (.bss, a file of debug data alone, no such address).
   *
   * @throws KvmError `TRUNCATED` when the file ends before bytes that it should hold
   */
  readAt(address: bigint, length: number): Uint8Array<ArrayBuffer> | undefined {
    const sections = this.elf.sections.filter(
      (section) => (section.flags & SHF_ALLOC) !== 0 && holds(section.address, section.length, address),
    );
    const section = sections.find(({ type }) => type !== SHT_NOBITS);
    // In a file of debug data alone the sections say NOBITS while the segments still point at what is no longer there.
    if (section === undefined && sections.length > 0) return undefined;
    if (section) return this.read(section.offset, section.length, Number(address - section.address), length);
    const segment = this.elf.segments.find(
      ({ type, vaddr, fileLength }) => type === PT_LOAD && holds(vaddr, fileLength, address),
    );
    if (segment === undefined) return undefined;
    return this.read(segment.offset, segment.fileLength, Number(address - segment.vaddr), length);
  }

  private read(offset: number, size: number, at: number, length: number): Uint8Array<ArrayBuffer> {
    return readBytes(
      this.elf.source,
      offset + at,
      clampLength(size, at, length),
      'a segment of the kernel file',
    );
  }
}

/**
 * Opens a kernel file, of any architecture: `/boot/kernel/kernel`, or its `.debug` file. Only its headers are read;
 * symbols and notes when they are asked for.
 *
 * @throws KvmError `NOT_A_CORE` when it is no ELF file, `UNSUPPORTED` when it is one that is compressed,
 *   `INVALID_ARGUMENT` when it is a core or a module, `CORRUPT`, `TRUNCATED`
 */
export function openKernel(source: ByteSource): KernelFile {
  const head = readBytes(source, 0, Math.min(HEAD_BYTES, source.size), 'the kernel file');
  if (!isElf(head)) throw notElf(head);
  const elf = ElfFile.open(source);
  if (elf.identity.type === ET_CORE) {
    throw notAKernel('an ELF core', 'give the core as the core, and the kernel it came from as the kernel');
  }
  if (elf.identity.type === ET_REL) {
    throw notAKernel('an object file or kernel module', 'give the kernel itself: /boot/kernel/kernel');
  }
  return new KernelFile(elf);
}

function holds(start: bigint, length: number, address: bigint): boolean {
  return address >= start && address < start + BigInt(length);
}

/** Damaged notes are no reason to refuse a kernel whose symbols are sound. */
function findBuildId(elf: ElfFile): BuildId | undefined {
  try {
    for (const note of elf.notes()) {
      if (note.name !== 'GNU' || note.type !== NT_GNU_BUILD_ID || note.length > MAX_BUILD_ID) continue;
      const id = hex(note.desc);
      const loaded = elf.sections.find(
        ({ flags, offset, length, type }) =>
          type === SHT_NOTE &&
          (flags & SHF_ALLOC) !== 0 &&
          note.offset >= offset &&
          note.offset < offset + length,
      );
      return loaded ? { id, address: loaded.address + BigInt(note.offset - loaded.offset) } : { id };
    }
  } catch (error) {
    if (!isKvmError(error, 'CORRUPT', 'TRUNCATED')) throw error;
  }
  return undefined;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function notAKernel(what: string, hint: string): KvmError {
  return new KvmError('INVALID_ARGUMENT', `the kernel file is ${what}, not a kernel`, {
    field: 'kernel',
    hint,
  });
}

function notElf(head: Uint8Array): KvmError {
  if (head.length === 0)
    return new KvmError('NOT_A_CORE', 'the kernel file is empty', {
      ...{ field: 'kernel', offset: 0 },
      hint: 'copy it again: /boot/kernel/kernel',
    });
  const start = hex(head.subarray(0, 16));
  const known = LOOKALIKES.find(([magic]) => start.startsWith(magic));
  if (known) {
    const code = known[2].startsWith('decompress') ? 'UNSUPPORTED' : 'INVALID_ARGUMENT';
    const message = `the kernel file is ${known[1]}, not an ELF file`;
    return new KvmError(code, message, { field: 'kernel', offset: 0, hint: known[2] });
  }
  const text = latin1(head.subarray(0, 16));
  return new KvmError(
    'NOT_A_CORE',
    `the kernel file is no ELF file; it starts with ${JSON.stringify(text)}`,
    {
      field: 'kernel',
      offset: 0,
      hint: 'give the ELF file of the kernel: /boot/kernel/kernel, or /usr/lib/debug/boot/kernel/kernel.debug',
    },
  );
}

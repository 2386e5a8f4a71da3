/**
 * Reads kernel cores: opens any format that it is given, and resolves KVA -> PA -> file offset -> bytes. Runs in Node
 * and in browsers; files are opened through `@libkvm/kvm-reader/node`.
 *
 * @packageDocumentation
 */
export { unknownFile } from './detect.js';
export { AsyncKvm, type AsyncBytes, type AsyncReadOptions } from './async-kvm.js';
export { AsyncSymbols } from './async-symbols.js';
export { blobSource, type AsyncByteSource, type Cancellable } from './async-source.js';
export type { CompressedStream, ContainerOptions, Unpack, UnpackedStream } from './containers.js';
export { machineArch, withDumpHeader, type PlannedHeaderFacts } from './dump-header-plan.js';
export { formatInfo, parseInfoFile, type InfoFacts, type InfoFile } from './info-file.js';
export {
  readKernelDumpHeader,
  writeKernelDumpHeader,
  type DumpCompression,
  type DumpHeaderFacts,
  type KernelDumpHeader,
} from './kernel-dump-header.js';
export type { OpenedCore } from './opened-core.js';
export type { CpuState } from './cpu-notes.js';
export { elfDumpFormat, elfKvaDumpFormat } from './elf-dump-formats.js';
export { ElfFile } from './elf-file.js';
export { planElf, type ElfOptions } from './elf-write-plan.js';
export { planElfKva, type ElfKvaOptions } from './elf-write-kva.js';
export type { DumpTableOptions, TableChoice } from './elf-write-tables.js';
export type { KvaStorage } from './kva-segments.js';
export {
  REGISTERS_NOTE,
  formatRegisters,
  formatRegistersNote,
  parseRegisters,
  type CpuRegisters,
  type ParsedRegisters,
} from './elf-registers-note.js';
export { dumpFormats, dumpSourceOfKvm, planConversion, type ConvertOptions } from './convert.js';
export { httpSource, type HttpOptions } from './http-source.js';
export { coreOfImage, elfImageFormat, openRawCore } from './image-core.js';
export { openKernel, KernelFile } from './kernel-file.js';
export { kernelFacts, kernelNotes, type KernelFacts } from './kernel-facts.js';
export type { MatchReport } from './kernel-match.js';
export type { PartialRead, ReadOptions, Resolved } from './answers.js';
export { Kvm } from './kvm.js';
export {
  openElfImage,
  openRawImage,
  type ElfImageOptions,
  type MemoryImage,
  type RawRange,
} from './memory-image.js';
export type { MessageBuffer } from './message-buffer.js';
export { openCore, openKvm, unwrapCore, type Bytes, type OpenOptions } from './open.js';
export { openKvmAsync, type OpenAsyncOptions } from './open-async.js';
export type { PageEntry, WalkRange } from './page-walk.js';
export type { SearchRange } from './search.js';
export { SymbolTable, type KernelSymbol } from './symbol-table.js';
export { Symbols, type SymbolHit, type SymbolResolver } from './symbols.js';

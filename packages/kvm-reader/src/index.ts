/**
 * Reads kernel cores: opens any format that it is given, and resolves KVA -> PA -> file offset -> bytes. Runs in Node
 * and in browsers; files are opened through `@libkvm/kvm-reader/node`.
 *
 * @packageDocumentation
 */
export { unknownFile } from './detect.js';
export { AsyncKvm, type AsyncBytes, type AsyncReadOptions } from './async-kvm.js';
export { blobSource, type AsyncByteSource, type Cancellable } from './async-source.js';
export type { CpuState } from './cpu-notes.js';
export { ElfFile } from './elf-file.js';
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
export { kernelFacts, type KernelFacts } from './kernel-facts.js';
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
export { openCore, openKvm, type Bytes, type OpenOptions } from './open.js';
export { openKvmAsync, type OpenAsyncOptions } from './open-async.js';
export type { PageEntry, WalkRange } from './page-walk.js';
export type { SearchRange } from './search.js';
export { SymbolTable, type KernelSymbol } from './symbol-table.js';
export { Symbols, type SymbolHit, type SymbolResolver } from './symbols.js';

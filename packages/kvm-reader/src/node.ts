/**
 * Node's side of the reader: cores and kernels as files, and every architecture of this library by default.
 *
 * @packageDocumentation
 */
import { amd64 } from '@libkvm/arch-amd64';
import { arm } from '@libkvm/arch-arm';
import { arm64 } from '@libkvm/arch-arm64';
import { i386 } from '@libkvm/arch-i386';
import type { Architecture } from '@libkvm/minidump-core';
import type { Kvm } from './kvm.js';
import { FileSource } from './node-file-source.js';
import type { InfoFile } from './info-file.js';
import { findInfoFile, orEncrypted } from './node-info-file.js';
import { fileUnpack, type UnpackOptions } from './node-unpack.js';
import { openKvm, type Bytes, type OpenOptions } from './open.js';

export { FileSink, writeDumpFile } from './node-file-sink.js';
export { FileSource } from './node-file-source.js';
export { findInfoFile } from './node-info-file.js';
export type { TemporaryOptions } from './node-temporary-file.js';
export { fileUnpack, type UnpackOptions } from './node-unpack.js';

/** Every architecture of this library. */
export const defaultArchitectures: readonly Architecture[] = [amd64, i386, arm, arm64];

/** What a core file is opened with; everything is optional. */
export interface OpenFileOptions extends Omit<Partial<OpenOptions>, 'kernel' | 'info'>, UnpackOptions {
  /** Path of the kernel's ELF file, or its bytes. */
  readonly kernel?: string | Bytes;
  /** What savecore(8) wrote beside the core; false: do not look for it. Unless given, `info.N` is read beside `vmcore.N`. */
  readonly info?: InfoFile | false;
}

/**
 * Opens a core file, with all architectures unless others are given. Compressed cores (gzip, zstd) are told by their first
 * bytes, and decompressed to a temporary file that is gone with the process. Call `close` on it when done.
 *
 * @throws KvmError as `openKvm`, and `IO` when a file cannot be opened, or the disk has no room for a temporary one
 * @example
 * const kvm = openKvmFile('/var/crash/vmcore.0', { kernel: '/boot/kernel/kernel' });
 * try {
 *   console.log(kvm.messageBuffer()?.text);
 * } finally {
 *   kvm.close();
 * }
 */
export function openKvmFile(path: string, options: OpenFileOptions = {}): Kvm {
  const opened: (() => void)[] = [];
  const open = (file: string): FileSource => {
    const source = new FileSource(file);
    opened.push(() => source.close());
    return source;
  };
  const close = (): void => {
    for (const closeOne of opened) closeOne();
  };
  const onClose = (): void => {
    close();
    options.onClose?.();
  };
  try {
    const { kernel, info = findInfoFile(path), ...rest } = options;
    return openKvm(open(path), {
      architectures: defaultArchitectures,
      unpack: fileUnpack(path, options, (closeOne) => opened.push(closeOne)),
      ...rest,
      ...(info && { info }),
      ...(kernel !== undefined && { kernel: typeof kernel === 'string' ? open(kernel) : kernel }),
      onClose,
    });
  } catch (error) {
    close();
    throw orEncrypted(error, path);
  }
}

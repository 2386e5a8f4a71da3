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
import { openKvm, type Bytes, type OpenOptions } from './open.js';

export { FileSink, writeDumpFile } from './node-file-sink.js';
export { FileSource } from './node-file-source.js';

/** Every architecture of this library. */
export const defaultArchitectures: readonly Architecture[] = [amd64, i386, arm, arm64];

/** What a core file is opened with; everything is optional. */
export interface OpenFileOptions extends Omit<Partial<OpenOptions>, 'kernel'> {
  /** Path of the kernel's ELF file, or its bytes. */
  readonly kernel?: string | Bytes;
}

/**
 * Opens a core file, with all architectures unless others are given. Call `close` on it when done.
 *
 * @throws KvmError as `openKvm`, and `IO` when a file cannot be opened
 * @example
 * const kvm = openKvmFile('/var/crash/vmcore.0', { kernel: '/boot/kernel/kernel' });
 * try {
 *   console.log(kvm.messageBuffer()?.text);
 * } finally {
 *   kvm.close();
 * }
 */
export function openKvmFile(path: string, options: OpenFileOptions = {}): Kvm {
  const opened: FileSource[] = [];
  const open = (file: string): FileSource => {
    const source = new FileSource(file);
    opened.push(source);
    return source;
  };
  const close = (): void => {
    for (const source of opened) source.close();
  };
  const onClose = (): void => {
    close();
    options.onClose?.();
  };
  try {
    const { kernel, ...rest } = options;
    return openKvm(open(path), {
      architectures: defaultArchitectures,
      ...rest,
      ...(kernel !== undefined && { kernel: typeof kernel === 'string' ? open(kernel) : kernel }),
      onClose,
    });
  } catch (error) {
    close();
    throw error;
  }
}

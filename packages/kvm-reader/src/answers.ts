import type { KvmError } from '@libkvm/minidump-core';

/** How a read treats what it cannot give. */
export interface ReadOptions {
  /** Fill bytes that are not in the core with zeros instead of failing. Off unless asked for. */
  readonly pad?: boolean;
}

/** What {@link Kvm.resolve} tells of an address. */
export interface Resolved {
  readonly kva: bigint;
  readonly physicalAddress: number;
  /** Offset in the core file; undefined where the page is stored compressed. */
  readonly fileOffset?: number;
  /** `rwx` with `-` for what is not allowed, as the hardware sees it. */
  readonly protection: string;
  /** Bytes of the hardware mapping. */
  readonly pageSize: number;
  /** Bytes from `kva` on that lie in one piece in physical memory and in the file. */
  readonly contiguous: number;
  /** The exact page-table entry, where the core has it. */
  readonly entry?: bigint;
  /** Its level: 1 for the last one (pages), 2 for the one above, ... */
  readonly level?: number;
}

/** What {@link Kvm.readPartial} got. */
export interface PartialRead {
  /** The bytes up to the fault. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Why there are not more; undefined when all were read. */
  readonly fault?: KvmError;
}

/**
 * What went wrong, as a program can test it.
 *
 * - `NOT_A_CORE`: nothing this library knows.
 * - `UNSUPPORTED`: recognised, not handled; the hint says what to do.
 * - `CORRUPT`: a field that contradicts the file or itself.
 * - `TRUNCATED`: a page or section that lies past the end of the file.
 * - `NOT_MAPPED`: the address has no valid page-table entry.
 * - `NOT_DUMPED`: the address is mapped, its page (or its page table) is not in the core.
 * - `NOT_CANONICAL`: no such address on this machine.
 * - `NO_SYMBOL`: the kernel file has no such symbol, or there is no kernel file.
 * - `MISMATCH`: kernel and core do not belong together.
 * - `INVALID_ARGUMENT`: the caller's mistake.
 * - `IO`: the source failed.
 * - `ABORTED`: cancelled by the caller.
 */
export type KvmErrorCode =
  | 'NOT_A_CORE'
  | 'UNSUPPORTED'
  | 'CORRUPT'
  | 'TRUNCATED'
  | 'NOT_MAPPED'
  | 'NOT_DUMPED'
  | 'NOT_CANONICAL'
  | 'NO_SYMBOL'
  | 'MISMATCH'
  | 'INVALID_ARGUMENT'
  | 'IO'
  | 'ABORTED';

/** Where an error happened and what would help. All fields are optional. */
export interface KvmErrorDetails {
  /** The KVA or PA of the first byte that could not be given. */
  address?: bigint;
  /** Which of the two {@link KvmErrorDetails.address} is. */
  addressSpace?: 'virtual' | 'physical';
  /** The physical address that {@link KvmErrorDetails.address} translates to, where that much is known. */
  physicalAddress?: number;
  /** Byte offset in the file. */
  offset?: number;
  /** Bytes asked for. */
  length?: number;
  /** Bytes that were good before the fault. */
  bytesDone?: number;
  /** Bytes from `address` on that are known to be unreadable for the same reason. */
  holeLength?: number;
  /** The header field, register or option at fault. */
  field?: string;
  /** What the user can do about it. */
  hint?: string;
  /** The error underneath. */
  cause?: unknown;
}

const BRAND = Symbol.for('@libkvm/KvmError');

/**
 * The one error class of the library. Test it with {@link isKvmError}: ESM and CommonJS copies of this package have
 * different classes, so `instanceof` is not reliable.
 */
export class KvmError extends Error implements KvmErrorDetails {
  override readonly name = 'KvmError';
  readonly code: KvmErrorCode;
  readonly address?: bigint;
  readonly addressSpace?: 'virtual' | 'physical';
  readonly physicalAddress?: number;
  readonly offset?: number;
  readonly length?: number;
  readonly bytesDone?: number;
  readonly holeLength?: number;
  readonly field?: string;
  readonly hint?: string;

  constructor(code: KvmErrorCode, message: string, details: KvmErrorDetails = {}) {
    const { cause, ...rest } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, rest);
  }

  /** @internal */
  get [BRAND](): true {
    return true;
  }

  /** Plain data for `--json` output and logs; addresses as hex strings. */
  toJSON(): Record<string, unknown> {
    const { code, message, address, physicalAddress, ...rest } = this;
    const data: Record<string, unknown> = { code, message };
    if (address !== undefined) data.address = toHex(address);
    if (physicalAddress !== undefined) data.physicalAddress = toHex(physicalAddress);
    for (const field of [
      'addressSpace',
      'offset',
      'length',
      'bytesDone',
      'holeLength',
      'field',
      'hint',
    ] as const) {
      if (rest[field] !== undefined) data[field] = rest[field];
    }
    return data;
  }
}

/**
 * Whether `error` is a {@link KvmError} from any copy of this package and, when codes are given, has one of them.
 *
 * @example
 * try { kvm.readU64(address); }
 * catch (error) { if (!isKvmError(error, 'NOT_DUMPED', 'NOT_MAPPED')) throw error; }
 */
export function isKvmError(error: unknown, ...codes: KvmErrorCode[]): error is KvmError {
  if (typeof error !== 'object' || error === null || !(BRAND in error)) return false;
  return codes.length === 0 || codes.includes((error as KvmError).code);
}

/** An address or bit pattern as the field prints it: lower-case hex with `0x`. */
export function toHex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

import { KVA_PAGE } from './address-space.js';
import { KvmError } from './errors.js';

const scratch = new BigUint64Array(1);
const halves = new Uint32Array(scratch.buffer);
const LOW = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 0 : 1;
const HIGH = 1 - LOW;
const MAX_KVA = 0xffff_ffff_ffff_ffffn;

/** A KVA taken apart, without bigint arithmetic: page number (KVA >> 12, below 2^52) and offset in the 4 KB page. */
export class KvaParts {
  page = 0;
  offset = 0;

  constructor(
    /** Address width of the machine. */
    readonly bits: 32 | 64,
  ) {}

  /**
   * Splits an address. On a 32-bit machine a sign-extended one (0xffffffffc0000000 for 0xc0000000) is the same address.
   *
   * @throws KvmError `INVALID_ARGUMENT` for anything that is not an address of up to 64 bits, `NOT_CANONICAL` for one
   *   that a 32-bit machine does not have
   */
  set(kva: number | bigint): void {
    if (typeof kva === 'bigint') {
      if (BigInt.asUintN(64, kva) !== kva) throw notAnAddress(kva);
      scratch[0] = kva;
    } else {
      if (!Number.isSafeInteger(kva) || kva < 0) throw notAnAddress(kva);
      halves[LOW] = kva;
      halves[HIGH] = kva / 0x1_0000_0000;
    }
    const low = halves[LOW];
    let high = halves[HIGH];
    if (this.bits === 32 && high !== 0) {
      if (high !== 0xffff_ffff || low < 0x8000_0000) throw notOn32(kva);
      high = 0;
    }
    this.page = high * 0x10_0000 + (low >>> 12);
    this.offset = low & (KVA_PAGE - 1);
  }
}

/** The KVA of a page number and an offset, zero-extended. */
export function kvaOf(page: number, offset: number): bigint {
  halves[LOW] = ((page & 0xf_ffff) << 12) | offset;
  halves[HIGH] = page / 0x10_0000;
  return scratch[0];
}

/**
 * A physical address, file offset or length from outside, checked: an integer in `[0, 2^53)`.
 *
 * @throws KvmError `INVALID_ARGUMENT`
 */
export function checkedNumber(value: number | bigint, what: string): number {
  const number = typeof value === 'bigint' && value >= 0n && value <= MAX_KVA ? Number(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `${what} must be an integer from 0 to 2^53 - 1, not ${String(value)}`,
    {
      field: what,
    },
  );
}

function notAnAddress(kva: unknown): KvmError {
  const big = typeof kva === 'number' && kva > Number.MAX_SAFE_INTEGER;
  return new KvmError('INVALID_ARGUMENT', `not an address of up to 64 bits: ${String(kva)}`, {
    field: 'kva',
    hint: big
      ? 'a number is exact only up to 2^53 - 1; write the address as a bigint (0xffffffff80200000n)'
      : 'addresses are integers from 0 to 2^64 - 1; BigInt.asUintN(64, x) makes one of a negative bigint',
  });
}

function notOn32(kva: number | bigint): KvmError {
  return new KvmError('NOT_CANONICAL', `this is a 32-bit machine; it has no address 0x${kva.toString(16)}`, {
    address: BigInt(kva),
    addressSpace: 'virtual',
    hint: 'addresses are 0 to 0xffffffff, or those from 0x80000000 sign-extended to 64 bits',
  });
}

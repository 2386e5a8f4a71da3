/** Memory that was taken for typed arrays while a ledger was open: how many bytes in all, and for the largest one. */
export interface Taken {
  readonly total: number;
  readonly largest: number;
}

const NAMES = [
  'Uint8Array',
  'Uint16Array',
  'Uint32Array',
  'Int32Array',
  'Float64Array',
  'ArrayBuffer',
] as const;

/**
 * Runs an action and counts the memory that it takes for typed arrays, whatever becomes of it: constructors are replaced
 * meanwhile. More than `limit` bytes at once are refused with a RangeError before they are taken.
 */
export function withLedger<T>(limit: number, action: () => T): { value: T; taken: Taken } {
  let total = 0;
  let largest = 0;
  const count = (bytes: number): void => {
    if (!(bytes > 0)) return;
    total += bytes;
    if (bytes > largest) largest = bytes;
    if (bytes > limit) throw new RangeError(`${bytes} bytes at once, of at most ${limit}`);
  };
  const scope = globalThis as Record<string, unknown>;
  const originals = NAMES.map((name) => [name, scope[name]] as const);
  try {
    for (const [name, original] of originals) {
      const unit = (original as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
      scope[name] = new Proxy(original as new (...args: unknown[]) => object, {
        construct(target, args, newTarget) {
          if (typeof args[0] === 'number') count(args[0] * unit);
          return Reflect.construct(target, args, newTarget) as object;
        },
      });
    }
    return { value: action(), taken: { total, largest } };
  } finally {
    for (const [name, original] of originals) scope[name] = original;
  }
}

/** A source of bytes that counts its reads and gives up after so many: what a bounded program never needs. */
export class BoundedSource {
  readonly size: number;
  reads = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly limit: number,
  ) {
    this.size = bytes.length;
  }

  readSync(offset: number, target: Uint8Array, at: number, length: number): number {
    if (++this.reads > this.limit) throw new RangeError(`more than ${this.limit} reads`);
    const piece = this.bytes.subarray(offset, offset + length);
    target.set(piece, at);
    return piece.length;
  }
}

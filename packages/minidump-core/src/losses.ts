import type { Mapping } from './address-space.js';
import { KvmError, toHex } from './errors.js';
import { kvaOf } from './kva.js';

/**
 * What of a source a format cannot hold: the exact `entry`, the size of hardware pages, the rights of the kernel
 * (`protection`) or of `user` mode, `global`, the `memoryType`, a whole `mapping`, the `directMap`, a `note`.
 */
export type LossKind =
  'entry' | 'pageSize' | 'protection' | 'user' | 'global' | 'memoryType' | 'mapping' | 'directMap' | 'note';

/** One kind of loss with its reason. */
export interface Loss {
  readonly kind: LossKind;
  readonly reason: string;
  /** Bytes of KVA that it concerns; 0 where it concerns none. */
  readonly bytes: number;
}

/** Counts what a format cannot hold, while a dump is planned. */
export class Losses {
  private readonly byReason = new Map<string, { kind: LossKind; reason: string; bytes: number }>();

  /** @param leavesOut whether mappings that the format cannot hold are left out, and not refused */
  constructor(private readonly leavesOut = false) {}

  /** What was lost, in the order in which it was first met. */
  get list(): readonly Loss[] {
    return [...this.byReason.values()].map((loss) => ({ ...loss }));
  }

  add(kind: LossKind, reason: string, bytes = 0): void {
    const key = `${kind} ${reason}`;
    const known = this.byReason.get(key);
    if (known) known.bytes += bytes;
    else this.byReason.set(key, { kind, reason, bytes });
  }

  /**
   * A mapping that the format cannot hold: counted where such mappings may be left out, refused otherwise.
   *
   * @param reason e.g. `its PA is above 4 GB`
   * @throws KvmError `UNSUPPORTED` with the mapping's KVA
   */
  mapping(mapping: Mapping, reason: string): void {
    if (this.leavesOut) return this.add('mapping', `mappings left out: ${reason}`, mapping.length);
    const kva = kvaOf(mapping.page, mapping.offset);
    throw new KvmError(
      'UNSUPPORTED',
      `this format cannot hold the mapping at ${toHex(kva)} to ${toHex(mapping.pa)}: ${reason}`,
      {
        address: kva,
        addressSpace: 'virtual',
        physicalAddress: mapping.pa,
        length: mapping.length,
        hint: 'choose a window of KVAs without it (--kva), leave such mappings out (--leave-out), or write the portable format',
      },
    );
  }
}

/** A loss in words. */
export function lossText({ reason, bytes }: Loss): string {
  return bytes === 0 ? reason : `${reason} (${bytes} bytes of KVA)`;
}

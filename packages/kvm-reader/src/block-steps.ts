import { abortedBy, type Cancellable } from './async-source.js';
import { NEEDS_BLOCKS, type BlockStore } from './block-store.js';

/** How a step is taken. */
export interface StepOptions extends Cancellable {
  /**
   * The step goes on where it was interrupted, as cursors do, instead of starting anew: what it read before its last
   * interruption need not stay.
   */
  readonly resumes?: boolean;
}

/**
 * Takes a synchronous step until it no longer lacks blocks of any of the stores that it reads. What it read before stays
 * there until it ends, so it comes further each time.
 *
 * @throws KvmError `ABORTED`, `IO`; what the step throws
 */
export async function takeStep<T>(
  stores: readonly BlockStore[],
  action: () => T,
  { signal, resumes = false }: StepOptions = {},
): Promise<T> {
  let pins = noPins(stores);
  try {
    for (;;) {
      if (signal?.aborted === true) throw abortedBy(signal);
      const before = pins;
      if (resumes) pins = noPins(stores);
      let taken: Taken<T>;
      try {
        taken = attempt(stores, action, pins);
      } finally {
        if (resumes) release(stores, before);
      }
      if ('value' in taken) return taken.value;
      await taken.lacking.fetchNeeded(pins[stores.indexOf(taken.lacking)], signal);
    }
  } finally {
    release(stores, pins);
  }
}

function noPins(stores: readonly BlockStore[]): Set<number>[] {
  return stores.map(() => new Set<number>());
}

function release(stores: readonly BlockStore[], pins: readonly Set<number>[]): void {
  stores.forEach((store, i) => store.release(pins[i]));
}

type Taken<T> = { readonly value: T } | { readonly lacking: BlockStore };

function attempt<T>(stores: readonly BlockStore[], action: () => T, pins: readonly Set<number>[]): Taken<T> {
  for (const store of stores) store.begin();
  let taken: Taken<T> | undefined;
  try {
    taken = { value: action() };
  } catch (error) {
    if (error !== NEEDS_BLOCKS) throw error;
  } finally {
    stores.forEach((store, i) => {
      if (store.end(pins[i])) taken ??= { lacking: store };
    });
  }
  return taken!;
}

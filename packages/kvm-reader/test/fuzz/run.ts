import { mutate } from './mutate.js';
import { withLedger, type Taken } from './ledger.js';
import type { Target } from './targets.js';

/** What the mutations of a target came to. */
export interface Tally {
  readonly name: string;
  count: number;
  /** Times that a file opened, and times that it was refused, by code. */
  readonly outcomes: Map<string, number>;
  /** Most memory for typed arrays in one mutation, in bytes. */
  mostTotal: number;
  mostAtOnce: number;
}

/** A mutation that broke a rule. */
export interface Failure {
  readonly target: string;
  readonly seed: number;
  readonly error: unknown;
}

/**
 * The most that may be taken at once: the buffers of a fixed size (a cache's first megabyte, translations, a search) and
 * a few times the file. A size field may ask for 4 GB.
 */
const FIXED = 4 * 1024 * 1024;

export function tallyOf({ name }: Target): Tally {
  return { name, count: 0, outcomes: new Map(), mostTotal: 0, mostAtOnce: 0 };
}

/** One mutation of a target, wholly given by its seed. */
export function runOne(target: Target, seed: number, tally: Tally): Failure | undefined {
  const bytes = mutate(target.bytes, target.anatomy, seed);
  let outcome: string;
  let taken: Taken;
  try {
    const limit = FIXED + 4 * bytes.length;
    ({ value: outcome, taken } = withLedger(limit, () => target.check(bytes, seed)));
  } catch (error) {
    tally.count++;
    return { target: target.name, seed, error };
  }
  tally.count++;
  tally.outcomes.set(outcome, (tally.outcomes.get(outcome) ?? 0) + 1);
  tally.mostTotal = Math.max(tally.mostTotal, taken.total);
  tally.mostAtOnce = Math.max(tally.mostAtOnce, taken.largest);
  return undefined;
}

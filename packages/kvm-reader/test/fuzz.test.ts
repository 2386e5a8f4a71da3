import { describe, expect, it } from 'vitest';
import { runOne, tallyOf } from './fuzz/run.js';
import { makeTargets } from './fuzz/targets.js';
import { LONG } from './support/long.js';

/** A little of the fuzz lane, the same each time: `npm run fuzz` goes on from there. */

const RUNS = LONG ? 2000 : 40;

describe('damaged files open or are refused, and never give the bytes of another place', () => {
  it.each(makeTargets())('$name', (target) => {
    const tally = tallyOf(target);
    // The sound file first, as it is.
    expect(target.check(target.bytes, 0)).toBe('opened');
    for (let seed = 1; seed <= RUNS; seed++) {
      const failure = runOne(target, seed, tally);
      if (failure) throw new Error(`seed ${seed}: ${String(failure.error)}`, { cause: failure.error });
    }
    // Damage must leave something to read, and something to refuse: else it would test one of the two alone.
    expect(tally.outcomes.get('opened')).toBeGreaterThan(RUNS / 8);
    expect(tally.outcomes.size).toBeGreaterThan(1);
  });
});

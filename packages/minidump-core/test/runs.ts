import type { Parameters } from 'fast-check';

/** More and longer random runs: `npm run test:long`. */
export const LONG = (process.env.LIBKVM_LONG ?? '') !== '';

/** Parameters of a property that runs so many times, and 20 times as many in long tests. */
export function runs<T>(count: number): Parameters<T> {
  return { numRuns: LONG ? count * 20 : count };
}

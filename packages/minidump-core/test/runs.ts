/** More and longer random runs: `npm run test:long`. */
export const LONG = (process.env.LIBKVM_LONG ?? '') !== '';

/** Parameters of a property that runs so many times, and 20 times as many in long tests. */
export function runs(count: number): { numRuns: number } {
  return { numRuns: LONG ? count * 20 : count };
}

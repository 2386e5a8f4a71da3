import { expect } from 'vitest';

/** `expect(actual).toBe(expected)` for the inside of long loops: it does work only on failure. */
export function same(actual: unknown, expected: unknown, ...where: unknown[]): void {
  if (!Object.is(actual, expected)) {
    expect.fail(`${where.map(String).join(' ')}: ${String(actual)}, not ${String(expected)}`);
  }
}

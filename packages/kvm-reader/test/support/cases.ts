import type { RandomMachine } from '@libkvm/fixtures';
import { amd64Minidump, randomMachine } from '@libkvm/fixtures';
import fc from 'fast-check';
import { Model } from './model.js';

/** A random machine, dumped, with the right answers. */
export interface Case {
  readonly random: RandomMachine;
  readonly model: Model;
  readonly version: 1 | 2 | 3;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const sources = fc.oneof(
  fc.integer({ min: 1, max: 0x7fffffff }),
  fc.uint8Array({ minLength: 20, maxLength: 400 }),
);
const versions = fc.constantFrom(1 as const, 2 as const, 3 as const);

/**
 * Random machines in dumps of all versions. They are built lazily: `caseOf` makes the case. `walked`: for tests that
 * visit every mapping, which get no version 1 with its 262144 entries for a page of 1 GB.
 */
export const dumps = fc.record({ source: sources, version: versions });
export type DumpChoice = typeof dumps extends fc.Arbitrary<infer T> ? T : never;

export function caseOf({ source, version: wanted }: DumpChoice, walked = false): Case {
  const random = randomMachine(source);
  const { machine } = random;
  const gigabyte = machine.description.mappings.some(({ pageSize }) => pageSize === 0x40000000);
  const version = wanted === 1 && walked && gigabyte ? 2 : wanted;
  const dump = amd64Minidump(machine, { version });
  return { random, version, model: new Model(machine, dump), bytes: dump.file.bytes() };
}

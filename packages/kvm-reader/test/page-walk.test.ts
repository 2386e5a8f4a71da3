import type { ByteSource } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PageWalk } from '../src/page-walk.js';
import { Translator } from '../src/translator.js';
import { caseOf, dumps } from './support/cases.js';
import { runs } from './support/long.js';
import { asSource, openAmd64 } from './support/open.js';

const FLAKY = new Error('flaky');

it('a page walk comes to the same rows when the source fails in between, and is asked again', () => {
  const property = fc.property(dumps, fc.integer({ min: 2, max: 9 }), (choice, every) => {
    const { bytes } = caseOf(choice, true);
    const good = asSource(bytes);
    let reads = 0;
    let flaky = false;
    const source: ByteSource = {
      size: good.size,
      readSync(offset, target, at, length) {
        if (!flaky || ++reads % every !== 0) return good.readSync(offset, target, at, length);
        target.fill(0xee, at, at + length);
        throw FLAKY;
      },
    };
    const kvm = openAmd64(source, { cacheBytes: 0 });
    flaky = true;
    const walk = new PageWalk(new Translator(kvm.core));
    for (const row of openAmd64(bytes).pages()) expect(persistently(() => walk.next())).toEqual(row);
    expect(persistently(() => walk.next())).toBeUndefined();
  });
  fc.assert(property, runs(20));
});

function persistently<T>(action: () => T): T {
  for (;;) {
    try {
      return action();
    } catch (error) {
      if (error !== FLAKY) throw error;
    }
  }
}

// The two cores that are measured, made anew in a temporary folder.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { denseCore, sparseGiant } from '../packages/fixtures/dist/node.js';

/** Runs `action` with a folder that is gone afterwards. */
export async function withFolderAsync(action) {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-bench-'));
  try {
    return await action(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** About 100 MB, every page with content, all of it in the page cache. */
export function makeDense(folder) {
  const core = denseCore(join(folder, 'dense'));
  readFileSync(core.path);
  return core;
}

/** 64 GB to readers, some MB on disk, of a machine with a terabyte of physical addresses. */
export function makeGiant(folder) {
  return sparseGiant(join(folder, 'giant'));
}

/** Repeatable random integers: below(n) is in [0, n). */
export function random(seed = 1) {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  // The low bits of this generator repeat soon; two draws of the upper half make 32 good ones.
  return { below: (bound) => (((next() & 0xffff0000) | (next() >>> 16)) >>> 0) % bound };
}

/**
 * Random 8-byte aligned addresses in `[start, start + bytes)`, and where they lie in the file: from the expected answers
 * of the synthetic machine, not from the reader that is measured.
 */
export function randomAddresses(core, start, bytes, count, seed) {
  const { below } = random(seed);
  const kvas = new Array(count);
  const offsets = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    kvas[i] = start + BigInt(below(bytes / 8) * 8);
    offsets[i] = offsetOf(core, kvas[i]);
  }
  return { kvas, offsets };
}

/** File offset of every page of a window. */
export function pageOffsets(core, { start, end }) {
  const offsets = new Float64Array(Number(end - start) / 4096);
  for (let i = 0; i < offsets.length; i++) offsets[i] = offsetOf(core, start + BigInt(i * 4096));
  return offsets;
}

function offsetOf({ dump }, kva) {
  const answer = dump.expected.resolve(kva);
  if (answer.state !== 'present')
    throw new Error(`0x${kva.toString(16)} is not in the core: ${answer.state}`);
  return answer.fileOffset;
}

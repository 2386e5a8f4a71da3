import { KVA_PAGE, MAPPED, type Core } from '@libkvm/minidump-core';
import type { Cancellable } from './async-source.js';
import type { BlockStore } from './block-store.js';
import type { Translator } from './translator.js';

/** A piece of a read: where it lies in the file and where it goes in the target. */
export interface FileRun {
  offset: number;
  at: number;
  length: number;
}

/** Gaps of up to so many bytes between runs are fetched with them: cheaper than another request. */
const MAX_GAP = 32768;
/** No request asks for more. */
const MAX_REQUEST = 4 * 1024 * 1024;

/**
 * Where the bytes of `[page:offset, + length)` lie in the file: runs in the order of the addresses, neighbours joined.
 * Ends at the first byte that cannot be read. Reads page tables only.
 */
export function virtualRuns(translator: Translator, page: number, offset: number, length: number): FileRun[] {
  const { memory } = translator.core;
  const runs: FileRun[] = [];
  let done = 0;
  while (done < length && page < translator.endPage) {
    if (translator.translate(page, offset) !== MAPPED) break;
    const { pa, length: mapped } = translator.translation;
    const located = memory.locate(pa);
    if (located < 0) break;
    const count = memory.run(pa, Math.min(mapped, length - done));
    addRun(runs, located, done, count);
    done += count;
    offset += count;
    page += Math.floor(offset / KVA_PAGE);
    offset %= KVA_PAGE;
  }
  return runs;
}

/** The same for physical addresses. */
export function physicalRuns({ memory }: Core, pa: number, length: number): FileRun[] {
  const runs: FileRun[] = [];
  let done = 0;
  while (done < length) {
    const located = memory.locate(pa + done);
    if (located < 0) break;
    const count = memory.run(pa + done, length - done);
    addRun(runs, located, done, count);
    done += count;
  }
  return runs;
}

/** Bytes that runs cover. */
export function runsLength(runs: readonly FileRun[]): number {
  return runs.reduce((sum, { length }) => sum + length, 0);
}

/** Reads runs into a target, a few requests at a time. The first failure ends all of them. */
export async function readRuns(
  store: BlockStore,
  runs: readonly FileRun[],
  target: Uint8Array,
  concurrency: number,
  { signal }: Cancellable,
): Promise<void> {
  const requests = joinRuns(runs);
  const failed = new AbortController();
  const either = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < requests.length && !failed.signal.aborted) {
      const group = requests[next++];
      const bytes = new Uint8Array(group.end - group.start);
      await store.readThrough(group.start, bytes, either);
      for (const { offset, at, length } of group.runs) {
        target.set(bytes.subarray(offset - group.start, offset - group.start + length), at);
      }
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, requests.length) }, worker);
  try {
    await Promise.all(workers);
  } catch (error) {
    failed.abort();
    await Promise.allSettled(workers);
    throw error;
  }
}

interface Request {
  start: number;
  end: number;
  runs: FileRun[];
}

/** Runs near each other in the file, in one request. */
function joinRuns(runs: readonly FileRun[]): Request[] {
  const pieces = runs.flatMap(splitRun).sort((a, b) => a.offset - b.offset);
  const requests: Request[] = [];
  for (const run of pieces) {
    const last = requests.at(-1);
    const end = run.offset + run.length;
    if (last && run.offset - last.end <= MAX_GAP && end - last.start <= MAX_REQUEST) {
      last.end = Math.max(last.end, end);
      last.runs.push(run);
    } else requests.push({ start: run.offset, end, runs: [run] });
  }
  return requests;
}

function splitRun({ offset, at, length }: FileRun): FileRun[] {
  const pieces: FileRun[] = [];
  for (let done = 0; done < length; done += MAX_REQUEST) {
    pieces.push({ offset: offset + done, at: at + done, length: Math.min(MAX_REQUEST, length - done) });
  }
  return pieces;
}

/** Adds a run, or lengthens the last one where it goes on. */
export function addRun(runs: FileRun[], offset: number, at: number, length: number): void {
  const last = runs.at(-1);
  if (last && last.offset + last.length === offset) last.length += length;
  else runs.push({ offset, at, length });
}

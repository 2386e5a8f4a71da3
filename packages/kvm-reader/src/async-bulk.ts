import { KvmError, checkedNumber, isKvmError } from '@libkvm/minidump-core';
import type { PartialRead, ReadOptions } from './answers.js';
import { addRun, physicalRuns, readRuns, runsLength, virtualRuns, type FileRun } from './async-runs.js';
import type { Cancellable } from './async-source.js';
import type { StepOptions } from './block-steps.js';
import type { BlockStore } from './block-store.js';
import { physicalFault, virtualFault } from './faults.js';
import { advance, type Kvm } from './kvm.js';

/** Bytes translated in one step: a step that lacks a block is taken again from its start. */
const SURVEY_STEP = 4 * 1024 * 1024;

/** Takes a synchronous step as often as it needs. */
export type TakeStep = <T>(action: () => T, options?: StepOptions) => Promise<T>;

/** What of a read there is, by its place in the file, and why there is not more. */
interface Survey {
  readonly runs: FileRun[];
  readonly bytesDone: number;
}

/**
 * Long reads of an asynchronous core: first it is found step by step where the bytes lie, then they are fetched together,
 * past the store. Memory is taken only for what is known to be there.
 */
export class AsyncBulk {
  constructor(
    private readonly kvm: Kvm,
    private readonly store: BlockStore,
    private readonly take: TakeStep,
    private readonly concurrency: number,
  ) {}

  /** `length` bytes at an address, as `Kvm.read` has them. */
  async read(
    kva: number | bigint,
    length: number,
    options: ReadOptions & Cancellable,
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (options.pad === true) {
      this.check(kva, length);
      const target = new Uint8Array(length);
      await this.readInto(kva, target, options);
      return target;
    }
    const { bytes, fault } = await this.readPartial(kva, length, options);
    if (fault) throw fault;
    return bytes;
  }

  async readPartial(kva: number | bigint, length: number, options: Cancellable): Promise<PartialRead> {
    const { page, offset } = this.check(kva, length);
    const { runs, bytesDone } = await this.survey(page, offset, length, options);
    const bytes = new Uint8Array(bytesDone);
    await this.fetch(runs, bytes, options);
    if (bytesDone === length) return { bytes };
    return { bytes, fault: await this.faultAt(page, offset, { length, bytesDone }, options) };
  }

  async readInto(
    kva: number | bigint,
    target: Uint8Array,
    options: ReadOptions & Cancellable,
  ): Promise<void> {
    const { page, offset } = this.check(kva, 0);
    const { length } = target;
    for (let done = 0; done < length;) {
      const [fromPage, fromOffset] = advance(page, offset, done);
      const { runs, bytesDone } = await this.survey(fromPage, fromOffset, length - done, options);
      await this.fetch(runs, target.subarray(done, done + bytesDone), options);
      done += bytesDone;
      if (done === length) return;
      const fault = await this.faultAt(page, offset, { length, bytesDone: done }, options);
      if (options.pad !== true || !isKvmError(fault, 'NOT_MAPPED', 'NOT_DUMPED', 'TRUNCATED')) throw fault;
      const end = Math.min(length, done + Math.max(1, fault.holeLength ?? 1));
      target.fill(0, done, end);
      done = end;
    }
  }

  /** As many bytes of physical memory as there are, and why there are not more. */
  async readPhysical(pa: number | bigint, length: number, options: Cancellable): Promise<PartialRead> {
    const from = checkedNumber(pa, 'pa');
    this.kvm.checkLength(length);
    const { core } = this.kvm;
    const { runs, bytesDone } = await this.collect(
      length,
      (done, piece) => physicalRuns(core, from + done, piece),
      options,
    );
    const bytes = new Uint8Array(bytesDone);
    await this.fetch(runs, bytes, options);
    if (bytesDone === length) return { bytes };
    const fault = await this.take(
      () => physicalFault(core.memory, from + bytesDone, { length, bytesDone }),
      options,
    );
    return { bytes, fault };
  }

  /** Page and offset of an address, which is checked before the length, as `Kvm` does. */
  private check(kva: number | bigint, length: number): { page: number; offset: number } {
    const { page, offset } = this.kvm.reader.split(kva);
    this.kvm.checkLength(length);
    return { page, offset };
  }

  private survey(page: number, offset: number, length: number, options: Cancellable): Promise<Survey> {
    const { translator } = this.kvm.reader;
    const runsAt = (done: number, piece: number): FileRun[] =>
      virtualRuns(translator, ...advance(page, offset, done), piece);
    return this.collect(length, runsAt, options);
  }

  /** The runs of a read, a piece of it at a time, up to the first byte that cannot be read. */
  private async collect(
    length: number,
    runsAt: (done: number, piece: number) => FileRun[],
    { signal }: Cancellable,
  ): Promise<Survey> {
    const runs: FileRun[] = [];
    let done = 0;
    while (done < length) {
      const start = done;
      const piece = Math.min(SURVEY_STEP, length - start);
      const found = await this.take(() => runsAt(start, piece), signal ? { signal } : {});
      for (const run of found) addRun(runs, run.offset, start + run.at, run.length);
      const got = runsLength(found);
      done += got;
      if (got < piece) break;
    }
    return { runs, bytesDone: done };
  }

  private faultAt(
    page: number,
    offset: number,
    progress: { length: number; bytesDone: number },
    options: Cancellable,
  ): Promise<KvmError> {
    const { translator } = this.kvm.reader;
    const [faultPage, faultOffset] = advance(page, offset, progress.bytesDone);
    return this.take(() => virtualFault(translator, faultPage, faultOffset, progress), options);
  }

  /** Reads runs of the core past the store. A dump header in front of the core is none of its offsets. */
  private fetch(runs: readonly FileRun[], bytes: Uint8Array, options: Cancellable): Promise<void> {
    const { dataOffset = 0 } = this.kvm.core;
    const moved = dataOffset === 0 ? runs : runs.map((run) => ({ ...run, offset: run.offset + dataOffset }));
    return readRuns(this.store, moved, bytes, this.concurrency, options);
  }
}

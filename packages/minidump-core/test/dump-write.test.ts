import { describe, expect, it } from 'vitest';
import {
  crc32,
  dumpToBytes,
  isKvmError,
  KvmError,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  planPortable,
  writeDump,
  writeDumpSync,
  type DumpMemory,
  type DumpPlan,
  type DumpSource,
} from '../src/index.js';
import { expectCode } from './expect-code.js';
import { ModelDump } from './portable-model.js';
import { ramByte } from './portable-world.js';

/** 18 MB of RAM in one run: more than the event loop gets no turn for. */
const LENGTH = 18 * 2 ** 20;

const memory: DumpMemory = {
  ...literalMemory([], [{ start: 0, end: LENGTH }]),
  readSync: (pa, target, at, length) => {
    for (let i = 0; i < length; i += 4096) target[at + i] = ramByte(pa + i);
  },
};

const source: DumpSource = {
  machine: {
    ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
    pteFormat: '',
  },
  memory,
  addressSpace: literalAddressSpace([{ kva: 0xffffffff80000000n, pa: 0, length: LENGTH }]),
};

/** Copies what it is given: pieces are reused. */
class Collector {
  readonly pieces: Uint8Array[] = [];
  length = 0;

  write(bytes: Uint8Array): void {
    this.pieces.push(bytes.slice());
    this.length += bytes.length;
  }

  joined(): Uint8Array {
    return Buffer.concat(this.pieces);
  }
}

async function failure(promise: Promise<unknown>): Promise<KvmError> {
  try {
    await promise;
  } catch (error) {
    if (isKvmError(error)) return error;
    throw error;
  }
  throw new Error('no error');
}

const planOf = (extra: Partial<DumpSource> = {}): DumpPlan => planPortable({ ...source, ...extra });
const small = literalAddressSpace([{ kva: 0x1000, pa: 0x1000, length: 0x4000 }]);

describe('a planned dump', () => {
  const plan = planOf();
  const bytes = dumpToBytes(plan);

  it('is as long as it said', () => {
    expect(bytes.length).toBe(plan.size);
    const { sections } = plan;
    expect(sections[0]).toEqual({ name: 'header', offset: 0, length: 4096 });
    expect(sections.at(-1)).toEqual({ name: 'trailer', offset: plan.size - 4096, length: 4096 });
    sections.slice(1).forEach(({ offset }, i) => {
      expect(offset).toBe(sections[i].offset + Math.ceil(sections[i].length / 4096) * 4096);
    });
    expect(new ModelDump(bytes).pages.size).toBe(LENGTH / 4096);
  });

  it('is the same through every way of writing, and again', async () => {
    const sync = new Collector();
    writeDumpSync(plan, sync);
    const async = new Collector();
    await writeDump(plan, async);
    const slow = new Collector();
    // A sink that keeps a piece until its promise is fulfilled.
    await writeDump(plan, { write: async (piece) => (await Promise.resolve(), slow.write(piece)) });
    for (const sink of [sync, async, slow]) expect(Buffer.compare(sink.joined(), bytes)).toBe(0);
  });

  it('uses the checksum it is given', () => {
    let summed = 0;
    const counting = (piece: Uint8Array, crc?: number): number => (
      (summed += piece.length),
      crc32(piece, crc)
    );
    const sink = new Collector();
    writeDumpSync(plan, sink, { crc32: counting });
    expect(summed).toBe(plan.size);
    expect(Buffer.compare(sink.joined(), bytes)).toBe(0);
  });

  it('comes in bounded pieces', () => {
    for (const piece of plan.bytes()) expect(piece.length).toBeLessThanOrEqual(2 ** 20);
  });

  it('shows progress to the end', async () => {
    for (const write of [
      writeDump,
      async (...all: Parameters<typeof writeDumpSync>) => writeDumpSync(...all),
    ]) {
      const steps: number[] = [];
      await write(plan, new Collector(), {
        onProgress: (done, total) => (expect(total).toBe(plan.size), steps.push(done)),
      });
      expect(steps.at(-1)).toBe(plan.size);
      expect(steps.every((step, i) => i === 0 || step > steps[i - 1])).toBe(true);
    }
  });
});

describe('a cancelled write', () => {
  it('writes nothing when it was cancelled before', async () => {
    const sink = new Collector();
    const signal = AbortSignal.abort('enough');
    expect(await failure(writeDump(planOf(), sink, { signal }))).toMatchObject({
      ...{ code: 'ABORTED', bytesDone: 0, cause: 'enough' },
    });
    expectCode('ABORTED', () => writeDumpSync(planOf(), sink, { signal }));
    expect(sink.length).toBe(0);
  });

  it('stops at the next piece', async () => {
    const controller = new AbortController();
    const sink = new Collector();
    const onProgress = (done: number): void => void (done > 5e6 && controller.abort());
    const error = await failure(writeDump(planOf(), sink, { signal: controller.signal, onProgress }));
    expect(error.code).toBe('ABORTED');
    expect(sink.length).toBeLessThan(8e6);
    expect(error.bytesDone).toBe(sink.length);
  });

  it('hears a signal that comes from outside', async () => {
    const sink = new Collector();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 0);
    expect((await failure(writeDump(planOf(), sink, { signal: controller.signal }))).code).toBe('ABORTED');
    expect(sink.length).toBeLessThan(LENGTH);
  });

  it('is cancelled even after its last byte', async () => {
    const controller = new AbortController();
    const plan = planOf({ addressSpace: small });
    const onProgress = (done: number): void => void (done === plan.size && controller.abort());
    const options = { signal: controller.signal, onProgress };
    expect((await failure(writeDump(plan, new Collector(), options))).code).toBe('ABORTED');
  });
});

describe('a source that changes after the plan', () => {
  it('ends the write when a page is gone', async () => {
    let gone = false;
    const fading: DumpMemory = {
      ...memory,
      available: (pa, limit) =>
        gone && pa + limit > 0x3000 ? Math.max(0, 0x3000 - pa) : memory.available(pa, limit),
    };
    const plan = planOf({ memory: fading });
    gone = true;
    const error = await failure(writeDump(plan, new Collector()));
    expect(error).toMatchObject({ code: 'IO', address: 0x3000n, addressSpace: 'physical' });
    expect(error.hint).toContain('plan again');
  });

  it('passes on what the source throws', async () => {
    const plan = planOf({
      memory: {
        ...memory,
        readSync: () => {
          throw new KvmError('IO', 'the guest is gone', { field: 'guest' });
        },
      },
    });
    expect((await failure(writeDump(plan, new Collector()))).message).toBe('the guest is gone');
  });

  it('ends the write when the page tables changed', () => {
    let mappings = [{ kva: 0x1000, pa: 0x1000, length: 0x1000 }];
    const plan = planOf({
      addressSpace: { mappings: (from, to) => literalAddressSpace(mappings).mappings(from, to) },
    });
    mappings = [...mappings, { kva: 0x100000, pa: 0x1000, length: 0x1000 }];
    expect(expectCode('IO', () => dumpToBytes(plan)).message).toContain('segments was planned with 32 bytes');
    mappings = [];
    expect(expectCode('IO', () => dumpToBytes(plan)).hint).toContain('plan again');
  });

  it('ends the write when the message buffer is cut', () => {
    const ring = { size: 100, readSync: () => 0 };
    const plan = planOf({ addressSpace: small, messageBuffer: { ring, start: 0 } });
    expect(expectCode('IO', () => dumpToBytes(plan)).field).toBe('msgbuf');
  });

  it('lets a new plan do without the page', () => {
    const fading: DumpMemory = {
      ...memory,
      available: (pa, limit) => Math.max(0, Math.min(limit, 0x3000 - pa)),
    };
    const { report } = planOf({ memory: fading, addressSpace: small });
    expect(report).toMatchObject({ pages: 2, dropped: { absent: 2 } });
  });
});

describe('a sink that fails', () => {
  it('ends the write, and no more is asked of the source', async () => {
    let reads = 0;
    const counted: DumpMemory = {
      ...memory,
      readSync: (...all) => (reads++, memory.readSync(...all)),
    };
    let taken = 0;
    const full = {
      write(bytes: Uint8Array) {
        taken += bytes.length;
        if (taken > 3e6) throw new Error('no space left on device');
      },
    };
    const plan = planOf({ memory: counted });
    await expect(writeDump(plan, full)).rejects.toThrow('no space left');
    const before = reads;
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(reads).toBe(before);
    taken = 0;
    expect(() => writeDumpSync(plan, full)).toThrow('no space left');
    await expect(writeDump(plan, { write: () => Promise.reject(new Error('gone')) })).rejects.toThrow('gone');
  });
});

describe('the message buffer', () => {
  it('is written in memory order, with its start', () => {
    const ring = new MemorySource(Uint8Array.from({ length: 5000 }, (_, i) => i % 251));
    const dump = new ModelDump(
      dumpToBytes(planOf({ addressSpace: small, messageBuffer: { ring, start: 77 } })),
    );
    expect(Buffer.compare(dump.section('msgbuf'), ring.bytes)).toBe(0);
    expect(dump.header.msgbufStart).toBe(77n);
  });
});

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Prng } from '@libkvm/fixtures';
import {
  BlockCache,
  dumpToBytes,
  isKvmError,
  KvmError,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  planPortable,
  verifyCore,
  type DumpMemory,
  type DumpPlan,
} from '@libkvm/minidump-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openKvm } from '../src/index.js';
import { openKvmFile } from '../src/node.js';
import { FileSink, writeDumpFile } from '../src/node-file-sink.js';
import { bundleChild } from './support/child.js';
import { LONG } from './support/long.js';

let folder: string;
let child: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'libkvm-write-'));
  child = await bundleChild('write-child', folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A new empty folder below it. */
let target: string;
beforeEach(() => {
  const own = mkdtempSync(join(folder, 'case-'));
  target = join(own, 'vmcore.0');
});
const left = (): string[] => readdirSync(join(target, '..'));

const LENGTH = 20 * 2 ** 20;
const memory: DumpMemory = {
  ...literalMemory([], [{ start: 0, end: LENGTH }]),
  readSync: (pa, bytes, at, length) => bytes.fill(pa / 2 ** 20 + 1, at, at + length),
};

function planOf(over: DumpMemory = memory, length = LENGTH): DumpPlan {
  return planPortable({
    machine: {
      ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
      pteFormat: '',
    },
    memory: over,
    addressSpace: literalAddressSpace([{ kva: 0xffffffff80000000n, pa: 0, length }]),
  });
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

describe('a written file', () => {
  it('is what was planned, with the checksums of zlib', async () => {
    const plan = planOf();
    await writeDumpFile(plan, target);
    expect(Buffer.compare(readFileSync(target), dumpToBytes(plan))).toBe(0);
    expect(left()).toEqual(['vmcore.0']);
    // It holds a machine's memory: for nobody else to read.
    expect(statSync(target).mode & 0o077).toBe(0);
  });

  it('is whole where it is so long that it is flushed on the way', async () => {
    const length = 70 * 2 ** 20;
    const large = { ...memory, ...literalMemory([], [{ start: 0, end: length }]), readSync: memory.readSync };
    const plan = planOf(large, length);
    await writeDumpFile(plan, target);
    const kvm = openKvmFile(target, { architectures: [] });
    const { problems } = verifyCore(kvm.core.cache, () => kvm.core, crc32);
    kvm.close();
    expect([problems, statSync(target).size, left()]).toEqual([[], plan.size, ['vmcore.0']]);
  });

  it('takes the place of an older one', async () => {
    writeFileSync(target, 'an older core');
    await writeDumpFile(planOf(memory, 4096), target);
    expect(statSync(target).size).toBe(planOf(memory, 4096).size);
    expect(left()).toEqual(['vmcore.0']);
  });

  it('can be written twice at once', async () => {
    const [small, large] = [planOf(memory, 4096), planOf()];
    await Promise.all([writeDumpFile(small, target), writeDumpFile(large, target)]);
    expect([small.size, large.size]).toContain(statSync(target).size);
    expect(left()).toEqual(['vmcore.0']);
  });

  it('shows its progress', async () => {
    const steps: number[] = [];
    const plan = planOf();
    await writeDumpFile(plan, target, { onProgress: (done) => steps.push(done) });
    expect(steps.at(-1)).toBe(plan.size);
    expect(steps.length).toBeGreaterThan(15);
  });
});

/** Each of these fails in its way; the file that was there before has to be there after. */
describe.each([
  ['where there was none', undefined],
  ['over an older file', 'an older core'],
] as const)('a write that fails, %s', (_name, before) => {
  beforeEach(() => {
    if (before !== undefined) writeFileSync(target, before);
  });
  const unchanged = (): void => {
    expect(left()).toEqual(before === undefined ? [] : ['vmcore.0']);
    if (before !== undefined) expect(readFileSync(target, 'utf8')).toBe(before);
  };

  it('because the source fails half-way', async () => {
    const failing: DumpMemory = {
      ...memory,
      readSync: (pa, ...rest) => {
        if (pa > LENGTH / 2) throw new KvmError('IO', 'the guest is gone', { field: 'guest' });
        memory.readSync(pa, ...rest);
      },
    };
    expect((await failure(writeDumpFile(planOf(failing), target))).message).toBe('the guest is gone');
    unchanged();
  });

  it('because a page is gone that was there when it was planned', async () => {
    let gone = LENGTH;
    const fading = {
      ...memory,
      available: (pa: number, limit: number) => Math.max(0, Math.min(limit, gone - pa)),
    };
    const plan = planOf(fading);
    gone = LENGTH - 4096;
    expect((await failure(writeDumpFile(plan, target))).code).toBe('IO');
    unchanged();
  });

  it('because something throws that is no error of this library', async () => {
    const plan = planOf();
    const onProgress = (): void => {
      throw new TypeError('a mistake of the caller');
    };
    await expect(writeDumpFile(plan, target, { onProgress })).rejects.toThrow(TypeError);
    unchanged();
  });

  it('because it was cancelled before it began', async () => {
    const signal = AbortSignal.abort();
    expect(await failure(writeDumpFile(planOf(), target, { signal }))).toMatchObject({
      ...{ code: 'ABORTED', bytesDone: 0 },
    });
    unchanged();
  });

  it.each([1, 5e6, LENGTH, 'the end'] as const)('because it was cancelled at %s', async (at) => {
    const controller = new AbortController();
    const plan = planOf();
    const limit = at === 'the end' ? plan.size : at;
    const onProgress = (done: number): void => void (done >= limit && controller.abort(new Error('enough')));
    const error = await failure(writeDumpFile(plan, target, { signal: controller.signal, onProgress }));
    expect(error.code).toBe('ABORTED');
    expect(error.cause).toEqual(new Error('enough'));
    unchanged();
  });

  it('because it was cancelled from outside', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1);
    expect((await failure(writeDumpFile(planOf(), target, { signal: controller.signal }))).code).toBe(
      'ABORTED',
    );
    unchanged();
  });
});

describe('a place where nothing can be written', () => {
  it('is said: a folder that is not there', async () => {
    const error = await failure(writeDumpFile(planOf(), join(target, 'vmcore.0')));
    expect(error).toMatchObject({ code: 'IO', field: 'path' });
    expect(error.message).toContain('no such file or directory');
    expect(left()).toEqual([]);
  });

  it('is said: a folder of that name', async () => {
    mkdirSync(target);
    writeFileSync(join(target, 'file'), 'kept');
    expect((await failure(writeDumpFile(planOf(memory, 4096), target))).code).toBe('IO');
    expect(left()).toEqual(['vmcore.0']);
    expect(readdirSync(target)).toEqual(['file']);
  });

  it('is said: what is no file would be gone, such as a device that a superuser may replace', async () => {
    const socket = createServer().listen(target);
    await once(socket, 'listening');
    const link = `${target}.link`;
    symlinkSync(target, link);
    for (const path of [target, link]) {
      const error = await failure(writeDumpFile(planOf(memory, 4096), path));
      expect(error).toMatchObject({ code: 'IO', field: 'path', message: `${path}: not a regular file` });
      expect(error.hint).toContain('name of a new file');
    }
    expect(left()).toEqual(['vmcore.0', 'vmcore.0.link']);
    expect([statSync(target).isSocket(), lstatSync(link).isSymbolicLink()]).toEqual([true, true]);
    socket.close();
  });
});

describe('a file sink', () => {
  it('can be discarded at any time, and again', async () => {
    const sink = new FileSink(target);
    await sink.write(new Uint8Array(100_000));
    await sink.discard();
    await sink.discard();
    expect(left()).toEqual([]);
    expect((await failure(Promise.resolve().then(() => sink.write(new Uint8Array(1))))).code).toBe('IO');
    expect((await failure(sink.commit())).code).toBe('IO');
    const committed = new FileSink(target);
    await committed.write(Uint8Array.of(1, 2, 3));
    await committed.commit();
    await committed.discard();
    expect([...readFileSync(target)]).toEqual([1, 2, 3]);
  });
});

interface Told {
  readonly outcome: unknown;
  readonly left: readonly string[];
}

/** What the child said at its end. */
function told(stdout: Buffer): Told {
  return JSON.parse(stdout.toString().trim().split('\n').at(-1)!) as Told;
}

describe('a process that writes', () => {
  /** Whatever a killed process left behind is no sound core, and is not under the target's name. */
  function checkRemains(before: string | undefined): void {
    const names = left();
    if (before === undefined) expect(existsSync(target)).toBe(false);
    else expect(readFileSync(target, 'utf8')).toBe(before);
    for (const name of names.filter((one) => one !== 'vmcore.0')) {
      expect(name).toMatch(/^vmcore\.0\.partial-/);
      const bytes = readFileSync(join(target, '..', name));
      const cache = new BlockCache(new MemorySource(bytes));
      const whole = bytes.length === planOf(undefined, 8 * 2 ** 20).size;
      const { sound } = verifyCore(cache, () => openKvm(bytes, { architectures: [] }).core);
      expect(sound && !whole).toBe(false);
    }
  }

  it('is killed at any point, and leaves no file under the name', () => {
    const prng = new Prng(Date.now());
    const points = [0.00001, 1, ...Array.from({ length: LONG ? 40 : 3 }, () => prng.below(1000) / 1000)];
    points.forEach((at, i) => {
      const before = i % 2 === 0 ? undefined : 'an older core';
      rmSync(target, { force: true });
      if (before !== undefined) writeFileSync(target, before);
      const { signal } = spawnSync(process.execPath, [child, target, String(at), '8']);
      expect([at, signal]).toEqual([at, 'SIGKILL']);
      checkRemains(before);
    });
  });

  it('is killed from outside at any time', async () => {
    for (let i = 0; i < (LONG ? 20 : 2); i++) {
      const running = spawn(process.execPath, [child, target, 'never', '64'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const ended = new Promise((resolve) => running.once('exit', resolve));
      await new Promise((resolve) => running.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
      running.kill('SIGKILL');
      await ended;
      if (existsSync(target)) {
        // It was quicker: then the file is whole.
        const bytes = readFileSync(target);
        expect(bytes.subarray(-4096, -4080).toString('latin1')).toBe('kminidump comple');
        rmSync(target);
      }
      for (const name of left()) expect(name).toContain('.partial-');
    }
  });

  it('meets a limit of the system half-way, and leaves nothing', () => {
    // Blocks of 512 bytes (POSIX), or of 1 KB in some shells: 2 or 4 MB of the 8.
    const { stdout } = spawnSync('sh', [
      '-c',
      `ulimit -f 4096; exec "$0" "$@"`,
      process.execPath,
      child,
      target,
      'never',
      '8',
    ]);
    expect(told(stdout)).toMatchObject({ outcome: { code: 'IO' }, left: [] });
    expect(left()).toEqual([]);
  });

  it('meets a full disk, and leaves nothing', ({ skip }) => {
    const script = 'mount -t tmpfs -o size=3m none "$0" && exec "$@"';
    const own = join(target, '..');
    const run = (megabytes: string): Buffer =>
      spawnSync('unshare', [
        '-m',
        'sh',
        '-c',
        script,
        own,
        process.execPath,
        child,
        target,
        'never',
        megabytes,
      ]).stdout;
    const small = run('1');
    if (!small?.toString().includes('written')) skip('no small file system can be mounted here');
    expect(told(run('8'))).toEqual({
      outcome: { code: 'IO', message: `${target}: no space left on device` },
      left: [],
    });
  });
});

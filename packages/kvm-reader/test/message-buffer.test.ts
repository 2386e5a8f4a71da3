import type { Amd64MessageBuffer } from '@libkvm/fixtures';
import { Amd64Machine, amd64Minidump, pagesOf } from '@libkvm/fixtures';
import { isKvmError, KvmError } from '@libkvm/minidump-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FACES, openAmd64On, runsOf } from './support/faces.js';
import { asSource, type TestOptions } from './support/open.js';

/** The message ring in logical order, by each of the ways to find it. */

const DMAP = 0xfffff80000000000n;
const MSGBUFP = DMAP + 0x2000n;

/** A machine with a ring at 0x100000, and `msgbufp` at MSGBUFP. */
function machineWith(ring: Omit<Amd64MessageBuffer, 'pa'>, msgbufp?: bigint): Amd64Machine {
  const machine = new Amd64Machine({
    ram: [{ start: 0x1000, end: 0x200000 }],
    kernbase: 0xfffffe0000000000n,
    kvaEnd: 0xfffffe0040000000n,
    dmap: { base: DMAP, end: 0xfffffc0000000000n },
    mappings: [],
    tablePool: pagesOf(0x10000, 0x20000),
    extraPages: [0x2000],
    messageBuffer: { pa: 0x100000, ...ring },
  });
  machine.ram.writeU64(0x2000, msgbufp ?? machine.messageRing!.structKva);
  return machine;
}

interface Told {
  text?: string;
  start?: number;
  order?: string;
}

const symbols = { msgbufp: MSGBUFP };
const lines = (count: number): string => Array.from({ length: count }, (_, i) => `line ${i}\n`).join('');

describe.each(FACES)('the message buffer, $name', (face) => {
  const bufferOf = (machine: Amd64Machine, options: TestOptions = {}): Promise<Told> =>
    read(amd64Minidump(machine).file.bytes(), options);

  const read = async (bytes: Uint8Array, options: TestOptions): Promise<Told> => {
    const { text, start, order } = (await (await openAmd64On(face, bytes, options)).messageBuffer()) ?? {};
    return {
      ...(text !== undefined && { text }),
      ...(start !== undefined && { start }),
      ...(order && { order }),
    };
  };

  it('is in order, wrapped or not, with msgbufp and without', async () => {
    const ringSizes = fc.oneof(
      fc.integer({ min: 40, max: 4000 }),
      fc.constantFrom(4096 - 72, 8192 - 72, 5000),
    );
    const texts = fc.oneof(fc.nat(9000), fc.constantFrom(0, 1, 40));
    const property = fc.asyncProperty(
      ringSizes,
      texts,
      fc.constantFrom(1, 2, 3),
      async (ringSize, length, version) => {
        const machine = machineWith({ ringSize, text: lines(length / 6).slice(0, length) });
        const ring = machine.messageRing!;
        const bytes = amd64Minidump(machine, { version: version as 1 }).file.bytes();
        for (const [options, order] of [
          [{}, 'struct'],
          [{ symbols }, 'msgbufp'],
        ] as const) {
          const kvm = await openAmd64On(face, bytes, options);
          const found = await kvm.messageBuffer();
          expect(found).toMatchObject({ text: ring.text, order });
          expect(Buffer.compare(found!.ring, machine.ram.readBytes(ring.pa, ringSize))).toBe(0);
        }
      },
    );
    await fc.assert(property, runsOf(face, 40));
  });

  it('of exactly one ring, one byte less and one byte more', async () => {
    for (const length of [999, 1000, 1001, 2000, 16_000, 16_001]) {
      const machine = machineWith({ ringSize: 1000, text: lines(3000).slice(0, length) });
      const { text, start } = await bufferOf(machine);
      expect(text).toBe(machine.messageRing!.text);
      expect(start).toBe(length % 1000);
    }
  });

  it('without a struct behind it starts where the ring does', async () => {
    // The struct is in the next page, which the section does not have.
    const machine = machineWith({ ringSize: 4096 - 8, text: lines(1000) });
    const ring = machine.ram.readBytes(0x100000, 4096 - 8);
    const inMemory = new TextDecoder().decode(ring);
    expect(await bufferOf(machine)).toEqual({ text: inMemory, start: 0, order: 'none' });
    const { text, order } = await bufferOf(machine, { symbols });
    expect({ text, order }).toEqual({ text: machine.messageRing!.text, order: 'msgbufp' });
    expect(text).not.toBe(inMemory);
  });

  it('is not led astray by a msgbufp that is damaged', async () => {
    const text = lines(500);
    for (const msgbufp of [
      0n,
      1n,
      DMAP,
      DMAP + 0x3000n,
      DMAP + 0x100000n,
      0xffffffffffffffffn,
      0x800000000000n,
    ]) {
      const machine = machineWith({ areaSize: 4096, text }, msgbufp);
      expect(await bufferOf(machine, { symbols })).toMatchObject({
        text: machine.messageRing!.text,
        order: 'struct',
      });
    }
    for (const at of [0n, 0x800000000000n, 0xfffffffffffffffcn, DMAP + 0x5000n]) {
      const machine = machineWith({ areaSize: 4096, text });
      expect((await bufferOf(machine, { symbols: { msgbufp: at } })).order).toBe('struct');
    }
    // A struct with the right magic and absurd sizes.
    for (const size of [0, 0xffffffff, 0x10000000]) {
      const machine = machineWith({ areaSize: 4096, text }, DMAP + 0x2100n);
      machine.ram.writeU32(0x2108, 0x063062);
      machine.ram.writeU32(0x210c, size);
      expect((await bufferOf(machine, { symbols })).order).toBe('struct');
    }
  });

  it('is read through memory where the section is of another size', async () => {
    const machine = machineWith({ areaSize: 8192, text: lines(3000) });
    const { size, text } = machine.messageRing!;
    const overrides = { msgbufsize: size - 100 }; // the same pages
    expect(await bufferOf(machine, { overrides, symbols })).toMatchObject({ text, order: 'msgbufp' });
    expect((await bufferOf(machine, { overrides })).order).toBe('none');
    // Its pages are not in the dump: the section has the ring nevertheless.
    const section = machineWith({ areaSize: 8192, text: lines(3000), dumped: false });
    expect(await bufferOf(section, { symbols })).toMatchObject({ text, order: 'struct' });
  });

  it('of a damaged size comes right with an override', async () => {
    const machine = machineWith({ areaSize: 4096, text: lines(100) });
    const { size, text } = machine.messageRing!;
    const bytes = amd64Minidump(machine, { header: { msgbufsize: size + 50 } }).file.bytes();
    expect((await read(bytes, {})).order).toBe('none');
    expect(await read(bytes, { overrides: { msgbufsize: size } })).toMatchObject({ text, order: 'struct' });
  });

  it('is undefined where there is none', async () => {
    const machine = new Amd64Machine({
      ...machineWith({ ringSize: 100 }).description,
      messageBuffer: undefined!,
    });
    for (const options of [{}, { symbols }]) {
      const kvm = await openAmd64On(face, amd64Minidump(machine).file.bytes(), options);
      expect(await kvm.messageBuffer()).toBeUndefined();
    }
  });

  it.skipIf(face.name.includes('HTTP'))(
    'says IO when the source fails, and not that there is none',
    async () => {
      const machine = machineWith({ areaSize: 0x40000, text: lines(9000) });
      const source = asSource(amd64Minidump(machine).file.bytes());
      let broken = false;
      const flaky = {
        size: source.size,
        readSync(offset: number, target: Uint8Array, at: number, length: number): number {
          if (broken) throw new KvmError('IO', 'the disk is gone', { offset });
          return source.readSync(offset, target, at, length);
        },
      };
      for (const options of [{}, { symbols }]) {
        const kvm = await openAmd64On(face, flaky, options);
        broken = true;
        let error: unknown;
        try {
          await kvm.messageBuffer();
        } catch (caught) {
          error = caught;
        }
        expect(isKvmError(error, 'IO')).toBe(true);
        broken = false;
        expect((await kvm.messageBuffer())?.text).toBe(machine.messageRing!.text);
      }
    },
  );
});

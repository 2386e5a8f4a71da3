import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump, ELF_MACHINES, elfKernel, sampleMachine } from '@libkvm/fixtures';
import { beforeAll, describe, expect, it } from 'vitest';
import { caughtLater, FACES, type Face } from './support/faces.js';

/** Symbols of the kernel file, and what is read by them, on every face; the kernel is fetched where the core is. */

const { machine, kernel, known } = sampleMachine();
const core = amd64Minidump(machine).file.bytes();

describe.each(FACES)('symbols, $name', (face) => {
  let kvm: Face;
  beforeAll(async () => {
    kvm = await face.open(core, { architectures: [amd64], kernel });
  });

  it('have the addresses that the machine was built with', async () => {
    for (const [name, address] of Object.entries(known.symbols)) {
      expect(await kvm.symbol(name), name).toBe(address);
      expect(await kvm.symbols.find(name)).toBe(address);
      expect(await kvm.symbols.address(name)).toBe(address);
      expect(await kvm.symbols.lookup(name)).toMatchObject({ name, value: address });
    }
  });

  it('are found by address, with the distance from their start', async () => {
    const { size } = (await kvm.symbols.lookup('version'))!;
    expect(size).toBeGreaterThan(4);
    const hit = await kvm.symbols.at(known.symbols.version + 3n);
    expect(hit).toMatchObject({ symbol: { name: 'version' }, offset: 3n });
  });

  it('lead to values, strings and messages', async () => {
    expect(await kvm.readU32(await kvm.symbol('hz'))).toBe(known.hz);
    expect(await kvm.readCString(await kvm.symbol('version'), 300)).toBe(known.version);
    expect((await kvm.messageBuffer())?.text).toBe(known.messages);
  });

  it('that are not there are told', async () => {
    expect(await kvm.symbols.find('no_such_symbol')).toBeUndefined();
    expect(await kvm.symbols.lookup('no_such_symbol')).toBeUndefined();
    for (const ask of [() => kvm.symbol('no_such_symbol'), () => kvm.symbols.address('no_such_symbol')]) {
      const error = await caughtLater(ask, 'NO_SYMBOL');
      expect(error).toMatchObject({ field: 'no_such_symbol', hint: expect.stringContaining('stripped') });
    }
    const without = await face.open(core, { architectures: [amd64] });
    expect((await caughtLater(() => without.symbol('hz'), 'NO_SYMBOL')).hint).toMatch(/give the kernel file/);
  });

  it('of a resolver come first', async () => {
    const resolver = (name: string): bigint | undefined => (name === 'hz' ? 0x1234n : undefined);
    const other = await face.open(core, { architectures: [amd64], kernel, resolver });
    expect(await other.symbol('hz')).toBe(0x1234n);
    expect(await other.symbol('version')).toBe(known.symbols.version);
  });

  it('tell whether kernel and core belong together', async () => {
    expect((await kvm.checkMatch()).verdict).toBe('match');
    const loads = [
      { vaddr: known.symbols.version, bytes: new TextEncoder().encode('FreeBSD of another day\0'), flags: 5 },
    ];
    const symbols = [{ name: 'version', value: known.symbols.version, size: 24, bind: 'global' as const }];
    const format = { class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 } as const;
    const stranger = elfKernel({ ...format, symbols, loads });
    const other = await face.open(core, { architectures: [amd64], kernel: stranger });
    expect(await other.checkMatch()).toMatchObject({ verdict: 'mismatch' });
    const foreign = elfKernel({ ...format, class: 32, machine: ELF_MACHINES.i386, symbols: [], loads: [] });
    const error = await caughtLater(
      () => face.open(core, { architectures: [amd64], kernel: foreign }),
      'MISMATCH',
    );
    expect(error.field).toBe('kernel');
  });
});

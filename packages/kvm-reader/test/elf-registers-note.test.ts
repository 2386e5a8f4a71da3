import { fc, test } from '@fast-check/vitest';
import { armKernelWorld, ELF_MACHINES } from '@libkvm/fixtures';
import { describe, expect, it } from 'vitest';
import {
  REGISTERS_NOTE,
  formatRegisters,
  formatRegistersNote,
  parseRegisters,
} from '../src/elf-registers-note.js';
import { defaultArchitectures as architectures } from '../src/node.js';
import { openKvm } from '../src/open.js';
import { caught } from './support/faults.js';
import { elfCore, noteSegment, type NoteParts } from './support/elf-bytes.js';
import { runs } from './support/long.js';

const value = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const registersNamed = (pattern: RegExp): fc.Arbitrary<Record<string, bigint>> =>
  fc.dictionary(fc.stringMatching(pattern), value, { maxKeys: 6, noNullPrototype: true });
const cpu = fc.record({
  registers: registersNamed(/^[A-Z][A-Z0-9_]{0,11}$/),
  general: registersNamed(/^[a-z][a-z0-9_]{0,11}$/),
});

describe('the note of registers', () => {
  it('is a line of text for each processor', () => {
    const note = formatRegistersNote([
      { registers: { TTBR0: 0x4000_4000n, TTBCR: 0n }, general: { pc: 0xc010_0000n } },
      { registers: { EFER: 0xd00n } },
    ]);
    expect(Buffer.from(note).toString('ascii')).toBe(
      'cpu0 TTBR0=0x40004000 TTBCR=0x0 pc=0xc0100000\ncpu1 EFER=0xd00\n',
    );
    expect(formatRegistersNote('cpu0 EFER=0xd00\n')).toEqual(
      formatRegistersNote([{ registers: { EFER: 0xd00n } }]),
    );
  });

  it('is read with anything around it', () => {
    const { cpus, ignored } = parseRegisters(
      'cpu1 EFER=0xD00 junk r0=5 X=0x12345678901234567\r\nhello\ncpu99999 A=0x1\n\0cpu1\tCR3=0x1000 __proto__=0x1\0\0',
    );
    expect([...cpus.keys()]).toEqual([1]);
    expect(cpus.get(1)?.registers).toEqual({ EFER: 0xd00n, CR3: 0x1000n });
    expect(Object.keys(cpus.get(1)?.general ?? {})).toEqual(['__proto__']);
    expect(ignored).toBe(5);
  });

  test.prop([fc.array(cpu, { maxLength: 5 })], runs(100))('says what went in', (cpus) => {
    const read = parseRegisters(formatRegistersNote(cpus));
    expect(read.ignored).toBe(0);
    expect([...read.cpus]).toEqual(cpus.map((one, i) => [i, one]));
    expect(formatRegisters([...read.cpus.values()])).toBe(formatRegisters(cpus));
  });

  test.prop([fc.uint8Array({ maxLength: 300 })], runs(100))('may hold any bytes', (bytes) => {
    expect(parseRegisters(bytes).cpus.size).toBeLessThan(300);
  });
});

describe('a core with the note', () => {
  const own = (text: string): NoteParts => ({ ...REGISTERS_NOTE, desc: new TextEncoder().encode(text) });
  const notes = (parts: NoteParts[], little = true): { type: 4; bytes: Uint8Array } => ({
    type: 4,
    bytes: noteSegment(parts, 4, little),
  });

  it.each([true, false])('is walked by it (ARM, little-endian: %s)', (littleEndian) => {
    const world = armKernelWorld({ format: 'v6-afe', littleEndian });
    const text = formatRegisters([{ registers: world.registers }]);
    const core = elfCore({
      ...{ class: 32, byteOrder: littleEndian ? 'little' : 'big', machine: ELF_MACHINES.arm },
      segments: [
        notes([own(text)], littleEndian),
        ...world.ram.ranges.map(({ start, end }) => ({
          ...{ paddr: BigInt(start), bytes: world.ram.readBytes(start, end - start) },
        })),
      ],
    });
    const kvm = openKvm(core, { architectures });
    expect([kvm.core.warnings, kvm.core.notes?.registers]).toEqual([[], text]);
    for (const kva of world.pages) {
      expect(kvm.resolve(kva).physicalAddress).toBe(world.translate(kva)?.pa);
    }
  });

  it('takes its registers before those of other notes', () => {
    const state = new Uint8Array(432);
    const view = new DataView(state.buffer);
    [1, 432].forEach((word, i) => view.setUint32(i * 4, word, true));
    view.setBigUint64(136, 0x1234n, true); // rip
    view.setBigUint64(392, 0x8000_0001n, true); // CR0
    view.setBigUint64(416, 0x5000n, true); // CR3
    view.setBigUint64(424, 0x20n, true); // CR4
    const qemu = { name: 'QEMU', type: 0, desc: state };
    const ram = { paddr: 0x1000n, bytes: new Uint8Array(4096) };
    const registersOf = (parts: NoteParts[]): string =>
      openKvm(elfCore({ segments: [notes(parts), ram] }), { architectures }).core.notes!.registers;
    expect(registersOf([qemu])).toContain('CR3=0x5000 CR4=0x20 EFER=0xd00');
    const mixed = registersOf([own('cpu0 EFER=0x500 CR3=0x1000\ncpu2 CR3=0x7000\n'), qemu]).split('\n');
    expect(mixed[0]).toMatch(/^cpu0 CR0=0x80000001 .*CR3=0x1000 CR4=0x20 EFER=0x500 .*rip=0x1234/);
    expect(mixed.slice(1)).toEqual(['cpu1', 'cpu2 CR3=0x7000', '']);
  });

  it('says what it does not understand', () => {
    const ram = { paddr: 0x1000n, bytes: new Uint8Array(4096) };
    const core = elfCore({ segments: [notes([own('cpu0 CR3=0x1000 CR4=7\n')]), ram] });
    expect(openKvm(core, { architectures }).core.warnings).toEqual([expect.stringContaining('1 words')]);
    const useless = elfCore({ segments: [notes([own('cpu0 EFER=0xd00\n')]), ram] });
    const kvm = openKvm(useless, { architectures });
    expect(kvm.core.warnings).toEqual([expect.stringContaining('needs the register CR3')]);
    expect(kvm.readPhysical(0x1000, 4)).toEqual(new Uint8Array(4));
    expect(caught(() => kvm.read(0x1000, 4), 'UNSUPPORTED').message).toContain('CR3');
  });
});

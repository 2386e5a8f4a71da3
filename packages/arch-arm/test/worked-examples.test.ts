import {
  BlockCache,
  EXECUTE,
  MAPPED,
  MemorySource,
  READ,
  UNMAPPED,
  WRITE,
  entryOf,
  openMinidump,
  type Core,
} from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { ArmMachine } from '../../fixtures/src/arm-machine.js';
import type { ArmMapping } from '../../fixtures/src/arm-mapping.js';
import { armMinidump as dumpOf, type ArmMinidump } from '../../fixtures/src/arm-minidump.js';
import { armFlatEntry } from '../../fixtures/src/arm-pte-section.js';
import { pagesOf } from '../../fixtures/src/page.js';
import { SimRam } from '../../fixtures/src/sim-ram.js';
import { armMinidump, armWalker } from '../src/index.js';
import { ask, memoryOf } from './support.js';

/** Worked examples of the format document, sections 7.5 to 7.8. */

const RAM = [{ start: 0x10000000, end: 0x50000000 }];
const ROOTS = { ttbr0: 0x40000000 };
const POOL = pagesOf(0x40010000, 0x40020000);

const hexdump = (bytes: Uint8Array, length: number): string =>
  [...bytes.subarray(0, length)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');

const open = ({ file }: ArmMinidump): Core =>
  openMinidump(new BlockCache(new MemorySource(file.bytes())), armMinidump);

describe('7.5 arm V6', () => {
  const section: ArmMapping = {
    ...{ kva: 0xc0100000, pa: 0x10100000, kind: 'section', pages: 1, ap: 1, bits: 0x1100cn },
  };
  const readOnly: ArmMapping = {
    ...{ kva: 0xc0200000, pa: 0x10200000, kind: 'section', pages: 1, ap: 5, xn: true, bits: 0x1300cn },
  };
  const machineOf = (...mappings: ArmMapping[]): ArmMachine =>
    new ArmMachine({
      ...{ format: 'v6-afe', ram: RAM, roots: ROOTS, tablePool: POOL, mappings, patternSeed: 75 },
      messageBuffer: { pa: 0x42000000, kva: 0xc2000000, ringSize: 0x17ff0, text: 'Copyright\n' },
    });
  const dumped = { kernbase: 0xc0000000, kvaEnd: 0xc4000000 };
  const dump = dumpOf(machineOf(section), dumped);
  const core = open(dump);

  it('has the header of the hexdump', () => {
    expect(hexdump(dump.file.bytes(), 0x38)).toBe(
      [
        '6d 69 6e 69 64 75 6d 70 20 46 72 65 65 42 53 44',
        '2f 61 72 6d 00 00 00 00 02 00 00 00 f0 7f 01 00',
        '00 80 00 00 00 00 01 00 00 00 00 c0 07 00 00 00',
        '02 00 00 00 00 10 00 00',
      ].join(' '),
    );
  });

  it('has the descriptors of the example in its tables', () => {
    const { ram } = machineOf(section, readOnly);
    expect(ram.readU32(ROOTS.ttbr0 + 0xc01 * 4)).toBe(0x1011140e);
    expect(ram.readU32(ROOTS.ttbr0 + 0xc02 * 4)).toBe(0x1021b41e);
  });

  it('expands sections', () => {
    const machine = machineOf(section, readOnly);
    expect(armFlatEntry(machine, 0xc0100000)).toBe(0x1010045en);
    expect(armFlatEntry(machine, 0xc0123000)).toBe(0x1012345en);
    expect(armFlatEntry(machine, 0xc01ff000)).toBe(0x101ff45en);
    expect(armFlatEntry(machine, 0xc0245000)).toBe(0x102456dfn);
    const answer = ask(open(dumpOf(machine, dumped)).addressSpace!, 0xc0245678);
    expect(answer).toMatchObject({ outcome: MAPPED, pa: 0x10245678, pageSize: 0x1000, entryLow: 0x102456df });
    expect(answer.flags & (READ | WRITE | EXECUTE)).toBe(READ);
  });

  it('answers the query', () => {
    expect(core.sections.map(({ name, offset }) => [name, offset])).toEqual([
      ['header', 0],
      ['msgbuf', 0x1000],
      ['dumpAvail', 0x19000],
      ['bitmap', 0x1a000],
      ['table', 0x22000],
      ['pages', 0x32000],
    ]);
    const answer = ask(core.addressSpace!, 0xc0123abc);
    expect(answer).toMatchObject({ outcome: MAPPED, pa: 0x10123abc, level: 1 });
    expect(entryOf(answer)).toBe(0x1012345en);
    expect(core.memory.locate(answer.pa)).toBe(0x55abc);
    expect(core.memory.pages.dumped).toBe(256);
    expect(core.cache.size).toBe(0x132000);
    expect(ask(core.addressSpace!, 0xc0223abc).outcome).toBe(UNMAPPED);
  });
});

describe('7.6 arm V4', () => {
  const large: ArmMapping = {
    ...{ kva: 0xc1230000, pa: 0x20450000, kind: 'large', pages: 1, ap: 1, bits: 0xcn },
  };
  const section: ArmMapping = {
    ...{ kva: 0xc0100000, pa: 0x20100000, kind: 'section', pages: 1, ap: 3, bits: 0xcn },
  };
  const machine = new ArmMachine({
    ...{ format: 'v4', ram: RAM, roots: ROOTS, tablePool: POOL, mappings: [large, section] },
  });
  const dump = dumpOf(machine, { version: 1, kernbase: 0xc0000000, kvaEnd: 0xc2000000 });

  it('keeps large pages and rewrites sections', () => {
    expect(armFlatEntry(machine, 0xc1237000)).toBe(0x2045055dn);
    expect(armFlatEntry(machine, 0xc0123000)).toBe(0x20123552n);
  });

  it('answers the query', () => {
    const { addressSpace, pteFormat } = open(dump);
    expect(pteFormat).toBe('v4');
    const answer = ask(addressSpace!, 0xc1237abc);
    expect(answer).toMatchObject({
      outcome: MAPPED,
      pa: 0x20457abc,
      pageSize: 0x10000,
      entryLow: 0x2045055d,
    });
    expect(answer.flags & WRITE).toBe(WRITE);
  });
});

describe('7.7 ARMv7 supersection', () => {
  const ram = new SimRam([{ start: 0x80000000, end: 0x80010000 }]);
  for (let slot = 0xe50; slot < 0xe60; slot++) ram.writeU32(0x80004000 + slot * 4, 0x3424042e);
  const space = armWalker(memoryOf(ram), { registers: { TTBR0: 0x8000406an } });

  it('is read with 40 address bits', () => {
    const answer = ask(space, 0xe5abcdef);
    expect(answer).toMatchObject({ outcome: MAPPED, pa: 0x1234abcdef, pageSize: 0x1000000, level: 2 });
  });
});

describe('7.8 ARM LPAE, T0SZ = T1SZ = 0', () => {
  const ram = new SimRam([{ start: 0x80000000, end: 0x80010000 }]);
  ram.writeU64(0x80004018, 0x80006003n);
  ram.writeU64(0x80006020, 0x004000024060070dn);
  const registers = { TTBR0: 0x80004000n, TTBR1: 0n, TTBCR: 0x80000000n };
  const space = armWalker(memoryOf(ram), { registers });

  it('is read through two levels', () => {
    const answer = ask(space, 0xc0812345);
    expect(answer).toMatchObject({ outcome: MAPPED, pa: 0x240612345, pageSize: 0x200000, level: 2 });
    expect(entryOf(answer)).toBe(0x004000024060070dn);
    expect(answer.flags & (READ | WRITE | EXECUTE)).toBe(READ | WRITE);
  });

  it('becomes the leaf of the example in a dump', () => {
    const machine = new ArmMachine({
      ...{ format: 'lpae', ram: RAM, roots: ROOTS, tablePool: POOL },
      mappings: [
        { ...{ kva: 0xc0800000, pa: 0x240600000, kind: 'block2M', pages: 1, ap: 0 }, xn: true, bits: 0x30cn },
      ],
    });
    expect(armFlatEntry(machine, 0xc0812000)).toBe(0x004000024061270fn);
    const { addressSpace, pteFormat } = open(dumpOf(machine, { kernbase: 0xc0000000, kvaEnd: 0xc1000000 }));
    expect(pteFormat).toBe('lpae');
    const answer = ask(addressSpace!, 0xc0812345);
    expect(answer).toMatchObject({ outcome: MAPPED, pa: 0x240612345, pageSize: 0x1000 });
    expect(entryOf(answer)).toBe(0x004000024061270fn);
  });
});

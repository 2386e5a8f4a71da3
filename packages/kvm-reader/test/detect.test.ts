import { amd64 } from '@libkvm/arch-amd64';
import { amd64Minidump, ELF_MACHINES, elfKernel, sampleMachine } from '@libkvm/fixtures';
import type { KvmErrorCode } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import type { MatchReport } from '../src/kernel-match.js';
import { openKvm } from '../src/open.js';
import { caught } from './support/faults.js';
import { smallDump, smallMachine } from './support/small-machine.js';

/** What is said of files that are no core, or none that can be opened. */

const open = (bytes: Uint8Array): unknown => openKvm(bytes, { architectures: [amd64] });

/** A file of a few pages that begins with these bytes, at an offset. */
function file(start: readonly number[] | string, at = 0): Uint8Array {
  const bytes = new Uint8Array(10_000);
  bytes.set(typeof start === 'string' ? new TextEncoder().encode(start) : start, at);
  return bytes;
}

describe('the error for a file that is no core', () => {
  const cases: readonly (readonly [string, Uint8Array, KvmErrorCode, RegExp])[] = [
    ['nothing', new Uint8Array(0), 'NOT_A_CORE', /empty/],
    ['one byte', Uint8Array.of(0x6d), 'NOT_A_CORE', /6d/],
    ['zeros', new Uint8Array(8192), 'NOT_A_CORE', /00 00 00/],
    ['text', file('#!/bin/sh\n'), 'NOT_A_CORE', /23 21 2f/],
    ['gzip', file([0x1f, 0x8b, 8, 0]), 'UNSUPPORTED', /gzip.*gunzip/s],
    ['zstd', file([0x28, 0xb5, 0x2f, 0xfd]), 'UNSUPPORTED', /zstd.*zstd -d/s],
    ['xz', file([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), 'UNSUPPORTED', /xz.*xz -d/s],
    ['bzip2', file('BZh9'), 'UNSUPPORTED', /bzip2/],
    ['a dump device', file('FreeBSD Kernel Dump\0'), 'UNSUPPORTED', /savecore/],
    ['a cleared dump device', file('Cleared Kernel Dump\0'), 'UNSUPPORTED', /savecore/],
    ['a textdump on its device', file('FreeBSD Text Dump\0'), 'UNSUPPORTED', /textdump.*not memory/s],
    ['a textdump as saved', file('ustar\x0000', 257), 'UNSUPPORTED', /tar archive.*textdump/s],
    ['a Windows minidump', file([...'MDMP'].map(code).concat(0x93, 0xa7)), 'UNSUPPORTED', /Windows minidump/],
    ['a Windows dump', file('PAGEDUMP'), 'UNSUPPORTED', /Windows kernel dump/],
    ['a 64-bit Windows dump', file('PAGEDU64'), 'UNSUPPORTED', /Windows kernel dump/],
    ['kdump', file('KDUMP   '), 'UNSUPPORTED', /kdump/],
    ['diskdump', file('DISKDUMP'), 'UNSUPPORTED', /diskdump/],
    ['flattened kdump', file('makedumpfile\0'), 'UNSUPPORTED', /makedumpfile -R/],
    ['LiME', file('EMiL'), 'UNSUPPORTED', /LiME/],
    ['a minidump of arm64', file('minidump FreeBSD/arm64\0'), 'UNSUPPORTED', /FreeBSD\/arm64.*amd64/s],
    ['a minidump of powerpc64', file('minidump FreeBSD/powerpc64\0'), 'UNSUPPORTED', /powerpc64/],
    ['a minidump of amd64x', file('minidump FreeBSD/amd64x'), 'UNSUPPORTED', /amd64x/],
    ['a minidump of AMD64', file('minidump FreeBSD/AMD64'), 'UNSUPPORTED', /AMD64/],
  ];

  it.each(cases)('%s', (_, bytes, expected, words) => {
    const { message, hint = '', code: found, offset } = caught(() => open(bytes));
    expect(found).toBe(expected);
    expect(`${message}\n${hint}`).toMatch(words);
    expect(offset).toBe(0);
  });

  it('says what to do with each', () => {
    for (const [name, bytes] of cases) {
      if (bytes.length > 0) expect(caught(() => open(bytes)).hint, name).toMatch(/.{10}/);
    }
  });

  it('shows bytes that are no text without control characters', () => {
    const { message, hint = '' } = caught(() => open(file('minidump \u0007\u001b[31mred\n')));
    // eslint-disable-next-line no-control-regex
    expect(message + hint).not.toMatch(/[\x00-\x1f\x7f]/);
  });

  it('takes a kernel for a kernel, not for a core', () => {
    const kernel = elfKernel({ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64, symbols: [] });
    const { message, hint = '', code: found } = caught(() => open(kernel));
    expect(['NOT_A_CORE', 'UNSUPPORTED', 'INVALID_ARGUMENT']).toContain(found);
    expect(`${message}\n${hint}`).toMatch(/ELF/);
    expect(`${message}\n${hint}`).toMatch(/kernel|core/);
  });
});

describe('opening', () => {
  it('needs architectures', () => {
    const bytes = smallDump(3).file.bytes();
    for (const options of [undefined, {}, { architectures: undefined }, { architectures: 'amd64' }]) {
      const error = caught(() => openKvm(bytes, options as never), 'INVALID_ARGUMENT');
      expect(error).toMatchObject({ field: 'architectures' });
      expect(error.hint).toContain('amd64');
    }
    expect(caught(() => openKvm(bytes, { architectures: [] }), 'UNSUPPORTED').message).toContain('amd64');
  });

  it('refuses the kernel of another machine', () => {
    const bytes = smallDump(3).file.bytes();
    const kernels = [
      { class: 32, byteOrder: 'little', machine: ELF_MACHINES.i386 },
      { class: 32, byteOrder: 'big', machine: ELF_MACHINES.arm },
      { class: 64, byteOrder: 'little', machine: ELF_MACHINES.arm64 },
      { class: 64, byteOrder: 'big', machine: ELF_MACHINES.amd64 },
      { class: 32, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
    ] as const;
    for (const identity of kernels) {
      const kernel = elfKernel({ ...identity, symbols: [] });
      const error = caught(() => openKvm(bytes, { architectures: [amd64], kernel }), 'MISMATCH');
      expect(error.field).toBe('kernel');
      expect(error.message).toContain(`${identity.class}-bit, ${identity.byteOrder}-endian`);
      expect(error.message).toContain('the core is amd64');
    }
  });

  it('tells kernels of other builds from the right one', () => {
    const { machine, kernel, known } = sampleMachine(3);
    const matchOf = (version?: string): MatchReport => {
      if (version !== undefined)
        machine.write(known.symbols.version, new TextEncoder().encode(`${version}\0`));
      const core = amd64Minidump(machine).file.bytes();
      return openKvm(core, { architectures: [amd64], kernel }).checkMatch();
    };
    expect(matchOf()).toMatchObject({ verdict: 'match' });
    for (const other of ['FreeBSD 13.2-RELEASE', known.version.slice(0, -1), `${known.version}x`, '']) {
      const { verdict, reason } = matchOf(other);
      expect(verdict, JSON.stringify(other)).toBe('mismatch');
      expect(reason).toContain('14.1-RELEASE');
    }
    expect(matchOf(known.version)).toMatchObject({ verdict: 'match' });

    // A core of another machine, and no kernel.
    const small = smallDump(3).file.bytes();
    expect(openKvm(small, { architectures: [amd64], kernel }).checkMatch().verdict).toBe('unknown');
    expect(openKvm(small, { architectures: [amd64] }).checkMatch().verdict).toBe('unknown');
  });

  it('goes by the build id too, where the kernel has it in memory', () => {
    const vaddr = 0xfffff80000003000n;
    const id = Uint8Array.from({ length: 20 }, (_, i) => i * 7);
    const kernelOf = (build: Uint8Array): Uint8Array =>
      elfKernel({
        ...{ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64, symbols: [] },
        buildId: { id: build, vaddr },
      });
    const machine = smallMachine();
    // The header of the note, 12 bytes, and its name, 4.
    machine.write(vaddr + 16n, id);
    const core = amd64Minidump(machine).file.bytes();
    const matchOf = (kernel: Uint8Array): MatchReport =>
      openKvm(core, { architectures: [amd64], kernel }).checkMatch();
    expect(matchOf(kernelOf(id))).toMatchObject({
      verdict: 'match',
      reason: expect.stringContaining('0007'),
    });
    expect(matchOf(kernelOf(id.map((byte) => byte ^ 1)))).toMatchObject({ verdict: 'mismatch' });
  });

  it('goes by code and constants where the kernel has no name', () => {
    const vaddr = 0xfffff80000003000n;
    const code = Uint8Array.from({ length: 4096 }, (_, i) => (i * 131) >>> 3);
    const machine = smallMachine();
    machine.write(vaddr, code);
    const core = amd64Minidump(machine).file.bytes();
    const matchOf = (patched: number): string => {
      const bytes = code.map((byte, i) => (i < patched ? byte ^ 0x55 : byte));
      const identity = { class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64, symbols: [] } as const;
      const kernel = elfKernel({ ...identity, loads: [{ vaddr, bytes, flags: 5 }] });
      return openKvm(core, { architectures: [amd64], kernel }).checkMatch().verdict;
    };
    expect([0, 512, 2048, 4096].map(matchOf)).toEqual(['match', 'match', 'unknown', 'mismatch']);
  });

  it('compares versions that are not ASCII byte by byte', () => {
    const kva = 0xfffff80000003000n;
    const version = new TextEncoder().encode('FreeBSD 14.1 /home/andré/src\n\0');
    const machine = smallMachine();
    machine.write(kva, version);
    const kernel = elfKernel({
      ...{ class: 64, byteOrder: 'little', machine: ELF_MACHINES.amd64 },
      symbols: [{ name: 'version', value: kva, size: version.length }],
      loads: [{ vaddr: kva, bytes: version, flags: 4 }],
    });
    const core = amd64Minidump(machine).file.bytes();
    expect(openKvm(core, { architectures: [amd64], kernel }).checkMatch().verdict).toBe('match');
  });
});

function code(char: string): number {
  return char.charCodeAt(0);
}

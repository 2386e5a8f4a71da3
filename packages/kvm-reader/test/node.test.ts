import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { amd64Minidump, ELF_MACHINES, elfKernel, sampleMachine } from '@libkvm/fixtures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultArchitectures, FileSource, openKvmFile } from '../src/node.js';
import { BULK, bulkMachine } from './support/bulk-machine.js';
import { caught } from './support/faults.js';
import { openAmd64 } from './support/open.js';
import { SMALL, smallDump } from './support/small-machine.js';

/** Cores and kernels as files. */

const folder = mkdtempSync(join(tmpdir(), 'kvm-reader-test-'));
const path = (name: string): string => join(folder, name);
const bytes = smallDump(3).file.bytes();

beforeAll(() => writeFileSync(path('vmcore.0'), bytes));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** File descriptors that this process holds; undefined where the system does not tell. */
function openFiles(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return undefined;
  }
}

describe('openKvmFile', () => {
  it('reads what is read from memory', () => {
    const kvm = openKvmFile(path('vmcore.0'));
    const wanted = openAmd64(bytes);
    expect([...kvm.pages()]).toEqual([...wanted.pages()]);
    expect(kvm.read(SMALL.pages, 8192)).toEqual(wanted.read(SMALL.pages, 8192));
    expect(kvm.messageBuffer()).toEqual(wanted.messageBuffer());
    kvm.close();
  });

  it('takes a kernel by path or as bytes, and finds its symbols', () => {
    const { machine, kernel, known } = sampleMachine(5);
    writeFileSync(path('sample'), amd64Minidump(machine).file.bytes());
    writeFileSync(path('kernel'), kernel);
    for (const given of [path('kernel'), kernel]) {
      const kvm = openKvmFile(path('sample'), { kernel: given });
      expect(kvm.readU32(kvm.symbol('hz'))).toBe(known.hz);
      expect(kvm.checkMatch().verdict).toBe('match');
      expect(kvm.messageBuffer()).toMatchObject({ text: known.messages, order: 'msgbufp' });
      expect(kvm.readCString(kvm.symbol('osrelease'))).toBe(known.osrelease);
      kvm.close();
    }
  });

  it('knows the architectures that are there', () => {
    expect(defaultArchitectures.map(({ name }) => name)).toContain('amd64');
    expect(
      caught(() => openKvmFile(path('vmcore.0'), { architectures: [] }), 'UNSUPPORTED').message,
    ).toContain('amd64');
  });

  it('leaves no file open, whatever fails', () => {
    writeFileSync(path('text'), 'no core at all');
    writeFileSync(
      path('arm'),
      elfKernel({ class: 32, byteOrder: 'little', machine: ELF_MACHINES.arm, symbols: [] }),
    );
    const before = openFiles();
    for (let i = 0; i < 5; i++) {
      caught(() => openKvmFile(path('text')), 'NOT_A_CORE');
      caught(() => openKvmFile(path('missing')), 'IO');
      caught(() => openKvmFile(path('vmcore.0'), { kernel: path('missing') }), 'IO');
      caught(() => openKvmFile(path('vmcore.0'), { kernel: path('text') }), 'NOT_A_CORE');
      caught(() => openKvmFile(path('vmcore.0'), { kernel: path('arm') }), 'MISMATCH');
      caught(() => openKvmFile(path('vmcore.0'), { cacheBytes: -1 }), 'INVALID_ARGUMENT');
      openKvmFile(path('vmcore.0')).close();
    }
    expect(openFiles()).toBe(before);
  });

  it('closes once, and calls back', () => {
    let calls = 0;
    const kvm = openKvmFile(path('vmcore.0'), { onClose: () => calls++, cacheBytes: 0 });
    kvm.close();
    kvm.close();
    expect(calls).toBeGreaterThan(0);
    const error = caught(() => kvm.read(SMALL.big + 0x10000n, 20_000), 'IO');
    expect(error.message).toMatch(/closed/);
  });
});

describe('FileSource', () => {
  it('names a file that is not there, or is none', () => {
    mkdirSync(path('folder'), { recursive: true });
    symlinkSync(path('nowhere'), path('dangling'));
    symlinkSync(path('vmcore.0'), path('link'));
    for (const name of ['missing', 'dangling', 'vmcore.0/x', 'nul\0']) {
      const error = caught(() => new FileSource(path(name)), 'IO');
      expect(error.field).toBe('path');
      expect(error.message).toContain(name.split('\0')[0]);
    }
    for (const name of [path('folder'), '/dev/null']) {
      expect(caught(() => new FileSource(name), 'INVALID_ARGUMENT').message).toContain('not a regular file');
    }
    expect(new FileSource(path('link')).size).toBe(bytes.length);
  });

  it('does not wait for a pipe', () => {
    try {
      execFileSync('mkfifo', [path('pipe')]);
    } catch {
      return; // no such program here
    }
    caught(() => new FileSource(path('pipe')), 'INVALID_ARGUMENT');
  });

  it('reads up to the end and no further', () => {
    const source = new FileSource(path('vmcore.0'));
    const target = new Uint8Array(100).fill(7);
    expect(source.readSync(bytes.length - 10, target, 5, 50)).toBe(10);
    expect(target.subarray(5, 15)).toEqual(bytes.subarray(bytes.length - 10));
    expect([...target.subarray(0, 5), ...target.subarray(15)].every((byte) => byte === 7)).toBe(true);
    expect(source.readSync(bytes.length, target, 0, 10)).toBe(0);
    expect(source.readSync(0, target, 0, 0)).toBe(0);
    source.close();
    source.close();
    expect(caught(() => source.readSync(0, target, 0, 1), 'IO').message).toMatch(/closed/);
  });

  it('that shrinks while it is open is IO, not wrong bytes', () => {
    writeFileSync(path('shrinks'), amd64Minidump(bulkMachine()).file.bytes());
    const kvm = openKvmFile(path('shrinks'), { cacheBytes: 0 });
    truncateSync(path('shrinks'), 4096);
    const error = caught(() => kvm.read(BULK.scattered.kva, 4096), 'IO');
    expect(error.hint).toMatch(/changed/);
    kvm.close();
  });
});

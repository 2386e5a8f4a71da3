import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { amd64Minidump, randomMachine, sampleMachine } from '@libkvm/fixtures';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

const { core, kernelPath, folder, known, dump, machine } = sampleFiles();
const { expected } = dump;
const write = (name: string, bytes: Uint8Array | string): string => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};

describe('vmcore info', () => {
  it('gives the facts of a core', async () => {
    const ran = await vmcore(['info', core, '--json']);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const [info] = rows(ran);
    const { dmap, kernbase, ram } = machine.description;
    expect(info).toMatchObject({
      format: 'freebsd',
      architecture: 'amd64',
      version: 3,
      byteOrder: 'little',
      pageSize: 4096,
      kernbase: `0x${kernbase.toString(16)}`,
      directMap: { base: `0x${dmap.base.toString(16)}`, end: `0x${dmap.end.toString(16)}`, phys: '0x0' },
      fileSize: expected.totalSize,
      pages: { dumped: expected.pages.count, missing: 0, partial: 0 },
      ranges: ram.map(({ start, end }) => ({
        start: `0x${start.toString(16)}`,
        end: `0x${end.toString(16)}`,
      })),
      warnings: [],
    });
    expect(info).not.toHaveProperty('kernel');
    const sections = info.sections as { name: string; offset: number; length: number }[];
    expect(sections.map(({ name, offset }) => [name, offset])).toEqual(
      Object.entries(expected.sections).map(([name, { offset }]) => [name, offset]),
    );
  });

  it('gives those of the kernel too', async () => {
    const [info] = rows(await vmcore(['info', core, '--json', '--kernel', kernelPath]));
    expect(info).toMatchObject({
      kernel: { verdict: 'match', buildId: Buffer.from(known.buildId).toString('hex') },
      kernelVersion: known.version,
      osrelease: known.osrelease,
      panic: known.panic,
    });
  });

  it('tells people the same', async () => {
    const ran = await vmcore(['info', core, '--kernel', kernelPath]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const { count } = expected.pages;
    const mb = (count / 256).toFixed(1);
    for (const text of [
      core,
      '31.9 MB',
      'version 3',
      `${count} in the core (${mb} MB)`,
      'page fault',
      'match',
    ]) {
      expect(ran.stdout).toContain(text);
    }
    for (const { name } of dump.file.sections) expect(ran.stdout).toMatch(new RegExp(`^${name} +0x`, 'm'));
    expect(ran.stdout).not.toMatch(/ $/m);
  });

  it('tells when nothing panicked, and when what the kernel says is not to be had', async () => {
    const quiet = sampleMachine();
    quiet.machine.write(known.symbols.panicstr, new Uint8Array(8));
    const calm = write('calm', amd64Minidump(quiet.machine).file.bytes());
    expect(rows(await vmcore(['info', calm, '--json', '-k', kernelPath]))[0].panic).toBe(null);
    expect((await vmcore(['info', calm, '-k', kernelPath])).stdout).toMatch(/^Panic +none$/m);
    quiet.machine.write(known.symbols.panicstr, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    const wild = write('wild', amd64Minidump(quiet.machine).file.bytes());
    expect(rows(await vmcore(['info', wild, '--json', '-k', kernelPath]))[0]).not.toHaveProperty('panic');
  });

  it('warns of a kernel of another build', async () => {
    const other = sampleMachine();
    other.machine.write(known.symbols.version + 8n, new TextEncoder().encode('15'));
    const path = write('other', amd64Minidump(other.machine).file.bytes());
    const ran = await vmcore(['resolve', path, '--json', '-k', kernelPath, 'hz']);
    expect(ran.status).toBe(0);
    expect(ran.stderr).toMatch(/^warning: .*do not belong together/);
    expect(rows(await vmcore(['info', path, '--json', '-k', kernelPath]))[0]).toMatchObject({
      kernel: { verdict: 'mismatch' },
    });
  });

  it('tells how much of a cut file is missing', async () => {
    const { offset } = expected.sections.pages;
    const path = write('cut', dump.file.bytes().slice(0, offset + 10 * 4096 + 5));
    const [info] = rows(await vmcore(['info', path, '--json']));
    const { count } = expected.pages;
    expect(info).toMatchObject({ pages: { dumped: count, missing: count - 11, partial: 1 } });
    expect(info.warnings).toHaveLength(1);
    expect((await vmcore(['info', path])).stdout).toContain(`${count - 11} of them missing`);
  });

  it('uses values that replace those of the header', async () => {
    const damaged = amd64Minidump(randomMachine(7).machine, { header: { kernbase: 0xfffffe0000000001n } });
    const path = write('damaged', damaged.file.bytes());
    const broken = await vmcore(['info', path, '--json']);
    expect(broken.status).toBe(1);
    expect(rows(broken)).toMatchObject([{ error: { code: 'CORRUPT', field: 'kernbase' } }]);
    const mended = await vmcore(['info', path, '--json', '--header', 'kernbase=0xfffffe0000000000']);
    expect(rows(mended)[0].kernbase).toBe('0xfffffe0000000000');
    expect((await vmcore(['info', path, '--header', 'kernbase'])).status).toBe(2);
  });

  it('says what a file is that is no core', async () => {
    for (const [name, bytes, code] of [
      ['empty', '', 'NOT_A_CORE'],
      ['text', 'hello\u001b[2J, world', 'NOT_A_CORE'],
      ['gzip', Buffer.from('1f8b0800', 'hex'), 'CORRUPT'],
      ['xz', Buffer.from('fd377a585a00', 'hex'), 'UNSUPPORTED'],
    ] as const) {
      const path = write(name, bytes);
      const ran = await vmcore(['info', path, '--json']);
      expect([ran.status, ran.stderr]).toEqual([1, '']);
      expect(rows(ran)).toMatchObject([{ error: { code } }]);
      const text = await vmcore(['info', path]);
      expect([text.status, text.stdout]).toEqual([1, '']);
      expect(text.stderr).toMatch(new RegExp(`^error: .*\\(${code}\\)\n`));
    }
    expect(rows(await vmcore(['info', join(folder, 'none'), '--json']))).toMatchObject([
      { error: { code: 'IO' } },
    ]);
    const swapped = await vmcore(['info', core, '-k', core, '--json']);
    expect(rows(swapped)).toMatchObject([{ error: { code: 'INVALID_ARGUMENT', field: 'kernel' } }]);
  });
});

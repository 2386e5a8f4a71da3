import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Amd64Resolution } from '@libkvm/fixtures';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

interface ResolveRow {
  readonly kva: string;
  readonly pa?: string;
  readonly offset?: number;
  readonly protection?: string;
  readonly pageSize?: number;
  readonly entry?: string;
  readonly level?: number;
  readonly error?: { readonly code: string; readonly message: string };
}

const { core, kernelPath, folder, known, dump, machine } = sampleFiles();
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const DIRECT = machine.description.dmap.base;

/** The first, last and some inner byte of every mapping, what lies beside it, and the same through the direct map. */
function addresses(): bigint[] {
  const found: bigint[] = [0n, 1n, 0x7fff_ffff_ffffn, 0x8000_0000_0000n, 0xffff_ffff_ffff_ffffn];
  for (const { kva, pa, pageSize, pages } of machine.description.mappings) {
    const size = BigInt(pageSize) * BigInt(pages);
    found.push(kva - 1n, kva, kva + 0xabcn, kva + size - 1n, kva + size, DIRECT + BigInt(pa) + 8n);
  }
  return found;
}

function expectRow(row: ResolveRow, kva: bigint, expected: Amd64Resolution): void {
  expect(row.kva).toBe(hex(kva));
  if (expected.state === 'present') {
    expect(row).toMatchObject({ pa: hex(expected.pa), offset: expected.fileOffset });
    expect(row.error).toBeUndefined();
    if (expected.direct) expect([row.entry, row.level]).toEqual([undefined, undefined]);
    else {
      const { writable, executable, pageSize } = expected;
      expect(row).toMatchObject({
        protection: `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`,
        pageSize,
      });
      expect(row.level).toBe(pageSize === 0x1000 ? 1 : 2);
      expect(BigInt(row.entry!) & 0x000f_ffff_ffff_f000n & ~BigInt(pageSize! - 1)).toBe(
        BigInt(expected.pa) & ~BigInt(pageSize! - 1),
      );
    }
  } else if (expected.state === 'absent') {
    expect(row).toEqual({ kva: hex(kva), pa: hex(expected.pa), error: row.error });
    expect(row.error!.code).toBe('NOT_DUMPED');
  } else {
    expect(row).toEqual({ kva: hex(kva), error: row.error });
    expect(['NOT_MAPPED', 'NOT_CANONICAL', 'NOT_DUMPED']).toContain(row.error!.code);
    if (expected.state === 'unmapped') expect(row.error!.code).toBe('NOT_MAPPED');
    if (expected.state === 'tableAbsent') expect(row.error!.code).toBe('NOT_DUMPED');
  }
}

describe('vmcore resolve', () => {
  it('agrees with the machine about every mapping, in a batch', async () => {
    const asked = addresses();
    const file = join(folder, 'addresses');
    writeFileSync(file, asked.map((kva) => `${hex(kva)}\n`).join(''));
    const ran = await vmcore(['resolve', core, '--json', '--batch', file]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const answers = rows<ResolveRow>(ran);
    expect(answers.length).toBe(asked.length);
    answers.forEach((row, i) => expectRow(row, asked[i], dump.expected.resolve(asked[i])));
  });

  it('answers addresses of the command line in order, and fails when one has no answer', async () => {
    const ran = await vmcore([
      'resolve',
      core,
      '--json',
      '0xffffffff80200000',
      '0x10',
      '4096',
      '18446744071564165120',
    ]);
    expect(ran.status).toBe(1);
    expect(rows<ResolveRow>(ran).map(({ kva, error }) => [kva, error?.code])).toEqual([
      ['0xffffffff80200000', undefined],
      ['0x10', 'NOT_MAPPED'],
      ['0x1000', 'NOT_MAPPED'],
      ['0xffffffff80200000', undefined],
    ]);
  });

  it('takes symbols with a kernel', async () => {
    const argv = [
      'resolve',
      core,
      '-k',
      kernelPath,
      '--json',
      'panicstr',
      'panicstr+8',
      'msgbufp+0x10',
      'nosuch',
    ];
    const ran = await vmcore(argv);
    expect(ran.status).toBe(1);
    const { panicstr, msgbufp } = known.symbols;
    expect(rows(ran).map(({ kva }) => kva)).toEqual([
      ...[hex(panicstr), hex(panicstr + 8n), hex(msgbufp + 16n), 'nosuch'],
    ]);
    expect(rows(ran)[3]).toMatchObject({ error: { code: 'NO_SYMBOL' } });
  });

  it('prints an aligned line an address for people, with the symbol', async () => {
    const ran = await vmcore(['resolve', core, '-k', kernelPath, 'panicstr+4', hex(DIRECT + 0x200000n)]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const [first, second] = ran.stdout.split('\n');
    expect(first).toMatch(
      /^0xffffffff80600d0c {2}pa 0x600d0c +offset 0x\w+ +rw- +2M {2}entry 0x\w+ level 2 {2}<panicstr\+0x4>$/,
    );
    expect(second).toMatch(/^0xfffff80000200000 {2}pa 0x200000 +offset 0x\w+ +rw- +4K$/);
    expect(second.indexOf('offset')).toBe(first.indexOf('offset'));
  });

  it('says what is wrong and what helps on standard error', async () => {
    const ran = await vmcore(['resolve', core, '0xfffffe0003000000', 'panicstr', '0x10']);
    expect(ran).toMatchObject({ status: 2, stdout: '' });
    expect(ran.stderr).toContain('--kernel');
    const absent = await vmcore(['resolve', core, '0xfffffe0003000000', '0xffffffff80200000']);
    expect(absent.status).toBe(1);
    expect(absent.stderr).toMatch(/^error: .*0xfffffe0003000000.* \(NOT_DUMPED\)\nhint: .*\n$/);
    expect(absent.stdout).toMatch(/^0xffffffff80200000 .*\n$/);
  });

  it('answers every line of a batch, and skips blank ones and comments', async () => {
    const stdin =
      '\ufeff# a list\n\n0xffffffff80200000\r\n  4096 # low\nzz\n+\n0x1ffffffffffffffff\npanicstr+\n-1\n0x';
    const ran = await vmcore(['resolve', core, '--json', '-b', '-'], { stdin });
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    expect(rows<ResolveRow>(ran).map(({ kva, error }) => [kva, error?.code])).toEqual([
      ['0xffffffff80200000', undefined],
      ['0x1000', 'NOT_MAPPED'],
      ...['zz', '+', '0x1ffffffffffffffff', 'panicstr+', '-1', '0x'].map((text) => [
        text,
        'INVALID_ARGUMENT',
      ]),
    ]);
  });

  it('takes addresses and a batch together', async () => {
    const ran = await vmcore(['resolve', core, '--json', '0xffffffff80200000', '-b', '-'], {
      stdin: '0x1000',
    });
    expect(ran.status).toBe(0);
    expect(rows(ran).map(({ kva }) => kva)).toEqual(['0xffffffff80200000', '0x1000']);
  });

  it('keeps what a batch holds from the terminal', async () => {
    const stdin = 'evil\u001b[2J\u009b\n';
    const ran = await vmcore(['resolve', core, '-b', '-'], { stdin, terminal: true, env: { NO_COLOR: '1' } });
    // eslint-disable-next-line no-control-regex
    expect(ran.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect(ran.stdout).toContain('evil\\x1b[2J');
  });
});

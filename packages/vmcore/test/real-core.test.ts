import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { rows, vmcore } from './run.js';
import { temporaryFolder } from './sample.js';

/** LLVM's FreeBSD core: what the command says of it against the answers of an existing C reader (cores/README.md). */

interface OracleRead {
  readonly kva: string;
  readonly len: number;
  readonly ret: number;
  readonly bytes?: string | null;
  readonly sha256?: string;
  readonly fileOffset: number | null;
  readonly correct?: {
    readonly ret: number;
    readonly bytes: string | null;
    readonly fileOffset: number | null;
  };
}

interface Answer {
  readonly kva: string;
  readonly length?: number;
  readonly pa?: string;
  readonly offset?: number | null;
  readonly bytes?: string;
  readonly partial?: string;
  readonly error?: { readonly code: string };
}

interface PageRow {
  readonly kva: string | null;
  readonly pa: string;
  readonly dmap: string;
  readonly protection: string;
  readonly offset: number | null;
  readonly length: number;
  readonly pageSize: number;
}

const core = unpackedFile('cores/vmcore-amd64-minidump.bz2');
const kernel = unpackedFile('cores/kernel-amd64.xz');
const there = core !== undefined && kernel !== undefined;
if (!there) console.log('skipped: no real core in ../shared/cores (or VMCORE_FIXTURES), or no bzip2 and xz');

const PAGE = 4096;
const text = (name: string): string => readFileSync(sharedFile(`cores/amd64-minidump.${name}`)!, 'utf8');
const sha256 = (hex: string): string => createHash('sha256').update(Buffer.from(hex, 'hex')).digest('hex');

function oracleReads(): (OracleRead & { wanted: { ret: number; fileOffset: number | null } })[] {
  return text('reads.jsonl')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as OracleRead)
    .map((row) => ({ ...row, wanted: row.correct ?? row }));
}

describe.skipIf(!there)("LLVM's FreeBSD/amd64 core", () => {
  const folder = temporaryFolder();
  const reads = there ? oracleReads() : [];
  const batch = (name: string, lines: readonly string[]): string => {
    const path = join(folder, name);
    writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
    return path;
  };

  it('reads every row of the oracle', async () => {
    const file = batch(
      'reads',
      reads.map(({ kva, len }) => `${kva} ${len}`),
    );
    const ran = await vmcore(['read', core!, '--json', '--batch', file]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const answers = rows<Answer>(ran);
    expect(answers.length).toBe(reads.length);
    const wrong = reads.filter(({ kva, len, bytes, sha256: digest, wanted }, i) => {
      const answer = answers[i];
      if (answer.kva !== kva || answer.length !== len) return true;
      if (wanted.ret !== len) return answer.error === undefined || answer.bytes !== undefined;
      return digest === undefined ? answer.bytes !== bytes : sha256(answer.bytes ?? '') !== digest;
    });
    expect(wrong).toEqual([]);
    expect(answers.filter(({ bytes }) => bytes !== undefined).length).toBeGreaterThan(10_000);
  });

  it('resolves every address of the oracle to its offset', async () => {
    const file = batch(
      'addresses',
      reads.map(({ kva }) => kva),
    );
    const answers = rows<Answer>(await vmcore(['resolve', core!, '--json', '--batch', file]));
    const size = Number(rows(await vmcore(['info', core!, '--json']))[0].fileSize);
    const wrong = reads.filter(({ kva, wanted }, i) => {
      const { offset, error } = answers[i];
      if (answers[i].kva !== kva) return true;
      const expected = wanted.fileOffset !== null && wanted.fileOffset < size ? wanted.fileOffset : undefined;
      if (expected !== undefined) return offset !== expected || error !== undefined;
      // Behind the end of the file, or nowhere.
      const codes =
        wanted.fileOffset === null
          ? ['NOT_MAPPED', 'NOT_DUMPED', 'NOT_CANONICAL', 'TRUNCATED']
          : ['TRUNCATED'];
      return error === undefined || !codes.includes(error.code);
    });
    expect(wrong).toEqual([]);
  });

  it('walks the pages of the oracle', async () => {
    const listed = rows<PageRow>(await vmcore(['pages', core!, '--json']));
    const size = Number(rows(await vmcore(['info', core!, '--json']))[0].fileSize);
    const byKva = new Map<string, PageRow>();
    for (const row of listed) {
      if (row.kva === null) continue;
      const { kva, pa, dmap, offset, length, pageSize } = row;
      // Superpages are whole here and there, but split here where presence changes: compared page by page.
      for (let i = 0; i < length; i += PAGE) {
        const at = (value: string): string => `0x${(BigInt(value) + BigInt(i)).toString(16)}`;
        byKva.set(at(kva), {
          ...row,
          pa: at(pa),
          dmap: at(dmap),
          offset: offset === null ? null : offset + i,
          pageSize,
        });
      }
    }
    const oracle = gunzipSync(readFileSync(sharedFile('cores/amd64-minidump.walk.txt.gz')!))
      .toString()
      .split('\n')
      .filter((line) => line.startsWith('0x') && !line.startsWith('0x0 '))
      .map((line) => line.split(' '));
    const wrong = oracle.filter(([kva, pa, dmap, protection, offset, length]) => {
      const row = byKva.get(kva);
      const place = Number(offset) < 0 || Number(offset) >= size ? null : Number(offset);
      return (
        row?.pa !== pa ||
        row.dmap !== dmap ||
        row.protection !== protection ||
        row.offset !== place ||
        row.pageSize !== Number(length)
      );
    });
    expect(wrong).toEqual([]);
    expect(oracle.length).toBeGreaterThan(1000);
    const total = oracle.reduce((sum, [, , , , , length]) => sum + Number(length) / PAGE, 0);
    expect(byKva.size).toBe(total);
  });

  it('reads its symbols by name', async () => {
    const known = JSON.parse(text('symbols.json')) as Record<string, { value: string; size: number }>;
    const found = rows<{ name: string; value: string; size: number }>(
      await vmcore(['symbols', kernel!, '--json', ...Object.keys(known)]),
    );
    expect(Object.fromEntries(found.map(({ name, value, size }) => [name, { value, size }]))).toEqual(known);
    const hz = await vmcore(['read', core!, '-k', kernel!, '--json', 'hz', '4']);
    expect(rows(hz)).toEqual([{ kva: known.hz.value, length: 4, bytes: '64000000' }]);
  });
});

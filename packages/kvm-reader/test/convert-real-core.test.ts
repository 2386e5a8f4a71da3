import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { verifyCore, type DumpReport } from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planConversion, type Kvm } from '../src/index.js';
import { defaultArchitectures, openKvmFile, writeDumpFile } from '../src/node.js';
import { LONG } from './support/long.js';

/** LLVM's FreeBSD core, converted and converted back, against the answers of an existing C reader. */

interface Row {
  readonly kva: string;
  readonly len: number;
  readonly ret: number;
  readonly bytes?: string | null;
  readonly sha256?: string;
}

const core = unpackedFile('cores/vmcore-amd64-minidump.bz2');
const kernel = unpackedFile('cores/kernel-amd64.xz');
const there = core !== undefined && kernel !== undefined;
if (!there) console.log('skipped: no real core in ../shared/cores (or VMCORE_FIXTURES), or no bzip2 and xz');

const folder = mkdtempSync(join(tmpdir(), 'convert-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The formats that the core goes through, one after the other. */
const WAYS: readonly (readonly string[])[] = [
  ['portable'],
  ['portable', 'freebsd 3'],
  ['freebsd 3'],
  ...(LONG
    ? [
        ['freebsd 2', 'portable'],
        ['freebsd 3', 'freebsd 2', 'freebsd 3'],
      ]
    : []),
];

async function convert(kvm: Kvm, to: string, file: string): Promise<DumpReport> {
  const [format, version] = to.split(' ');
  const plan = planConversion(kvm, {
    format,
    architectures: defaultArchitectures,
    ...(version !== undefined && { version: Number(version) }),
  });
  await writeDumpFile(plan, file);
  return plan.report;
}

function oracleRows(): Row[] {
  return readFileSync(sharedFile('cores/amd64-minidump.reads.jsonl')!, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row & { correct?: Row })
    .map((row) => ({ ...row, ...row.correct }));
}

describe.skipIf(!there).each(WAYS)("LLVM's core through %s %s %s", (...steps) => {
  const opened: Kvm[] = [];
  const reports: DumpReport[] = [];
  let source: Kvm;
  let kvm: Kvm;
  beforeAll(async () => {
    kvm = source = openKvmFile(core!, { kernel: kernel! });
    opened.push(kvm);
    for (const [i, to] of steps.filter((step) => step !== undefined).entries()) {
      const file = join(folder, `${steps.join('-').replaceAll(' ', '')}.${i}`);
      reports.push(await convert(kvm, to, file));
      kvm = openKvmFile(file, { kernel: kernel! });
      opened.push(kvm);
    }
  }, 120_000);
  afterAll(() => {
    for (const one of opened) one.close();
  });

  it('answers every row of the read list', () => {
    const wrong: string[] = [];
    let whole = 0;
    for (const row of oracleRows()) {
      const problem = checkRow(source, kvm, row);
      if (problem !== undefined) wrong.push(`${row.kva}+${row.len}: ${problem}`);
      if (row.ret === row.len) whole++;
    }
    expect(wrong).toEqual([]);
    expect(whole).toBeGreaterThan(10_000);
  });

  it('has the pages that the file has, and says which it does not have', () => {
    const { dumped, missing, partial } = source.core.memory.pages;
    expect(reports[0].dropped.truncated).toBe(missing + partial);
    expect(missing + partial).toBeGreaterThan(1000);
    const held = kvm.core.memory.pages;
    const tables = reports.at(-1)?.tables.pages ?? 0;
    expect(held).toMatchObject({ missing: 0, partial: 0 });
    expect(held.dumped - (dumped - missing - partial)).toBeLessThanOrEqual(tables);
    expect(held.dumped).toBeGreaterThanOrEqual(dumped - missing - partial);
  });

  it('is sound, and says the same of its mappings', () => {
    expect(verifyCore(kvm.core.cache, () => kvm.core, crc32).problems).toEqual([]);
    const bySize = (one: Kvm): Map<string, number> => {
      const sums = new Map<string, number>();
      for (const { kva, offset, length, protection, pageSize } of one.pages()) {
        // The page that a cut file ends in is not a page of the dump.
        if (kva === undefined || offset === undefined || offset + length > one.core.cache.size) continue;
        const key = `${protection} ${pageSize}`;
        sums.set(key, (sums.get(key) ?? 0) + length);
      }
      return sums;
    };
    expect(bySize(kvm).size).toBeGreaterThan(3);
    expect(bySize(kvm)).toEqual(bySize(source));
  });
});

/** What becomes of an error: the portable format does not know which addresses no amd64 has. */
const CODES: Readonly<Record<string, readonly string[]>> = {
  TRUNCATED: ['NOT_DUMPED'],
  NOT_CANONICAL: ['NOT_CANONICAL', 'NOT_MAPPED'],
};

/** What the source's file ends before is absent; of everything else the bytes are those of the oracle. */
function checkRow(source: Kvm, kvm: Kvm, { kva, len, ret, bytes: wanted, sha256 }: Row): string | undefined {
  const address = BigInt(kva);
  const { bytes, fault } = kvm.readPartial(address, len);
  if (ret === len) {
    if (fault) return inCutPage(source, fault.address ?? 0n) ? undefined : fault.message;
    if (sha256 !== undefined && createHash('sha256').update(bytes).digest('hex') !== sha256) return 'sha256';
    return sha256 === undefined && Buffer.from(bytes).toString('hex') !== wanted ? 'bytes' : undefined;
  }
  const before = source.readPartial(address, len);
  if (fault === undefined || before.fault === undefined) return 'reads';
  const codes = CODES[before.fault.code] ?? [before.fault.code];
  if (!codes.includes(fault.code)) return `${fault.code} and not ${codes.join(' or ')}`;
  // The page that the file ends in is not a page of the dump.
  if (before.bytes.length - bytes.length >= 4096 || bytes.length > before.bytes.length) return 'length';
  return Buffer.compare(bytes, before.bytes.subarray(0, bytes.length)) === 0 ? undefined : 'bytes';
}

/** Whether the source's file ends within the page that holds an address: a dump has whole pages or none. */
function inCutPage(source: Kvm, kva: bigint): boolean {
  const { fileOffset = 0, physicalAddress } = source.resolve(kva);
  return fileOffset - (physicalAddress % 4096) + 4096 > source.core.cache.size;
}

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ELF_MACHINES, elfKernel } from '@libkvm/fixtures';
import { isKvmError, type KvmError } from '@libkvm/minidump-core';
import type { Kvm } from '../../src/kvm.js';

/** A read: KVA and bytes. */
export type Question = readonly [kva: bigint, length: number];

/** What a C reader says of a core: bytes in hex or undefined for each question, or why it does not open it. */
export type Verdict = { readonly answers: readonly (string | undefined)[] } | { readonly refusal: string };

/** What was compared. */
export interface Agreement {
  readonly read: number;
  readonly failed: number;
  /** Reads that the C reader answers with another page, or not at all, as it is known to. */
  readonly excused: number;
}

/** The driver program that `LIBKVM_C_READER` names (driver.c beside this file). */
export class CReader {
  private readonly folder = mkdtempSync(join(tmpdir(), 'libkvm-c-reader-'));

  constructor(private readonly program: string) {}

  close(): void {
    rmSync(this.folder, { recursive: true });
  }

  /** Asks it about a core, with a kernel file that says no more than which machine it is for. */
  ask({ core }: Kvm, file: string | Uint8Array, questions: readonly Question[]): Verdict {
    const kernel = join(this.folder, 'kernel');
    const path = typeof file === 'string' ? file : join(this.folder, 'vmcore');
    const machine = ELF_MACHINES[core.architecture as keyof typeof ELF_MACHINES];
    const { byteOrder, bits } = core;
    writeFileSync(kernel, elfKernel({ class: bits, byteOrder, machine, symbols: [] }));
    if (typeof file !== 'string')
      writeFileSync(path, byteOrder === 'big' ? withLittleBitmap(core, file) : file);
    const input = questions.map(([kva, length]) => `${kva.toString(16)} ${length}\n`).join('');
    const { status, stdout, stderr } = spawnSync(this.program, [kernel, path], {
      ...{ input, encoding: 'utf8', maxBuffer: 2 ** 30 },
    });
    if (status === 1) return { refusal: stderr.trim() };
    if (status !== 0) throw new Error(`${this.program} ended with ${status}: ${stderr}`);
    const lines = stdout.split('\n').slice(0, -1);
    if (lines.length !== questions.length) throw new Error(`${lines.length} answers to ${questions.length}`);
    return { answers: lines.map((line) => (line === '-' ? undefined : line)) };
  }
}

/**
 * Compares both readers: the same bytes, or none.
 *
 * @throws Error that names the first reads that differ
 */
export function compare(
  kvm: Kvm,
  questions: readonly Question[],
  answers: readonly (string | undefined)[],
): Agreement {
  const differences: string[] = [];
  let read = 0;
  let excused = 0;
  questions.forEach(([kva, length], i) => {
    const ours = readOrFail(kvm, kva, length);
    const said = isKvmError(ours) ? undefined : ours;
    if (said !== undefined) read++;
    if (said === answers[i]) return;
    if (isKvmError(ours) ? inHole(kvm, ours) : answers[i] === undefined && isRefused(kvm, kva, length))
      excused++;
    else differences.push(`${kva.toString(16)}+${length}: ${shown(ours)}, C: ${answers[i] ?? '-'}`);
  });
  if (differences.length > 0) {
    const list = differences.slice(0, 5).join('\n');
    throw new Error(`${differences.length} of ${questions.length} reads differ:\n${list}`);
  }
  return { read, failed: questions.length - read, excused };
}

/** Of a PA the C reader tests only the end of a dump_avail range: one in a hole before it is taken for another page. */
function inHole({ core }: Kvm, { code, physicalAddress: pa }: KvmError): boolean {
  if (code !== 'NOT_DUMPED' || pa === undefined || core.memory.ranges.has(pa)) return false;
  const hasRanges = core.sections.some(({ name }) => name === 'dumpAvail');
  return hasRanges && core.memory.ranges.ranges.some(({ end }) => end > pa);
}

/**
 * Whether the C reader is known not to read this. Before ARMv6 it takes no entry of type 3: those of tiny pages, which no
 * FreeBSD has, and XScale's small ones. And it looks for a direct map below kernbase only.
 */
function isRefused(kvm: Kvm, kva: bigint, length: number): boolean {
  const ends = [kva, kva + BigInt(length - 1)];
  const { core } = kvm;
  const { directMap, kernbase = 0n } = core;
  if (directMap) return ends.some((at) => at >= kernbase && at >= directMap.base && at < directMap.end);
  if (core.architecture !== 'arm' || core.pteFormat === 'v6') return false;
  return ends.some((at) => ((kvm.resolve(at).entry ?? 0n) & 3n) === 3n);
}

/** It reads the words of a big-endian bitmap as little-endian ones: it is given them so, to see the rest. */
function withLittleBitmap({ sections }: Kvm['core'], file: Uint8Array): Uint8Array {
  const { offset, length } = sections.find(({ name }) => name === 'bitmap')!;
  const copy = Buffer.from(file);
  copy.subarray(offset, offset + length).swap32();
  return copy;
}

function readOrFail(kvm: Kvm, kva: bigint, length: number): string | KvmError {
  try {
    return Buffer.from(kvm.read(kva, length)).toString('hex');
  } catch (error) {
    if (isKvmError(error)) return error;
    throw error;
  }
}

function shown(ours: string | KvmError): string {
  return isKvmError(ours) ? `${ours.code} (${ours.message})` : ours;
}

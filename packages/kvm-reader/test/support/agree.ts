import assert from 'node:assert/strict';
import { amd64 } from '@libkvm/arch-amd64';
import { isKvmError } from '@libkvm/minidump-core';
import type { Kvm } from '../../src/kvm.js';
import { openKvm } from '../../src/open.js';
import { checkError } from './faults.js';
import { Refusal, SlowMinidump } from './slow-minidump.js';

const TOP = 1n << 64n;
/** Rows of a page walk that are looked at; a damaged table may map one page a million times. */
const ROWS = 3000;

/**
 * Opens bytes, damaged or not, with the library and with the slow reader of the format document, and compares all they
 * say: whether the file opens, and for many addresses where each leads and what is there. Whatever fails has to fail
 * with a KvmError. Returns the code of the refusal, or undefined for a file that opens.
 */
export function checkAgreement(bytes: Uint8Array, probes: readonly bigint[] = []): string | undefined {
  const slow = attempt(() => new SlowMinidump(bytes));
  const kvm = attempt(() => openKvm(bytes, { architectures: [amd64] }));
  if ('code' in slow || 'code' in kvm) {
    const [ours, theirs] = [kvm, slow].map((result) => ('code' in result ? result.code : 'opens'));
    // Which file it is: the slow reader knows amd64 minidumps and nothing else.
    if (theirs === 'NOT_A_CORE' && ours === 'UNSUPPORTED') return ours;
    assert.equal(ours, theirs);
    return ours;
  }
  for (const kva of [...probesOf(slow), ...probes]) if (kva >= 0n && kva < TOP) compare(kvm, slow, kva);
  checkWalk(kvm, slow);
  checkRest(kvm);
  return undefined;
}

function attempt<T extends object>(open: () => T): T | { readonly code: string } {
  try {
    return open();
  } catch (error) {
    if (error instanceof Refusal) return { code: error.code };
    if (!isKvmError(error)) throw error;
    checkError(error);
    return { code: error.code };
  }
}

function compare(kvm: Kvm, slow: SlowMinidump, kva: bigint): void {
  const wanted = slow.resolve(kva);
  const found = attempt(() => kvm.resolve(kva));
  const where = `0x${kva.toString(16)}`;
  if ('code' in found) {
    if (found.code === 'NOT_CANONICAL' && SlowMinidump.nonCanonical(kva).with4) return;
    if (found.code !== wanted.code) assert.equal(found.code, wanted.code, where);
    const partial = kvm.readPartial(kva, 16);
    if (partial.bytes.length > 0 || partial.fault?.code !== found.code) assert.fail(`${where} can be read`);
    return;
  }
  const { physicalAddress, fileOffset, protection, pageSize, entry, level, contiguous } = found;
  const { code, pa, offset } = wanted;
  const same =
    code === undefined &&
    pa === BigInt(physicalAddress) &&
    offset === fileOffset &&
    entry === wanted.entry &&
    (level ?? 0) === (wanted.level ?? 0) &&
    protection === wanted.protection &&
    pageSize === wanted.pageSize;
  if (!same) assert.deepEqual({ where, ...found }, { where, ...wanted });
  const length = Math.min(64, 4096 - Number(kva & 0xfffn), slow.bytes.length - offset!);
  const there = slow.bytes.subarray(offset, offset! + length);
  if (Buffer.compare(kvm.read(kva, length), there) !== 0) assert.fail(`${where} has other bytes`);
  if (contiguous < length || offset! + contiguous > slow.bytes.length) assert.equal(contiguous, length);
}

/** Rows of the walk against the slow reader. The walk has no row for what it cannot tell, and ends. */
function checkWalk(kvm: Kvm, slow: SlowMinidump): void {
  let rows = 0;
  for (const { kva, pa, offset, length } of kvm.pages()) {
    const { offset: wanted } = slow.locate(BigInt(pa));
    if (offset !== wanted || length <= 0)
      assert.deepEqual({ pa, offset, length }, { pa, offset: wanted, length: 4096 });
    // Where the direct map lies over the tables, it comes first in reads and the tables come in the walk.
    const direct = kva !== undefined && kva >= slow.dmapbase && kva < slow.dmapend;
    if (kva !== undefined && !direct && slow.resolve(kva).pa !== BigInt(pa)) {
      assert.deepEqual({ kva, pa: BigInt(pa) }, { kva, pa: slow.resolve(kva).pa });
    }
    if (++rows === ROWS) return;
  }
}

/** What else may be asked of a damaged core: it answers or fails with a KvmError. */
function checkRest(kvm: Kvm): void {
  const uses = [
    () => kvm.messageBuffer() ?? {},
    () => ({ found: kvm.searchPhysical('panic').next().value }),
    () => kvm.checkMatch(),
    () => ({ text: kvm.readCString(kvm.core.kernbase ?? 0n, 100) }),
    () => kvm.read(kvm.core.kernbase ?? 0n, 100_000, { pad: true }),
  ];
  for (const use of uses) attempt(use);
}

/** Addresses that the header, the tables and the pages make interesting. */
function probesOf(slow: SlowMinidump): bigint[] {
  const { kernbase, dmapbase, dmapend, version, bytes } = slow;
  const { offset, length } = slow.sections.table;
  const span = version === 1 ? 0x1000n : 0x20_0000n;
  const entries = Math.floor(length / 8);
  const end = kernbase + BigInt(entries) * span;
  const probes = [kernbase, end, dmapbase, dmapend, TOP, 0n, 1n << 47n, TOP - (1n << 47n)].flatMap((at) => [
    ...[at - 1n, at, at + 1n, at + 0x1234n],
  ]);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let used = 0;
  for (let i = 0; i < entries && used < 40; i++) {
    if ((view.getUint32(offset + i * 8) | view.getUint32(offset + i * 8 + 4)) === 0) continue;
    used++;
    for (let page = 0n; page < 8n && page * 0x1000n < span; page++) {
      probes.push(kernbase + BigInt(i) * span + page * 0x1000n + 0x5f8n);
    }
    probes.push(kernbase + BigInt(i + 1) * span - 1n, kernbase + BigInt(i) * span + 0x1f_f000n);
  }
  let pages = 0;
  for (const pfn of slow.pages.keys()) {
    if (++pages > 30) break;
    probes.push(dmapbase + pfn * 4096n + 0xff8n, dmapbase + pfn * 4096n - 1n);
  }
  return probes;
}

import { Prng } from '@libkvm/fixtures';
import { isKvmError, Mapping, MAPPED, type KvmError } from '@libkvm/minidump-core';
import { ModelDump } from '../../../minidump-core/test/portable-model.js';
import type { Kvm } from '../../src/kvm.js';
import { openKernel } from '../../src/kernel-file.js';
import { defaultArchitectures } from '../../src/node.js';
import { openKvm, type OpenOptions } from '../../src/open.js';
import { checkAgreement } from '../support/agree.js';
import { checkError } from '../support/faults.js';
import { checkReads, checkWalks } from '../support/portable-checks.js';
import { BoundedSource } from './ledger.js';
import { SlowFlat, type FlatSpec } from './slow-flat.js';

/**
 * What must hold of any file: it opens or is refused with a code, a place and a hint; what it then gives are the bytes
 * that a slow and literal reader finds for that address in the damaged file.
 */

/** Reads of a source that no check needs: the files are small. */
const MAX_READS = 200_000;
const ROWS = 400;

/** A refusal or fault that tells nothing is as bad as a wrong answer. */
export function checkRefusal(error: unknown): KvmError {
  if (!isKvmError(error)) throw error;
  checkError(error);
  if (error.hint === undefined && needsHint(error)) {
    throw new Error(`no hint: ${error.code} ${error.message}`, { cause: error });
  }
  return error;
}

/** That an address is not mapped is an answer: there is nothing to do about it. */
function needsHint({ code, address }: KvmError): boolean {
  return address === undefined || (code !== 'NOT_MAPPED' && code !== 'NOT_CANONICAL');
}

function refusedOr(open: () => void): string {
  try {
    open();
  } catch (error) {
    return checkRefusal(error).code;
  }
  return 'opened';
}

/** Against the slow reader of amd64 minidumps, in all it says. */
export function checkAmd64(bytes: Uint8Array): string {
  const outcome = refusedOr(() => void openCounted(bytes, {}));
  const code = checkAgreement(bytes);
  if ((code ?? 'opened') !== outcome) throw new Error(`${code} from memory, ${outcome} through a cache`);
  return outcome;
}

export function checkFlat(bytes: Uint8Array, seed: number, architecture: FlatSpec['architecture']): string {
  let kvm: Kvm | undefined;
  const outcome = refusedOr(() => (kvm = openCounted(bytes, {})));
  if (kvm === undefined) return outcome;
  // A magic of another architecture may come about: what that is, others check.
  if (kvm.core.architecture !== architecture || kvm.core.format !== 'freebsd') return outcome;
  const slow = new SlowFlat(bytes, { architecture });
  const prng = new Prng(seed);
  for (const kva of flatProbes(slow, prng)) checkAddress(kvm, slow, kva, prng);
  for (const [i, pfn] of [...slow.pages.keys()].entries()) {
    if (i % Math.ceil(slow.pages.size / 20) === 0)
      checkPhysical(kvm, slow, pfn * BigInt(slow.header.pageSize));
  }
  checkRows(kvm, (pa) => slow.offsetOf(pa));
  checkRest(kvm);
  return outcome;
}

/** Around used entries, the ends of the table and of the direct map, and anywhere. */
function flatProbes(slow: SlowFlat, prng: Prng): bigint[] {
  const { kernbase, pageSize, entryBytes, table, dmap } = slow.header;
  const entries = Math.floor(table / entryBytes);
  const used: number[] = [];
  const words = new Uint8Array(slow.bytes.buffer, slow.bytes.byteOffset, slow.bytes.byteLength);
  for (let i = 0; i < entries && used.length < 24; i++) {
    const at = slow.tableOffset + i * entryBytes;
    if (at + entryBytes > words.length) break;
    if (words.subarray(at, at + entryBytes).some((byte) => byte !== 0)) used.push(i, entries - 1 - i);
  }
  const at = (index: number): bigint => kernbase + BigInt(index) * BigInt(pageSize);
  const edges = [at(0), at(entries), dmap?.base ?? 0n, dmap?.end ?? 0n, at(prng.below(entries + 1))];
  const pages = [...slow.pages.keys()]
    .slice(0, 8)
    .map((pfn) => (dmap ? dmap.base - dmap.phys : 0n) + pfn * BigInt(pageSize));
  const all = [...used.map(at), ...edges, ...pages].flatMap((kva) => [kva - 1n, kva, kva + 0xff8n]);
  const top = slow.spec.architecture === 'arm64' ? 1n << 64n : 1n << 32n;
  return all.filter((kva) => kva >= 0n && kva < top);
}

function checkAddress(kvm: Kvm, slow: SlowFlat, kva: bigint, prng: Prng): void {
  const wanted = slow.resolve(kva);
  const where = `0x${kva.toString(16)}`;
  try {
    const { physicalAddress, fileOffset } = kvm.resolve(kva);
    if (typeof wanted === 'string' || wanted.pa !== BigInt(physicalAddress)) {
      throw new Error(`${where}: PA ${physicalAddress}, not ${show(wanted)}`);
    }
    if (fileOffset !== slow.offsetOf(wanted.pa)) throw new Error(`${where}: offset ${fileOffset}`);
  } catch (error) {
    const { code, physicalAddress } = checkRefusal(error);
    if (code === 'NOT_MAPPED' || code === 'NOT_CANONICAL') {
      if (typeof wanted !== 'string')
        throw new Error(`${where}: ${code}, not ${show(wanted)}`, { cause: error });
    } else if (physicalAddress !== undefined) {
      if (
        typeof wanted === 'string' ||
        wanted.pa !== BigInt(physicalAddress) ||
        slow.offsetOf(wanted.pa) !== undefined
      )
        throw new Error(`${where}: ${code} at PA ${physicalAddress}, not ${show(wanted)}`, { cause: error });
    }
  }
  const length = prng.pick([1, 16, 5000, 40_000]);
  const { bytes, fault } = kvm.readPartial(kva, length);
  for (let i = 0; i < bytes.length; i += i < 16 ? 1 : 509) {
    if (bytes[i] !== slow.byteAt(kva + BigInt(i)))
      throw new Error(`${where} + ${i}: the byte of another place`);
  }
  if (fault) checkRefusal(fault);
  else if (bytes.length !== length) throw new Error(`${where}: short without a fault`);
}

function show(answer: unknown): string {
  return typeof answer === 'string' ? answer : `PA ${String((answer as { pa: bigint }).pa)}`;
}

function checkPhysical(kvm: Kvm, slow: SlowFlat, pa: bigint): void {
  const offset = slow.offsetOf(pa);
  let found: Uint8Array | undefined;
  try {
    found = kvm.readPhysical(pa, 64);
  } catch (error) {
    checkRefusal(error);
  }
  const wanted = offset === undefined ? undefined : slow.bytes.subarray(offset, offset + 64);
  const same =
    found === undefined ? (wanted?.length ?? 0) < 64 : wanted && Buffer.compare(found, wanted) === 0;
  if (same !== true) throw new Error(`PA ${pa.toString(16)}: other bytes than the file has there`);
}

/** Rows of a page walk: none without length, each at the place where its page is. */
function checkRows(kvm: Kvm, offsetOf: (pa: bigint) => number | undefined): void {
  let rows = 0;
  for (const { pa, offset, length } of kvm.pages()) {
    if (!(length > 0) || offset !== offsetOf(BigInt(pa)))
      throw new Error(`a row of ${length} bytes at PA ${pa}, offset ${offset}, not ${offsetOf(BigInt(pa))}`);
    if (++rows === ROWS) return;
  }
}

/** What else may be asked: it answers or fails with a KvmError. */
function checkRest(kvm: Kvm): void {
  const uses = [
    () => kvm.messageBuffer(),
    () => kvm.checkMatch(),
    () => kvm.searchPhysical('panic').next(),
    () => kvm.readCString(kvm.core.kernbase ?? 0n, 100),
    () => kvm.read(kvm.core.kernbase ?? 0n, 100_000, { pad: true }),
  ];
  for (const use of uses) refusedOr(() => void use());
}

/** Against the literal reader of the portable format. */
export function checkPortable(bytes: Uint8Array, seed: number): string {
  let kvm: Kvm | undefined;
  const outcome = refusedOr(() => (kvm = openCounted(bytes, {})));
  if (kvm?.core.format !== 'portable') return outcome;
  checkReads(kvm, new ModelDump(bytes), new Prng(seed));
  checkWalks(kvm);
  checkRest(kvm);
  return outcome;
}

/** A full dump: every byte is one of those that some program header claims for that address. */
export function checkElfImage(bytes: Uint8Array, _seed: number, CR3: bigint): string {
  let kvm: Kvm | undefined;
  const image = { architecture: 'amd64', registers: { CR3 } };
  const outcome = refusedOr(() => (kvm = openCounted(bytes, { image })));
  if (kvm?.core.format !== 'elf') return outcome;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const places = placesOf(bytes, view);
  const check = (pa: number): void => {
    let found: number;
    try {
      found = kvm!.readPhysical(pa, 1)[0];
    } catch (error) {
      checkRefusal(error);
      return;
    }
    if (!places(pa).some((offset) => bytes[offset] === found)) throw new Error(`PA ${pa}: no such byte`);
  };
  for (const pa of [0, 0x1000, 0x2fff, 0x9fff, 0xa7ff, 0x10000, 0x17fff, 0x18000, 2 ** 40]) check(pa);
  const mapping = new Mapping();
  const cursor = kvm.core.addressSpace?.mappings(0, 2 ** 52);
  for (let rows = 0; rows < ROWS && cursor?.next(mapping); rows++) {
    if (mapping.outcome !== MAPPED) continue;
    check(mapping.pa);
    const kva = BigInt(mapping.page) * 4096n;
    const { bytes: read } = kvm.readPartial(kva, 1);
    if (read.length > 0 && !places(mapping.pa).some((offset) => bytes[offset] === read[0]))
      throw new Error(`0x${kva.toString(16)}: a byte of no place of PA ${mapping.pa}`);
  }
  checkRest(kvm);
  return outcome;
}

/** The offsets that program headers give for an address, in either width and byte order. */
function placesOf(bytes: Uint8Array, view: DataView): (pa: number) => number[] {
  const [wide, little] = [bytes[4] === 2, bytes[5] === 1];
  const u = (at: number, width: 2 | 4 | 8): number => {
    if (at + width > bytes.length) return 0;
    if (width === 8) return Number(view.getBigUint64(at, little));
    return width === 4 ? view.getUint32(at, little) : view.getUint16(at, little);
  };
  const phoff = wide ? u(32, 8) : u(28, 4);
  const [size, count] = wide ? [u(54, 2), u(56, 2)] : [u(42, 2), u(44, 2)];
  const rows: { pa: number; offset: number; length: number }[] = [];
  for (let i = 0; i < Math.min(count, 2000); i++) {
    const at = phoff + i * size;
    if (u(at, 4) !== 1) continue;
    if (wide) rows.push({ offset: u(at + 8, 8), pa: u(at + 24, 8), length: u(at + 32, 8) });
    else rows.push({ offset: u(at + 4, 4), pa: u(at + 12, 4), length: u(at + 16, 4) });
  }
  return (pa) =>
    rows.filter((row) => pa >= row.pa && pa < row.pa + row.length).map((row) => row.offset + (pa - row.pa));
}

/** A kernel file: every question is answered, or refused with a reason. */
export function checkKernel(bytes: Uint8Array): string {
  let file: ReturnType<typeof openKernel> | undefined;
  const outcome = refusedOr(() => (file = openKernel(new BoundedSource(bytes, MAX_READS))));
  if (file === undefined) return outcome;
  const kernel = file;
  const uses = [
    () => kernel.symbols.lookup('version'),
    () => kernel.symbols.symbolAt(0xffffffff80200009n & (kernel.identity.bits === 32 ? 0xffffffffn : -1n)),
    () => {
      let count = 0;
      for (const { name } of kernel.symbols.entries()) if (name.length > 4096 || ++count > 100_000) break;
      return count;
    },
    () => kernel.readAt(0xffffffff80200004n, 100),
    () => kernel.buildId,
    () => kernel.elf.sections.map((section) => kernel.elf.sectionName(section)).length,
    () => [...kernel.elf.notes()].length,
  ];
  for (const use of uses) refusedOr(() => void use());
  return outcome;
}

/** Opens through a cache, with every read counted. */
function openCounted(bytes: Uint8Array, options: Partial<OpenOptions>): Kvm {
  return openKvm(new BoundedSource(bytes, MAX_READS), { architectures: defaultArchitectures, ...options });
}

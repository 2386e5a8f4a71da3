import { readFileSync } from 'node:fs';
import { crc32, gunzipSync } from 'node:zlib';
import { amd64 } from '@libkvm/arch-amd64';
import { arm } from '@libkvm/arch-arm';
import { i386 } from '@libkvm/arch-i386';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import {
  BlockCache,
  dumpSourceOf,
  dumpToBytes,
  isKvmError,
  planPortable,
  toHex,
  verifyCore,
  type Architecture,
  type PlanOptions,
} from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { FileSource } from '../src/node-file-source.js';

/**
 * Real page tables: every image with its oracle's translations, walked directly and through portable minidumps. The
 * oracle is the MMU of the emulator that ran the machine.
 */
interface Image {
  readonly name: string;
  readonly architecture: Architecture;
}

const IMAGES: readonly Image[] = [
  { name: 'amd64-nokaslr', architecture: amd64 },
  { name: 'x86-64-bare', architecture: amd64 },
  { name: 'i686-pae', architecture: i386 },
  { name: 'x86-pae', architecture: i386 },
  { name: 'x86-32-pse36', architecture: i386 },
  { name: 'arm-short-n0', architecture: arm },
  { name: 'arm-short-n2', architecture: arm },
  { name: 'armmp', architecture: arm },
  { name: 'arm-lpae-t0', architecture: arm },
  { name: 'arm-lpae-t2-t2', architecture: arm },
  { name: 'armmp-lpae', architecture: arm },
];

/** Ways to write the same machine. */
const WAYS: readonly (readonly [string, PlanOptions])[] = [
  ['RUN', {}],
  ['FLAT', { run: false }],
  ['RUN with exact entries', { exact: true }],
  ['FLAT with exact entries', { run: false, exact: true }],
];

interface Row {
  readonly va: string;
  readonly pa: string | null;
  readonly page?: string;
  readonly fault?: string;
  readonly walk?: string;
}

interface Read {
  readonly va?: string;
  readonly pa: string;
  readonly bytes: string;
}

for (const { name, architecture } of IMAGES) {
  const path = unpackedFile(`images/${name}/image.elf.xz`);
  if (path === undefined) console.warn(`images/${name} is not there: its tests are skipped`);
  describe.skipIf(path === undefined)(`image ${name}`, () => {
    let source: FileSource;
    let direct: Kvm;
    let rows: Row[];
    beforeAll(() => {
      source = new FileSource(path ?? '');
      direct = openKvm(source, { architectures: [architecture], image: { registers: registersOf(name) } });
      rows = jsonLines<Row>(
        gunzipSync(readFileSync(needed(`images/${name}/translations.jsonl.gz`))).toString(),
      );
    });
    afterAll(() => source.close());

    it('is walked as its machine did', () => {
      expect(rows.length).toBeGreaterThan(1000);
      expect(differences(direct, rows)).toEqual([]);
    });

    it('reads the bytes that the emulator read', () => {
      const reads = jsonLines<Read>(readFileSync(needed(`images/${name}/reads.jsonl`), 'utf8'));
      for (const { va, pa, bytes } of reads) {
        const length = bytes.length / 2;
        expect([pa, hex(direct.readPhysical(BigInt(pa), length))]).toEqual([pa, bytes]);
        if (va === undefined) continue;
        // The emulator read on in physical memory; the next page of the address space may be another.
        const inPage = Math.min(length, 4096 - Number(BigInt(va) & 0xfffn));
        expect([va, hex(direct.read(BigInt(va), inPage))]).toEqual([va, bytes.slice(0, inPage * 2)]);
      }
    });

    describe.each(WAYS)('as a portable minidump, %s', (_way, options) => {
      let dump: Kvm;
      let bytes: Uint8Array;
      beforeAll(() => {
        bytes = dumpToBytes(planPortable(dumpSourceOf(direct.core), options), crc32);
        dump = openKvm(bytes, { architectures: [] });
      });

      it('translates as the image does', () => {
        expect(differences(dump, rows)).toEqual([]);
      });

      it('says the same of every mapping', () => {
        expect(sameMappings(direct, dump)).toBe('');
      });

      it('holds the bytes of the image in every page', () => {
        let pages = 0;
        const ours = new Uint8Array(4096);
        const theirs = new Uint8Array(4096);
        const { memory } = dump.core;
        for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
          dump.readPhysicalInto(pa, ours);
          direct.readPhysicalInto(pa, theirs);
          if (Buffer.compare(ours, theirs) !== 0) throw new Error(`page ${pa.toString(16)} differs`);
          pages++;
        }
        expect(pages).toBe(memory.pages.dumped);
      });

      it('passes verification', () => {
        const report = verifyCore(new BlockCache(toSource(bytes)), () => dump.core, crc32);
        expect(report.problems).toEqual([]);
      });
    });

    const planted = sharedFile(`images/${name}/planted.json`);
    it.skipIf(planted === undefined)('holds its planted banner where it was planted', () => {
      const places = JSON.parse(readFileSync(planted ?? '', 'utf8')) as {
        pattern: string;
        pa: string;
        vas: string[];
      }[];
      const dump = openKvm(dumpToBytes(planPortable(dumpSourceOf(direct.core))), { architectures: [] });
      for (const pattern of new Set(places.map((place) => place.pattern))) {
        const expected = places
          .filter((place) => place.pattern === pattern)
          .flatMap(({ vas }) => vas.map(BigInt));
        const found = new Set(dump.search(pattern));
        for (const kva of expected) expect(found.has(kva), `${pattern} at ${kva.toString(16)}`).toBe(true);
      }
    });
  });
}

/** Rows for which a core gives another PA than the oracle: `va: ours, theirs`. */
function differences(kvm: Kvm, rows: readonly Row[]): string[] {
  const texts = rows.map((row) => [row.va, paOf(kvm, row.va), wanted(row)] as const);
  return texts
    .filter(([, ours, theirs]) => ours !== theirs)
    .map(([va, ours, theirs]) => `${va}: ${ours}, ${theirs}`);
}

/** The first difference between the mappings of two cores, or an empty string. */
function sameMappings(a: Kvm, b: Kvm): string {
  const rowsOf = (kvm: Kvm): Generator<string> => mappingRows(kvm);
  const theirs = rowsOf(b);
  for (const row of rowsOf(a)) {
    const { value } = theirs.next() as { value: string | undefined };
    if (value !== row) return `${row} became ${value ?? 'nothing'}`;
  }
  return theirs.next().done === true ? '' : 'there are more mappings than in the image';
}

function* mappingRows(kvm: Kvm): Generator<string> {
  for (const { kva, pa, protection, length, pageSize } of kvm.pages({ from: 0 })) {
    yield [kva?.toString(16), pa.toString(16), protection, length, pageSize].join(' ');
  }
}

/** The PA of a KVA, whether its page is there or not; null when it is not mapped. */
function paOf(kvm: Kvm, va: string): string | null {
  try {
    return toHex(kvm.resolve(BigInt(va)).physicalAddress);
  } catch (error) {
    if (!isKvmError(error)) throw error;
    if (error.physicalAddress !== undefined) return toHex(error.physicalAddress);
    // An address that the machine does not have is not mapped either; a table outside of RAM maps nothing.
    return ['NOT_MAPPED', 'NOT_CANONICAL', 'NOT_DUMPED'].includes(error.code) ? null : error.code;
  }
}

/** What the page tables say: the emulator's answer, but for faults that only a domain caused. */
function wanted({ pa, fault, walk }: Row): string | null {
  return fault === 'domain' && walk !== undefined ? walk : pa;
}

/** Registers that the image's notes lack are given by hand, as a user would. */
function registersOf(name: string): Record<string, bigint> {
  const { regs } = JSON.parse(readFileSync(needed(`images/${name}/regs.json`), 'utf8')) as {
    regs: Record<string, string>;
  };
  const names = ['ttbr0', 'ttbr1', 'ttbcr', 'sctlr', 'midr'];
  return Object.fromEntries(
    names.filter((reg) => reg in regs).map((reg) => [reg.toUpperCase(), BigInt(regs[reg])]),
  );
}

function toSource(bytes: Uint8Array): { size: number; readSync: FileSource['readSync'] } {
  return {
    size: bytes.length,
    readSync(offset, target, at, length) {
      const part = bytes.subarray(offset, offset + length);
      target.set(part, at);
      return part.length;
    },
  };
}

function needed(path: string): string {
  const found = sharedFile(path);
  if (found === undefined) throw new Error(`${path} is missing`);
  return found;
}

function jsonLines<T>(text: string): T[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

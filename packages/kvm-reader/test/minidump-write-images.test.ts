import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { arm } from '@libkvm/arch-arm';
import { i386 } from '@libkvm/arch-i386';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import {
  dumpSourceOf,
  dumpToBytes,
  freebsdDumpFormat,
  isKvmError,
  KvaParts,
  MAPPED,
  Mapping,
  protectionOf,
  toHex,
  Translation,
  type Architecture,
  type DumpOptions,
  type DumpPlan,
} from '@libkvm/minidump-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectCode } from '../../minidump-core/test/expect-code.js';
import { same } from '../../minidump-core/test/same.js';
import { openKvm } from '../src/index.js';
import type { Kvm } from '../src/kvm.js';
import { FileSource } from '../src/node-file-source.js';

/** Real page tables of 32-bit machines through FreeBSD minidumps of every entry format; the oracle is an emulator's MMU. */

const FOUR_GB = 2 ** 32;
const MB = 0x10_0000;

interface Image {
  readonly name: string;
  readonly architecture: Architecture;
  /** Its own entry format first, then those that it is converted to. */
  readonly formats: readonly string[];
}

const X86 = { architecture: i386 };
const ARM = { architecture: arm };
const IMAGES: readonly Image[] = [
  { name: 'i686-pae', ...X86, formats: ['pae', 'nopae'] },
  { name: 'x86-pae', ...X86, formats: ['pae', 'nopae'] },
  { name: 'x86-32-pse36', ...X86, formats: ['nopae', 'pae'] },
  { name: 'arm-short-n0', ...ARM, formats: ['v6', 'lpae', 'v4', 'xscale'] },
  { name: 'arm-short-n2', ...ARM, formats: ['v6', 'lpae', 'v4', 'xscale'] },
  { name: 'armmp', ...ARM, formats: ['v6', 'lpae', 'v4'] },
  { name: 'arm-lpae-t0', ...ARM, formats: ['lpae', 'v6', 'v4', 'xscale'] },
  { name: 'arm-lpae-t2-t2', ...ARM, formats: ['lpae', 'v6', 'v4', 'xscale'] },
  { name: 'armmp-lpae', ...ARM, formats: ['lpae', 'v6'] },
];

interface Row {
  readonly va: string;
  readonly pa: string | null;
  readonly fault?: string;
  readonly walk?: string;
}

for (const image of IMAGES) {
  const { name, architecture, formats } = image;
  const path = unpackedFile(`images/${name}/image.elf.xz`);
  if (path === undefined) console.warn(`images/${name} is not there: its tests are skipped`);
  describe.skipIf(path === undefined)(`image ${name}`, () => {
    let source: FileSource;
    let direct: Kvm;
    let rows: Row[];
    beforeAll(() => {
      source = new FileSource(path ?? '');
      direct = openKvm(source, { architectures: [architecture], image: { registers: registersOf(name) } });
      const text = gunzipSync(readFileSync(needed(`images/${name}/translations.jsonl.gz`))).toString();
      rows = text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Row);
    });
    afterAll(() => source.close());

    const planWith = (options: DumpOptions): DumpPlan =>
      freebsdDumpFormat.plan(dumpSourceOf(direct.core), options, [architecture]);
    const ways = formats.flatMap((pteFormat, i): DumpOptions[] => [
      { pteFormat, version: 2, superpages: 'attributes' },
      ...(i === 0 ? [{ pteFormat, version: 1 }] : []),
    ]);

    it.each(ways)('as $pteFormat, version $version, $superpages', (way) => {
      const limit = way.pteFormat === 'pae' || way.pteFormat === 'lpae' ? 2 ** 40 : FOUR_GB;
      const reaches = rows.some((row) => Number(wanted(row) ?? 0) >= limit);
      if (reaches) {
        const error = expectCode('UNSUPPORTED', () => planWith(way));
        expect(error.physicalAddress).toBeGreaterThanOrEqual(limit);
        expect(error.message).toContain('its PA is above');
      }
      const plan = planWith({ ...way, leaveOut: reaches });
      const bytes = dumpToBytes(plan);
      const dump = openKvm(bytes, { architectures: [architecture] });
      expect(plan.report).toMatchObject({ format: 'freebsd', size: bytes.length });
      expect(dump.core).toMatchObject({ version: way.version, warnings: [] });
      const differences = rows.filter((row) => {
        const right = wanted(row);
        return paOf(dump, row.va) !== (right !== null && Number(right) >= limit ? null : right);
      });
      expect(differences).toEqual([]);
      checkMappings(direct, dump, way, limit);
      checkPages(direct, dump);
    });
  });
}

/** First and last page of each mapping of the image: PA and rights in the dump, but for those that its entries lose. */
function checkMappings(direct: Kvm, dump: Kvm, way: DumpOptions, limit: number): void {
  const cursor = direct.core.addressSpace!.mappings(0, 2 ** 20);
  const mapping = new Mapping();
  const found = new Translation();
  while (cursor.next(mapping)) {
    const { outcome, page, pa, length, flags, pageSize } = mapping;
    if (outcome !== MAPPED || pa >= limit) continue;
    for (const at of [0, length - 4096]) {
      dump.core.addressSpace!.translate(page + at / 4096, 0, found);
      const where = `0x${(page * 4096 + at).toString(16)}`;
      same(found.outcome, MAPPED, where);
      same(found.pa, pa + at, where);
      same(protectionOf(found.flags), rightsIn(flags, pageSize, way), where);
    }
  }
}

/** What a dump says of the rights of a mapping. */
function rightsIn(flags: number, pageSize: number, { pteFormat, superpages }: DumpOptions): string {
  const old = pteFormat === 'v4' || pteFormat === 'xscale';
  const x86 = pteFormat === 'pae' || pteFormat === 'nopae';
  const large = pageSize > 4096 && (x86 || (old && pageSize >= MB));
  if (large && superpages === undefined) return 'rwx';
  const own = protectionOf(flags);
  return old || pteFormat === 'nopae' ? `${own.slice(0, 2)}x` : own;
}

/** Every page that is in the dump has the bytes of the image. */
function checkPages(direct: Kvm, dump: Kvm): void {
  const ours = new Uint8Array(4096);
  const theirs = new Uint8Array(4096);
  const { memory } = dump.core;
  let pages = 0;
  for (let pa = memory.nextDumped(0); pa >= 0; pa = memory.nextDumped(pa + 4096)) {
    dump.readPhysicalInto(pa, ours);
    direct.readPhysicalInto(pa, theirs);
    same(Buffer.compare(ours, theirs), 0, 'page', pa.toString(16));
    pages++;
  }
  expect(pages).toBe(memory.pages.dumped);
  expect(pages).toBeGreaterThan(1000);
}

/** The PA of a KVA, whether its page is there or not; null when it is not mapped. */
function paOf({ core }: Kvm, va: string): string | null {
  const parts = new KvaParts(32);
  try {
    parts.set(BigInt(va));
  } catch (error) {
    if (isKvmError(error, 'NOT_CANONICAL')) return null;
    throw error;
  }
  const out = new Translation();
  const outcome = core.addressSpace!.translate(parts.page, parts.offset, out);
  return outcome === MAPPED ? toHex(out.pa) : null;
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

function needed(path: string): string {
  const found = sharedFile(path);
  if (found === undefined) throw new Error(`${path} is missing`);
  return found;
}

import { amd64HeaderBytes } from '@libkvm/fixtures';
import type { Amd64MinidumpHeader } from '@libkvm/fixtures';
import {
  BlockCache,
  isKvmError,
  MAPPED,
  MemorySource,
  NOT_CANONICAL,
  openMinidump,
  TABLE_ABSENT,
  Translation,
  UNMAPPED,
} from '@libkvm/minidump-core';
import type {
  Core,
  HeaderOverrides,
  KvmError,
  KvmErrorCode,
  Mapping as CoreMapping,
  Outcome,
} from '@libkvm/minidump-core';
import { Mapping } from '@libkvm/minidump-core';
import { describe, expect, it } from 'vitest';
import { amd64Minidump } from '../src/index.js';

/** The dialect by itself: header, coverage of the table section, meaning of entries. Files are made byte by byte. */

const KERNBASE = 0xfffffe0000000000n;
const NX = 1n << 63n;
const DEFAULTS: Amd64MinidumpHeader = {
  magic: 'minidump FreeBSD/amd64',
  version: 3,
  msgbufsize: 0,
  bitmapsize: 4096,
  pmapsize: 4096,
  kernbase: KERNBASE,
  dmapbase: 0xfffff80000000000n,
  dmapend: 0xfffffc0000000000n,
  dumpavailsize: 4096,
};

interface File {
  readonly header?: Partial<Amd64MinidumpHeader>;
  /** Entries of the table section, by index. */
  readonly table?: Readonly<Record<number, bigint>>;
  /** Pages of RAM that are dumped, each with the first of its words; RAM is 16 MB from 0. */
  readonly pages?: Readonly<Record<number, readonly bigint[]>>;
}

function bytesOf({ header = {}, table = {}, pages = {} }: File): Uint8Array {
  const fields = { ...DEFAULTS, ...header };
  const avail = fields.version === 3 ? 4096 : 0;
  const tableAt = 4096 + avail + 4096;
  const pagesAt = tableAt + Math.ceil(fields.pmapsize / 4096) * 4096;
  const dumped = Object.entries(pages).sort(([a], [b]) => Number(a) - Number(b));
  const bytes = new Uint8Array(pagesAt + dumped.length * 4096);
  bytes.set(amd64HeaderBytes(fields));
  const view = new DataView(bytes.buffer);
  if (avail > 0) view.setBigUint64(4096 + 8, 0x1000000n, true);
  for (const [i, entry] of Object.entries(table)) view.setBigUint64(tableAt + Number(i) * 8, entry, true);
  dumped.forEach(([pa, words], rank) => {
    const pfn = Number(pa) / 4096;
    bytes[4096 + avail + (pfn >> 3)] |= 1 << (pfn & 7);
    words.forEach((word, i) => view.setBigUint64(pagesAt + rank * 4096 + i * 8, word, true));
  });
  return bytes;
}

function open(file: File, overrides?: HeaderOverrides): Core {
  return openMinidump(new BlockCache(new MemorySource(bytesOf(file))), amd64Minidump, overrides);
}

function translate(core: Core, kva: bigint): Translation & { outcome: Outcome } {
  const out = new Translation();
  core.addressSpace!.translate(Number(kva >> 12n), Number(kva & 0xfffn), out);
  return out;
}

function refused(action: () => unknown, code: KvmErrorCode): KvmError {
  try {
    action();
  } catch (error) {
    if (isKvmError(error, code)) return error;
    throw error;
  }
  return expect.fail(`expected ${code}`);
}

function mappingsOf(
  core: Core,
): (Pick<CoreMapping, 'outcome' | 'pa' | 'length' | 'pageSize'> & { kva: bigint })[] {
  const cursor = core.addressSpace!.mappings(0, 2 ** 52);
  const found = [];
  for (const out = new Mapping(); cursor.next(out);) {
    const { outcome, page, pa, length, pageSize } = out;
    found.push({ outcome, kva: BigInt(page) << 12n, pa, length, pageSize });
  }
  return found;
}

describe('probe', () => {
  const probe = (text: string): boolean => amd64Minidump.probe(new TextEncoder().encode(text));

  it('takes its magic, ended in its field', () => {
    expect(probe('minidump FreeBSD/amd64\0')).toBe(true);
    expect(probe('minidump FreeBSD/amd64\0\0rest of the page')).toBe(true);
    expect(probe('minidump FreeBSD/amd64\0x')).toBe(true);
    for (const other of [
      '',
      'minidump',
      'minidump FreeBSD/amd6',
      'minidump FreeBSD/amd64x\0',
      'Minidump FreeBSD/amd64\0',
    ]) {
      expect(probe(other), other).toBe(false);
    }
    expect(probe('minidump FreeBSD/arm64\0')).toBe(false);
    expect(probe(' minidump FreeBSD/amd64\0')).toBe(false);
  });
});

describe('the header', () => {
  it('has version 1, 2 or 3', () => {
    for (const version of [1, 2, 3]) expect(open({ header: { version } }).version).toBe(version);
    for (const version of [0, 4, 0x01000000, 0xffffffff]) {
      expect(refused(() => open({ header: { version } }), 'UNSUPPORTED').field).toBe('version');
    }
  });

  it('has a kernbase aligned to what an entry covers', () => {
    for (const version of [2, 3]) {
      open({ header: { version, kernbase: KERNBASE + 0x200000n } });
      for (const odd of [1n, 0x1000n, 0x100000n]) {
        const error = refused(() => open({ header: { version, kernbase: KERNBASE + odd } }), 'CORRUPT');
        expect(error).toMatchObject({ field: 'kernbase', offset: 40 });
      }
    }
    open({ header: { version: 1, kernbase: KERNBASE + 0x1000n } });
    refused(() => open({ header: { version: 1, kernbase: KERNBASE + 0x800n } }), 'CORRUPT');
  });

  it('is shorter in versions 1 and 2: what they do not have is not read', () => {
    const core = open({ header: { version: 2, dumpavailsize: 0xffffffff } });
    expect(core.sections.map(({ name }) => name)).toEqual(['header', 'msgbuf', 'bitmap', 'table', 'pages']);
    expect(core.memory.ranges.ranges).toEqual([{ start: 0, end: 4096 * 8 * 4096 }]);
  });

  it('of version 3 without dump_avail is read as version 2', () => {
    const bytes = bytesOf({ header: { version: 2 }, pages: { 0x3000: [7n] } });
    new DataView(bytes.buffer).setUint32(24, 3, true);
    new DataView(bytes.buffer).setUint32(64, 0, true);
    const core = openMinidump(new BlockCache(new MemorySource(bytes)), amd64Minidump);
    expect(core.memory.ranges.ranges).toEqual([{ start: 0, end: 4096 * 8 * 4096 }]);
    expect(core.memory.locate(0x3000)).toBe(bytes.length - 4096);
  });

  it('may be overridden by the names of its fields', () => {
    const file = { table: { 0: 0xe3n }, pages: { 0x1000: [1n] } };
    const moved = open(file, { kernbase: 0xffffffff80000000n });
    expect(moved.kernbase).toBe(0xffffffff80000000n);
    expect(translate(moved, 0xffffffff80001000n)).toMatchObject({ outcome: MAPPED, pa: 0x1000 });
    expect(open(file, { dmapbase: 0n, dmapend: 0x1000000 }).directMap).toEqual({
      base: 0n,
      end: 0x1000000n,
      phys: 0,
    });
    expect(open({ ...file, header: { version: 9 } }, { version: 3 }).version).toBe(3);
    expect(refused(() => open(file, { nosuch: 1 }), 'INVALID_ARGUMENT')).toMatchObject({ field: 'nosuch' });
    refused(() => open(file, { kernbase: 5 }), 'CORRUPT');
  });

  it('with a direct map that is empty has none, with a reversed one says so', () => {
    const at = (dmapbase: bigint, dmapend: bigint): Core => open({ header: { dmapbase, dmapend } });
    expect(at(0n, 0n)).toMatchObject({ warnings: [] });
    expect(at(0n, 0n).directMap).toBeUndefined();
    expect(at(0x2000n, 0x1000n).directMap).toBeUndefined();
    expect(at(0x2000n, 0x1000n).warnings.join()).toMatch(/direct map/);
  });

  // FreeBSD 16 with 5 levels reserves 32 slots of 256 TB for it (https://reviews.freebsd.org/D51085).
  it('with a direct map of 8 PB has it', () => {
    const dmapbase = 0xff01000000000000n;
    const dmapend = dmapbase + 32n * (1n << 48n);
    const core = open({ header: { dmapbase, dmapend } });
    expect(core.directMap).toEqual({ base: dmapbase, end: dmapend, phys: 0 });
    expect(core.warnings).toEqual([]);
  });
});

describe('the table section', () => {
  it('of versions 2 and 3 covers 2 MB an entry, from kernbase on', () => {
    for (const version of [2, 3]) {
      const core = open({ header: { version, pmapsize: 24 }, table: { 0: 0x4000e3n, 2: 0x6000e3n } });
      expect(translate(core, KERNBASE)).toMatchObject({
        outcome: MAPPED,
        pa: 0x400000,
        pageSize: 0x200000,
        level: 2,
      });
      expect(translate(core, KERNBASE + 0x1fffffn)).toMatchObject({
        outcome: MAPPED,
        pa: 0x5fffff,
        length: 1,
      });
      expect(translate(core, KERNBASE + 0x200000n)).toMatchObject({ outcome: UNMAPPED, length: 0x200000 });
      expect(translate(core, KERNBASE + 0x5fffffn)).toMatchObject({ outcome: MAPPED, pa: 0x7fffff });
      expect(translate(core, KERNBASE + 0x600000n).outcome).toBe(UNMAPPED);
      expect(translate(core, KERNBASE - 1n).outcome).toBe(UNMAPPED);
      expect(mappingsOf(core)).toEqual([
        { outcome: MAPPED, kva: KERNBASE, pa: 0x400000, length: 0x200000, pageSize: 0x200000 },
        { outcome: MAPPED, kva: KERNBASE + 0x400000n, pa: 0x600000, length: 0x200000, pageSize: 0x200000 },
      ]);
    }
  });

  it('of version 1 covers 4 KB an entry; bit 7 is no size there', () => {
    const core = open({
      header: { version: 1, pmapsize: 20 },
      table: { 0: 0x5063n, 1: 0x60e3n, 2: 0x7063n },
    });
    expect(translate(core, KERNBASE + 0xabcn)).toMatchObject({
      outcome: MAPPED,
      pa: 0x5abc,
      pageSize: 4096,
      level: 1,
    });
    expect(translate(core, KERNBASE + 0x1abcn)).toMatchObject({
      outcome: MAPPED,
      pa: 0x6abc,
      pageSize: 4096,
    });
    expect(translate(core, KERNBASE + 0x2000n).outcome).toBe(UNMAPPED); // half an entry
    expect(mappingsOf(core).map(({ pa }) => pa)).toEqual([0x5000, 0x6000]);
  });

  it('leads to page tables among the pages', () => {
    const ptes = Array.from({ length: 512 }, (_, i) => (i % 2 ? BigInt(i) * 0x1000n + 3n : 0n));
    const core = open({ table: { 1: 0x9063n, 2: 0xa063n }, pages: { 0x9000: ptes, 0x1000: [5n] } });
    for (const i of [0, 1, 2, 255, 510, 511]) {
      const found = translate(core, KERNBASE + 0x200000n + BigInt(i * 4096 + 0x10));
      if (i % 2 === 0) expect(found).toMatchObject({ outcome: UNMAPPED, length: 4080 });
      else expect(found).toMatchObject({ outcome: MAPPED, pa: i * 4096 + 0x10, length: 4080, level: 1 });
    }
    // The second table is not in the dump.
    expect(translate(core, KERNBASE + 0x400000n).outcome).toBe(TABLE_ABSENT);
    const found = mappingsOf(core);
    expect(found.length).toBe(257);
    expect(found[256]).toMatchObject({ outcome: TABLE_ABSENT, kva: KERNBASE + 0x400000n, length: 0x200000 });
  });

  it('up to the top of the address space, and not around it', () => {
    const top = 0xffffffffffe00000n;
    const core = open({
      header: { kernbase: top, pmapsize: 32 },
      table: { 0: 0x2000e3n, 1: 0x4000e3n, 2: 0x6000e3n },
    });
    expect(translate(core, 0xffffffffffffffffn)).toMatchObject({ outcome: MAPPED, pa: 0x3fffff, length: 1 });
    for (const kva of [0n, 0x1000n, 0x200000n]) expect(translate(core, kva).outcome).toBe(UNMAPPED);
    expect(mappingsOf(core).length).toBe(1);
    const flat = open({
      header: { version: 1, kernbase: 0xfffffffffffff000n, pmapsize: 16 },
      table: { 0: 0x2063n, 1: 0x3063n },
    });
    expect(mappingsOf(flat).map(({ kva, pa }) => [kva, pa])).toEqual([[0xfffffffffffff000n, 0x2000]]);
  });
});

describe('an entry', () => {
  /** What a PDE, or a PTE below it, gives. */
  const rights = (pde: bigint, pte?: bigint): string => {
    const core = open({ table: { 0: pde }, pages: { 0x9000: [pte ?? 0n] } });
    const { outcome, flags } = translate(core, KERNBASE);
    return outcome === MAPPED
      ? ['r', 'w', 'x'].map((right, i) => ((flags >> i) & 1 ? right : '-')).join('')
      : String(outcome);
  };

  it('grants what its bits grant, and a page table what both grant', () => {
    expect(rights(0x400081n)).toBe('r-x');
    expect(rights(0x400083n)).toBe('rwx');
    expect(rights(0x400083n | NX)).toBe('rw-');
    expect(rights(0x9003n, 0x5003n)).toBe('rwx');
    expect(rights(0x9003n, 0x5001n)).toBe('r-x');
    expect(rights(0x9001n, 0x5003n)).toBe('r-x');
    expect(rights(0x9003n | NX, 0x5003n)).toBe('rw-');
    expect(rights(0x9003n, 0x5003n | NX)).toBe('rw-');
  });

  it('is valid by bit 0 alone', () => {
    expect(rights(0n)).toBe(String(UNMAPPED));
    expect(rights(0xfffffffffffffffen)).toBe(String(UNMAPPED));
    expect(rights(0x9001n, 0xfffffffffffffffen)).toBe(String(UNMAPPED));
    expect(rights(0x9001n, 1n)).toBe('r-x');
  });

  it('has its frame in bits 51:12 or 51:21, whatever stands beside it', () => {
    const pa = (table: bigint, pte?: bigint): number => {
      const core = open({ table: { 0: table }, pages: { 0x9000: [pte ?? 0n] } });
      return translate(core, KERNBASE).pa;
    };
    expect(pa(0x7ff00000005ff0ffn)).toBe(0x400000); // PAT in bit 12, reserved 20:13, software and key bits
    expect(pa(0x000fffffffe00083n)).toBe(2 ** 52 - 0x200000);
    expect(pa(0x7ff0000000009f7fn, 0xfff0000000005fffn)).toBe(0x5000);
    expect(pa(0x9063n, 0x000ffffffffff063n)).toBe(2 ** 52 - 0x1000);
  });
});

describe('addresses that no amd64 has', () => {
  const at = (
    kva: bigint,
    header: Partial<Amd64MinidumpHeader> = {},
  ): { outcome: Outcome; length: number } => {
    const { outcome, length } = translate(open({ header }), kva);
    return { outcome, length };
  };

  it('lie between the halves of 4-level paging', () => {
    expect(at(0x7fffffffffffn)).toEqual({ outcome: UNMAPPED, length: 1 });
    expect(at(0x800000000000n).outcome).toBe(NOT_CANONICAL);
    expect(at(0xffff7fffffffffffn)).toEqual({ outcome: NOT_CANONICAL, length: 1 });
    expect(at(0xffff800000000000n).outcome).toBe(UNMAPPED);
    expect(at(0n)).toEqual({ outcome: UNMAPPED, length: 2 ** 47 });
  });

  it('lie between those of 5 levels where the header has such addresses', () => {
    const la57 = { dmapbase: 0xff10000000000000n, dmapend: 0xff20000000000000n };
    expect(at(0x800000000000n, la57).outcome).toBe(UNMAPPED);
    expect(at(0xffffffffffffffn, la57).outcome).toBe(UNMAPPED);
    expect(at(0x100000000000000n, la57).outcome).toBe(NOT_CANONICAL);
    expect(at(0xfeffffffffffffffn, la57).outcome).toBe(NOT_CANONICAL);
    expect(at(0xff00000000000000n, la57).outcome).toBe(UNMAPPED);
    const kernbase = { kernbase: 0xff20000000000000n };
    expect(at(0xff20000000000000n, kernbase).outcome).toBe(UNMAPPED);
    expect(at(0x100000000000000n, kernbase).outcome).toBe(NOT_CANONICAL);
  });

  it('map nothing, even where a damaged table covers them', () => {
    const kernbase = 0x7fffffe00000n;
    const core = open({
      header: { kernbase, pmapsize: 32 },
      table: { 0: 0x2000e3n, 1: 0x4000e3n, 2: 0x6000e3n },
    });
    expect(translate(core, kernbase)).toMatchObject({ outcome: MAPPED, pa: 0x200000 });
    expect(translate(core, kernbase + 0x200000n).outcome).toBe(NOT_CANONICAL);
    expect(mappingsOf(core).length).toBe(1);
    const middle = open({ header: { kernbase: 0x1000000000000000n }, table: { 0: 0x2000e3n } });
    expect(translate(middle, 0x1000000000000000n).outcome).toBe(NOT_CANONICAL);
    expect(middle.warnings.join()).toMatch(/not canonical/);
  });
});

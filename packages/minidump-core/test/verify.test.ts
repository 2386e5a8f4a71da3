import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  BlockCache,
  dumpToBytes,
  KvmError,
  literalAddressSpace,
  literalMemory,
  MemorySource,
  planPortable,
  portableFormat,
  readHead,
  verifyCore,
  type Core,
  type DumpSource,
  type VerifyReport,
} from '../src/index.js';
import { buildPortable, leafOf, reseal, segmentBytes, u64s, type ModelHeader } from './portable-model.js';
import { LONG } from './runs.js';

const KVA = 0xffffffff80000000n;

/** A dump with everything that the format has: FLAT and RUN, a hole, exact entries, a direct map, a ring, notes. */
const source: DumpSource = {
  machine: {
    ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
    ...{ pteFormat: 'amd64', kernbase: KVA },
    directMap: { base: 0xfffff80000000000n, end: 0xfffffc0000000000n, phys: 0 },
  },
  memory: literalMemory(
    [{ pa: 0x1000, bytes: Uint8Array.from({ length: 0x3000 }, (_, i) => i * 7) }],
    [{ start: 0x100000, end: 0x102000 }],
  ),
  addressSpace: literalAddressSpace([
    { kva: KVA, pa: 0x1000, length: 0x1000, protection: 'r-x', entry: 0x1063n },
    { kva: KVA + 0x2000n, pa: 0x2000, length: 0x1000, entry: 0x8000000000002063n },
    { kva: KVA + 0x200000n, pa: 0x100000, length: 0x200000, pageSize: 0x200000, entry: 0x1000e3n, level: 2 },
  ]),
  messageBuffer: { ring: new MemorySource(new TextEncoder().encode('copyright\n'.repeat(20))), start: 10 },
  notes: { panic: 'page fault', kernelVersion: 'FreeBSD 13.2' },
};
const sound = dumpToBytes(planPortable(source, { exact: true, addPages: [0x3000] }));

function verify(bytes: Uint8Array): VerifyReport {
  const cache = new BlockCache(new MemorySource(bytes));
  return verifyCore(cache, () => openAny(cache), crc32);
}

/** As a reader does: by its first bytes. */
function openAny(cache: BlockCache): Core {
  if (portableFormat.probe(readHead(cache))) return portableFormat.open(cache, { architectures: [] });
  throw new KvmError('NOT_A_CORE', 'no known core starts like this', { offset: 0 });
}

const pagesAt = sound.length - 4096 - 5 * 4096;

describe('verify', () => {
  it('accepts what is written', () => {
    const report = verify(sound);
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({ format: 'portable', sound: true });
    expect(report.checked).toEqual({ checksums: 10, pages: 5, segments: 2, leaves: 4, mappings: 3 });
    expect(report.notes).toEqual(['510 mapped pages lie outside of RAM (devices)']);
  });

  it('notices every flip of a bit of the metadata', () => {
    const bytes = sound.slice();
    const missed: string[] = [];
    let flips = 0;
    for (let at = 0; at < bytes.length; at++) {
      if (at === pagesAt) at = bytes.length - 4096;
      // Every bit where something is; of the zeros behind it, one bit of every eighth byte, and in long runs all.
      const used = LONG || [-1, 0, 1].some((beside) => (sound[at + beside] ?? 0) !== 0);
      if (!used && at % 8 !== 3) continue;
      for (let bit = used ? 0 : (at >> 3) % 8; bit < (used ? 8 : ((at >> 3) % 8) + 1); bit++) {
        bytes[at] ^= 1 << bit;
        if (verify(bytes).sound) missed.push(`${at}.${bit}`);
        bytes[at] = sound[at];
        flips++;
      }
    }
    expect(missed).toEqual([]);
    expect(flips).toBeGreaterThan(LONG ? 320_000 : 8000);
  });

  it('notices a flip of a bit of a page', () => {
    const bytes = sound.slice();
    for (let at = pagesAt; at < bytes.length - 4096; at += 61) {
      bytes[at] ^= 1 << (at % 8);
      const { problems } = verify(bytes);
      expect(problems).toEqual([
        { code: 'CORRUPT', where: 'pages', message: 'its checksum is wrong', offset: pagesAt },
      ]);
      bytes[at] = sound[at];
    }
  });

  it('notices every length that is not its own', () => {
    for (let length = sound.length - 1; length >= 0; length -= length % 4096 === 1 ? 1 : 997) {
      const { sound: accepted, problems } = verify(sound.slice(0, Math.max(0, length)));
      expect([length, accepted]).toEqual([length, false]);
      expect(problems.every(({ message }) => message.length > 10)).toBe(true);
    }
    const longer = new Uint8Array(sound.length + 1);
    longer.set(sound);
    expect(verify(longer).problems).toMatchObject([{ where: 'fileSize', offset: 120 }]);
  });
});

describe('verify, where the checksums are right', () => {
  /** A sound file made by hand, with parts replaced. */
  interface Parts {
    header?: Partial<ModelHeader>;
    ranges?: Uint8Array;
    bitmap?: Uint8Array;
    segments?: Uint8Array;
    leaves?: Uint8Array;
    more?: { name: string; bytes: Uint8Array }[];
    pages?: Uint8Array;
  }
  const FLAT2 = { kva: KVA, count: 2n, firstLeaf: 0n, granuleShift: 12, kind: 1 };
  const leaf = (pa: number, flags = 3, size = 4096): bigint => leafOf(pa, flags, size);
  const file = (parts: Parts = {}): Uint8Array<ArrayBuffer> =>
    buildPortable(parts.header ?? {}, [
      { name: 'ranges', bytes: parts.ranges ?? u64s([0x1000, 0x9000, 0, 0]) },
      { name: 'bitmap', bytes: parts.bitmap ?? u64s([0b11]) },
      { name: 'segments', bytes: parts.segments ?? segmentBytes([FLAT2]) },
      { name: 'leaves', bytes: parts.leaves ?? u64s([leaf(0x1000), leaf(0x2000)]) },
      ...(parts.more ?? []),
      { name: 'pages', bytes: parts.pages ?? new Uint8Array(0x2000) },
    ]);
  const problems = (bytes: Uint8Array): string[] =>
    verify(bytes).problems.map(({ where, message }) => `${where}: ${message}`);
  const patched = (change: (view: DataView) => void, parts: Parts = {}): Uint8Array => {
    const bytes = file(parts);
    change(new DataView(bytes.buffer));
    reseal(bytes);
    return bytes;
  };

  it('accepts the file that the others are made of', () => {
    expect(problems(file())).toEqual([]);
    expect(verify(file()).notes).toEqual([]);
  });

  it.each<[string, Uint8Array, string[]]>([
    ['flags without a meaning', file({ header: { flags: 4 } }), ['flags: has bits without a meaning']],
    ['a reserved field', patched((view) => view.setUint32(140, 1, true)), ['reserved: is not 0']],
    [
      'bytes behind the section table',
      patched((view) => view.setUint8(4095, 1)),
      ['header: is not 0 behind its tables'],
    ],
    [
      'two sections of one name',
      file({ more: [{ name: 'leaves', bytes: u64s([]) }] }),
      ['sections[4]: is another section leaves'],
    ],
    [
      'padding that is not zeros',
      patched((view) => view.setUint8(4096 + 32, 1)),
      ['ranges: is not padded with zeros'],
    ],
    [
      'bits behind the last page',
      file({ bitmap: u64s([0b11n | (1n << 8n)]) }),
      ['bitmap: 1 bit is set behind the last page'],
    ],
    [
      'ranges that share a page',
      file({ ranges: u64s([0x1000, 0x1800, 0x1c00, 0x3000, 0, 0]) }),
      ['ranges[1]: shares a page with the range before it: 0x1c00 to 0x3000'],
    ],
    [
      'fewer bits than pages',
      file({ bitmap: u64s([0b1]) }),
      ['bitmap: the bitmap counts 1 pages, the section has 8192 bytes'],
    ],
    [
      'ranges out of order',
      file({ ranges: u64s([0x1000, 0x3000, 0x2000, 0x4000, 0, 0]) }),
      ['ranges[1]: physical range 1 [0x2000, 0x4000) is empty or out of order'],
    ],
    [
      'a bitmap for more pages than it has bits',
      file({ ranges: u64s([0x1000, 0x10000000, 0, 0]) }),
      ['bitmapsize: the page bitmap has 64 bits for 65535 pages'],
    ],
    [
      'reserved bits of a segment',
      patched((view) => view.setUint16(3 * 4096 + 26, 1, true)),
      ['segments[0]: has reserved bits set'],
    ],
    [
      'leaves that no segment uses',
      file({ leaves: u64s([leaf(0x1000), leaf(0x2000), 0n]) }),
      ['leaves: there are 3, the segments use 2'],
    ],
    [
      'a gap in the leaves',
      file({
        segments: segmentBytes([{ ...FLAT2, firstLeaf: 1n }]),
        leaves: u64s([0n, leaf(0x1000), leaf(0x2000)]),
      }),
      ['segments[0]: should start at leaf 0'],
    ],
    [
      'a reserved bit of a leaf',
      file({ leaves: u64s([leaf(0x1000) | (1n << 63n), leaf(0x2000)]) }),
      ['leaves[0]: has reserved bits set'],
    ],
    [
      'an invalid leaf with bits',
      file({ leaves: u64s([leaf(0x1000) & ~1n, leaf(0x2000)]) }),
      ['leaves[0]: has reserved bits set'],
    ],
    [
      'a leaf to the middle of a page',
      file({ leaves: u64s([leaf(0x1400), leaf(0x2000)]) }),
      ['leaves[0]: maps 0x1400, which lies inside a granule'],
    ],
    [
      'a leaf of too small a mapping',
      file({ leaves: u64s([leaf(0x1000, 3, 1024), leaf(0x2000)]) }),
      ['leaves[0]: is of a mapping smaller than its granule'],
    ],
    [
      'a run past all physical addresses',
      file({
        segments: segmentBytes([{ ...FLAT2, kind: 2, count: 1n << 40n, kva: 0n }]),
        leaves: u64s([leafOf(0x1000, 3, 2 ** 52)]),
      }),
      ['leaves[0]: maps PAs that no machine has'],
    ],
    [
      'a run of nothing',
      file({ segments: segmentBytes([{ ...FLAT2, kind: 2 }]), leaves: u64s([0n]) }),
      ['leaves[0]: is not valid, and that of a RUN segment'],
    ],
    [
      'an exact entry beside a hole',
      file({
        header: { entryBits: 64 },
        leaves: u64s([0n, leaf(0x2000)]),
        more: [{ name: 'entries', bytes: u64s([0x1063n, 0x2063n]) }],
      }),
      ['entries[0]: belongs to no leaf'],
    ],
    [
      'exact entries of no width',
      file({ more: [{ name: 'entries', bytes: u64s([0n, 0n]) }] }),
      ['entryBits: is 0 with a section entries'],
    ],
    [
      'a width of no entries',
      file({ header: { entryBits: 32 } }),
      ['entryBits: is 32 without a section entries'],
    ],
    [
      'half a segment',
      file({ segments: segmentBytes([FLAT2]).slice(0, 31) }),
      ['segments: is no whole number of segments', 'leaves: there are 2, the segments use 0'],
    ],
    [
      'half a leaf',
      file({ leaves: u64s([leaf(0x1000), leaf(0x2000), 0n]).slice(0, 20) }),
      ['leaves: is no whole number of leaves'],
    ],
  ])('notices %s', (_name, bytes, expected) => {
    expect(problems(bytes)).toEqual(expected);
  });

  it('lists what is mapped and not there as notes', () => {
    const leaves = u64s([leaf(0x3000), leaf(0xfe000000)]);
    const { sound: accepted, notes } = verify(file({ leaves }));
    expect(accepted).toBe(true);
    expect(notes).toEqual([
      '1 mapped pages of RAM are not in the file',
      '1 mapped pages lie outside of RAM (devices)',
    ]);
  });

  it('lists no more problems than anybody reads', () => {
    const count = 5000;
    const leaves = u64s(Array.from({ length: count }, () => 1n << 63n));
    const segments = segmentBytes([{ ...FLAT2, count: BigInt(count) }]);
    const report = verify(file({ segments, leaves }));
    expect(report.problems.length).toBe(1001);
    expect(report.problems.at(-1)?.message).toBe('and 4000 more problems');
  });

  it('tells a damaged portable minidump from another file', () => {
    const bytes = sound.slice();
    bytes[3] ^= 1;
    expect(problems(bytes)).toContain('magic: is not that of a portable minidump');
    expect(verify(new Uint8Array(8192)).problems).toEqual([
      { code: 'NOT_A_CORE', where: 'file', message: 'no known core starts like this', offset: 0 },
    ]);
  });
});

// A machine of each architecture and page-table format but amd64, of 16 MB or more in 4 KB pages.
import {
  Arm64Machine,
  ArmMachine,
  I386Machine,
  arm64Minidump,
  armMinidump,
  i386Minidump,
  pagesOf,
} from '../packages/fixtures/dist/index.js';

const MB = 0x10_0000;
/** Frames of the pages, mapped in chunks so that KVA order is not PA order. */
const FRAMES = 0x4000_0000;
const TABLES = 0x6000_0000;
const CHUNK = 64;

const chunks = (bytes, base, make) => {
  const all = bytes / 4096 / CHUNK;
  return Array.from({ length: all }, (_, i) =>
    make(base, i * CHUNK * 4096, FRAMES + ((i * 37) % all) * CHUNK * 4096),
  );
};
const ramOf = (bytes) => [
  { start: FRAMES, end: FRAMES + bytes },
  { start: TABLES, end: TABLES + 4 * MB },
];

const i386 = (paging, bytes) => {
  const kernbase = 0xc000_0000n;
  const mappings = chunks(bytes, kernbase, (base, at, pa) => ({
    ...{ kva: base + BigInt(at), pa, pageSize: 4096, pages: CHUNK, writable: true },
  }));
  const tablePool = pagesOf(TABLES, TABLES + 4 * MB);
  const kvaEnd = kernbase + 0x2000_0000n;
  const machine = new I386Machine({
    paging,
    ram: ramOf(bytes),
    patternSeed: 1,
    kernbase,
    kvaEnd,
    mappings,
    tablePool,
  });
  return {
    file: i386Minidump(machine).file,
    kva: kernbase,
  };
};

const arm = (format, littleEndian, bytes) => {
  const kernbase = 0xc000_0000;
  const mappings = chunks(bytes, kernbase, (base, at, pa) => ({
    kva: base + at,
    pa,
    kind: 'small',
    pages: CHUNK,
    ap: 1,
  }));
  const machine = new ArmMachine({
    ...{ format, littleEndian, ram: ramOf(bytes), patternSeed: 1, mappings, roots: { ttbr0: TABLES } },
    tablePool: pagesOf(TABLES + 0x8000, TABLES + 4 * MB),
  });
  const dump = armMinidump(machine, { kernbase, kvaEnd: kernbase + 0x2000_0000 });
  return { file: dump.file, kva: BigInt(kernbase) };
};

const arm64 = (bytes) => {
  const kernbase = 0xffff_0000_0000_0000n;
  const mappings = chunks(bytes, kernbase, (base, at, pa) => ({
    kva: base + BigInt(at),
    pa,
    level: 3,
    pages: CHUNK,
    ap: 0,
  }));
  const machine = new Arm64Machine({
    ...{
      ram: ramOf(bytes),
      patternSeed: 1,
      mappings,
      halves: { high: { bits: 48, granule: 4096, root: TABLES } },
    },
    tablePool: pagesOf(TABLES + 0x8000, TABLES + 4 * MB),
  });
  const dmap = { base: 0xffff_a000_0000_0000n, end: 0xffff_a100_0000_0000n, phys: FRAMES };
  const dump = arm64Minidump(machine, { version: 3, kernbase, kvaEnd: kernbase + 0x2000_0000n, dmap });
  return { file: dump.file, kva: kernbase };
};

/** By name: a function of the bytes to map that gives the minidump of its kernel, and the KVA of its first page. */
export const MACHINES = {
  'i386 nopae': (bytes) => i386('nopae', bytes),
  'i386 pae': (bytes) => i386('pae', bytes),
  'arm v4': (bytes) => arm('v4', true, bytes),
  'arm v6': (bytes) => arm('v6-afe', true, bytes),
  'arm v6 big-endian': (bytes) => arm('v6-afe', false, bytes),
  'arm lpae': (bytes) => arm('lpae', true, bytes),
  arm64,
};

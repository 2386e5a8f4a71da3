// The same figures for every architecture: random reads through its minidump, and the walk of its flat table.
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  Arm64Machine,
  ArmMachine,
  I386Machine,
  arm64Minidump,
  armMinidump,
  i386Minidump,
  pagesOf,
} from '../packages/fixtures/dist/index.js';
import { openKvmFile } from '../packages/kvm-reader/dist/node.js';
import { Mapping } from '../packages/minidump-core/dist/index.js';
import { figure, measure } from './measure.mjs';

const MB = 0x10_0000;
/** Frames of the pages, mapped in chunks so that KVA order is not PA order. */
const FRAMES = 0x4000_0000;
const TABLES = 0x6000_0000;
const WINDOW = 16 * MB;
const CHUNK = 64;
const READS = 20_000;

const chunks = (base, make) =>
  Array.from({ length: WINDOW / 4096 / CHUNK }, (_, i, all = WINDOW / 4096 / CHUNK) =>
    make(base, i * CHUNK * 4096, FRAMES + ((i * 37) % all) * CHUNK * 4096),
  );
const ram = [
  { start: FRAMES, end: FRAMES + WINDOW },
  { start: TABLES, end: TABLES + 4 * MB },
];

const i386 = (paging) => {
  const kernbase = 0xc000_0000n;
  const mappings = chunks(kernbase, (base, at, pa) => ({
    ...{ kva: base + BigInt(at), pa, pageSize: 4096, pages: CHUNK, writable: true },
  }));
  const tablePool = pagesOf(TABLES, TABLES + 4 * MB);
  const kvaEnd = kernbase + 0x2000_0000n;
  const machine = new I386Machine({ paging, ram, patternSeed: 1, kernbase, kvaEnd, mappings, tablePool });
  return { file: i386Minidump(machine).file, kva: kernbase };
};

const arm = (format, littleEndian) => {
  const kernbase = 0xc000_0000;
  const mappings = chunks(kernbase, (base, at, pa) => ({
    kva: base + at,
    pa,
    kind: 'small',
    pages: CHUNK,
    ap: 1,
  }));
  const machine = new ArmMachine({
    ...{ format, littleEndian, ram, patternSeed: 1, mappings, roots: { ttbr0: TABLES } },
    tablePool: pagesOf(TABLES + 0x8000, TABLES + 4 * MB),
  });
  const dump = armMinidump(machine, { kernbase, kvaEnd: kernbase + 0x2000_0000 });
  return { file: dump.file, kva: BigInt(kernbase) };
};

const arm64 = () => {
  const kernbase = 0xffff_0000_0000_0000n;
  const mappings = chunks(kernbase, (base, at, pa) => ({
    kva: base + BigInt(at),
    pa,
    level: 3,
    pages: CHUNK,
    ap: 0,
  }));
  const machine = new Arm64Machine({
    ...{ ram, patternSeed: 1, mappings, halves: { high: { bits: 48, granule: 4096, root: TABLES } } },
    tablePool: pagesOf(TABLES + 0x8000, TABLES + 4 * MB),
  });
  const dmap = { base: 0xffff_a000_0000_0000n, end: 0xffff_a100_0000_0000n, phys: FRAMES };
  const dump = arm64Minidump(machine, { version: 3, kernbase, kvaEnd: kernbase + 0x2000_0000n, dmap });
  return { file: dump.file, kva: kernbase };
};

const MACHINES = {
  'i386 nopae': () => i386('nopae'),
  'i386 pae': () => i386('pae'),
  'arm v4': () => arm('v4', true),
  'arm v6': () => arm('v6-afe', true),
  'arm v6 big-endian': () => arm('v6-afe', false),
  'arm lpae': () => arm('lpae', true),
  arm64: arm64,
};

/** Figures for every architecture but amd64, which has its own. */
export function architectures(folder) {
  return Object.entries(MACHINES).flatMap(([name, make]) => {
    const { file, kva } = make();
    const path = join(folder, name.replaceAll(' ', '-'));
    writeFileSync(path, file.bytes());
    const kvm = openKvmFile(path);
    const fd = openSync(path, 'r');
    const rows = [randomReads(name, kvm, fd, kva), tableWalk(name, kvm, fd)];
    closeSync(fd);
    kvm.close();
    return rows;
  });
}

function randomReads(name, kvm, fd, base) {
  const target = new Uint8Array(8);
  const offsets = Array.from({ length: READS }, (_, i) => ((i * 2654435761) % (WINDOW / 8)) * 8);
  const kvas = offsets.map((offset) => base + BigInt(offset));
  const places = kvas.map((kva) => kvm.resolve(kva).fileOffset);
  const times = measure({
    ours: () => {
      for (const kva of kvas) kvm.readInto(kva, target);
    },
    floor: () => {
      for (const place of places) readSync(fd, target, 0, 8, place);
    },
  });
  return figure({
    name: `${name}: 8 bytes in 16 MB, readInto`,
    unit: 'ns',
    value: (times.ours / READS) * 1e6,
    floor: (times.floor / READS) * 1e6,
    floorIs: 'readSync of 8 bytes',
    limit: 1 / 3,
    ambition: 150,
  });
}

/** The walk of the whole table, most of it zeros, beside reading the section and testing each of its words. */
function tableWalk(name, kvm, fd) {
  const { offset, length } = kvm.core.sections.find((section) => section.name === 'table');
  const entries = length / (kvm.core.pteFormat === 'v4' || /nopae|v6/.test(kvm.core.pteFormat) ? 4 : 8);
  const bytes = new Uint8Array(length);
  const words = new Uint32Array(bytes.buffer);
  const step = words.length / entries;
  const mapping = new Mapping();
  let found = 0;
  const times = measure({
    ours: () => {
      const cursor = kvm.core.addressSpace.mappings(0, kvm.core.bits === 32 ? 2 ** 20 : 2 ** 52);
      while (cursor.next(mapping)) found++;
    },
    floor: () => {
      readSync(fd, bytes, 0, length, offset);
      for (let i = 0; i < words.length; i += step) if ((words[i] & 3) !== 0) found++;
    },
  });
  return figure({
    name: `${name}: walk of the table, ns an entry (${entries} entries)`,
    unit: 'ns',
    value: (times.ours / entries) * 1e6,
    floor: (times.floor / entries) * 1e6,
    floorIs: 'read the section, test each word',
    limit: found > 0 ? 2 : 0,
  });
}

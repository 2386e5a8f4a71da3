// The same figures for every architecture and format: random reads, and the walk of the table that maps KVA to PA.
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { planConversion } from '../packages/kvm-reader/dist/index.js';
import { defaultArchitectures, openKvmFile, writeDumpFile } from '../packages/kvm-reader/dist/node.js';
import { Mapping } from '../packages/minidump-core/dist/index.js';
import { MACHINES } from './machines.mjs';
import { figure, measure } from './measure.mjs';

const WINDOW = 16 * 2 ** 20;
const READS = 20_000;

/** Figures for every architecture but amd64, which has its own, in every format that it can be written in. */
export async function architectures(folder) {
  const rows = [];
  for (const [name, make] of Object.entries(MACHINES)) {
    const { file, kva } = make(WINDOW);
    const path = join(folder, name.replaceAll(' ', '-'));
    writeFileSync(path, file.bytes());
    for (const format of ['freebsd', 'portable', 'elf']) {
      if (format !== 'freebsd') await convertFile(path, `${path}.${format}`, format);
      rows.push(...figuresOf(`${name}, ${format}`, format === 'freebsd' ? path : `${path}.${format}`, kva));
    }
  }
  return rows;
}

async function convertFile(from, to, format) {
  const kvm = openKvmFile(from);
  await writeDumpFile(planConversion(kvm, { format, architectures: defaultArchitectures }), to);
  kvm.close();
}

function figuresOf(name, path, kva) {
  const kvm = openKvmFile(path);
  const fd = openSync(path, 'r');
  const rows = [randomReads(name, kvm, fd, kva), tableWalk(name, kvm, fd)];
  closeSync(fd);
  kvm.close();
  return rows;
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

/**
 * The walk of all mappings, beside reading the part of the file that has the entries and testing each of them. Flat tables
 * are mostly zeros, and their figure is by entry; elsewhere entries stand for many pages or none, and it is by mapping.
 */
function tableWalk(name, kvm, fd) {
  const flat = kvm.core.sections.filter((section) => section.name === 'table');
  const compact = kvm.core.sections.filter((section) => /segments|leaves/.test(section.name));
  const tables = [flat, compact, kvm.core.sections.slice(-1)].find((parts) => parts.length > 0);
  const wide = kvm.core.format === 'portable' || !/v4|nopae|v6/.test(kvm.core.pteFormat);
  const length = tables.reduce((sum, section) => sum + section.length, 0);
  const words = new Uint32Array(length / 4);
  const bytes = new Uint8Array(words.buffer);
  const count = flat.length > 0 ? length / (wide ? 8 : 4) : countMappings(kvm);
  const times = measure({
    ours: () => countMappings(kvm),
    floor: () => {
      let found = 0;
      let at = 0;
      for (const section of tables) at += readSync(fd, bytes, at, section.length, section.offset);
      for (let i = 0; i < words.length; i += wide ? 2 : 1) if ((words[i] & 3) !== 0) found++;
      return found;
    },
  });
  const unit = flat.length > 0 ? 'entry' : 'mapping';
  return figure({
    ...{ name: `${name}: walk, ns by ${unit} (${count})`, unit: 'ns' },
    ...{ value: (times.ours / count) * 1e6, floor: (times.floor / count) * 1e6 },
    floorIs: 'read the tables, test each word',
    ...(flat.length > 0 && { limit: 2 }),
  });
}

function countMappings({ core }) {
  const mapping = new Mapping();
  const cursor = core.addressSpace.mappings(0, core.bits === 32 ? 2 ** 20 : 2 ** 52);
  let count = 0;
  while (cursor.next(mapping)) count++;
  return count;
}

// Opening a core, and the page walk over all of it.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { openKvmFile } from '../packages/kvm-reader/dist/node.js';
import { figure, measure } from './measure.mjs';

export function opening(core) {
  const { dumpAvail, bitmap } = core.dump.expected.sections;
  const head = new Uint8Array(4096);
  const buffer = new Uint8Array(Math.max(dumpAvail.length, bitmap.length));
  const times = measure(
    {
      floor: () => {
        const fd = openSync(core.path, 'r');
        fstatSync(fd);
        readSync(fd, head, 0, head.length, 0);
        readSync(fd, buffer, 0, dumpAvail.length, dumpAvail.offset);
        readSync(fd, buffer, 0, bitmap.length, bitmap.offset);
        closeSync(fd);
      },
      ours: () => openKvmFile(core.path).close(),
    },
    { rounds: 101, warmups: 20 },
  );
  return [
    figure({ name: 'open', unit: 'ms', value: times.ours, limit: 5, ambition: 0.9, c: 0.9 }),
    figure({
      ...{ name: 'open', unit: 'ms', value: times.ours, floor: times.floor },
      floorIs: 'open, read header, ranges and bitmap, close',
    }),
  ];
}

export function walking(kvm, core, fd) {
  const scan = tableScan(core, fd);
  const entries = scan();
  const times = measure({ floor: scan, ours: () => countRows(kvm) }, { rounds: 25, warmups: 8 });
  return [
    figure({
      ...{ name: 'page walk', unit: 'ms', value: times.ours, floor: times.floor },
      ...{ floorIs: `read and scan the tables (${entries} entries)`, limit: 2, ambition: 2.6, c: 2.6 },
    }),
  ];
}

export function countRows(kvm) {
  let rows = 0;
  for (const row of kvm.pages()) if (row.length > 0) rows++;
  return rows;
}

/** Reads the table section and the page tables it names, and counts valid entries; as plain as can be. */
export function tableScan(core, fd) {
  const { table } = core.dump.expected.sections;
  const offsets = new Map(core.machine.tables.map(({ pa }) => [pa, core.dump.expected.fileOffset(pa)]));
  const section = new Uint32Array(table.length / 4);
  const page = new Uint32Array(1024);
  const sectionBytes = new Uint8Array(section.buffer);
  const pageBytes = new Uint8Array(page.buffer);
  return () => {
    let valid = 0;
    readSync(fd, sectionBytes, 0, table.length, table.offset);
    for (let i = 0; i < section.length; i += 2) {
      if ((section[i] & 1) === 0) continue;
      valid++;
      if ((section[i] & 0x80) !== 0) continue;
      readSync(fd, pageBytes, 0, 4096, offsets.get((section[i] & ~0xfff) >>> 0));
      for (let j = 0; j < 1024; j += 2) if ((page[j] & 1) !== 0) valid++;
    }
    return valid;
  };
}

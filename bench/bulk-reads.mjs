// Long and sequential reads: search, extraction, conversion.
import { readSync } from 'node:fs';
import { pageOffsets } from './cores.mjs';
import { figure, measure } from './measure.mjs';

const PAGE = 4096;
const BULK = 40 * 1024 * 1024;
/** What the C reader gave in bulk: 2.7 GB a second. */
const C_BYTES_PER_MS = 2.7e6;

/** One page after the other, in the order of KVA. */
export function pageReads(kvm, core, fd) {
  return [
    pageReadsIn(kvm, core, fd, core.windows.small, '4 KB pages'),
    pageReadsIn(kvm, core, fd, core.windows.large, '2 MB pages'),
  ];
}

function pageReadsIn(kvm, core, fd, window, kind) {
  const offsets = pageOffsets(core, window);
  const kvas = Array.from(offsets, (_, i) => window.start + BigInt(i * PAGE));
  const page = new Uint8Array(PAGE);
  const times = measure({
    floor: () => {
      for (let i = 0; i < offsets.length; i++) readSync(fd, page, 0, PAGE, offsets[i]);
    },
    ours: () => {
      for (let i = 0; i < kvas.length; i++) kvm.readInto(kvas[i], page);
    },
  });
  const ns = (ms) => (ms * 1e6) / kvas.length;
  return figure({
    ...{ name: `4 KB pages in order, ${kind}`, unit: 'ns', value: ns(times.ours), floor: ns(times.floor) },
    ...{ floorIs: 'readSync of 4 KB', limit: 1, ambition: 600, c: 1326 },
  });
}

/** 40 MB in one call, beside the same number of bytes in one readSync, and beside the same runs of the file. */
export function bulkReads(kvm, core, fd) {
  return [
    ...bulkReadsIn(kvm, core, fd, core.windows.large, '2 MB pages'),
    ...bulkReadsIn(kvm, core, fd, core.windows.small, '4 KB pages'),
  ];
}

function bulkReadsIn(kvm, core, fd, window, kind) {
  const target = new Uint8Array(BULK);
  const runs = fileRuns(pageOffsets(core, window).subarray(0, BULK / PAGE));
  const first = core.dump.expected.sections.pages.offset;
  const times = measure({
    plain: () => readSync(fd, target, 0, BULK, first),
    runs: () => {
      for (const { at, length, offset } of runs) readSync(fd, target, at, length, offset);
    },
    ours: () => kvm.readInto(window.start, target),
  });
  const row = (floor, floorIs, limit) =>
    figure({
      ...{ name: `40 MB in one call, ${kind}`, unit: 'ms', value: times.ours, floor: times[floor], floorIs },
      ...{ limit, c: BULK / C_BYTES_PER_MS },
    });
  const runLimit = 1 / 0.85;
  const scattered = window.pageSize === PAGE;
  return [
    row('plain', 'readSync of 40 MB', scattered ? undefined : runLimit),
    row('runs', `readSync of the same ${runs.length} runs`, runLimit),
  ];
}

/** Pages that follow each other in the file, joined. */
function fileRuns(offsets) {
  const runs = [];
  for (let i = 0; i < offsets.length; i++) {
    const last = runs.at(-1);
    if (last && last.offset + last.length === offsets[i]) last.length += PAGE;
    else runs.push({ at: i * PAGE, length: PAGE, offset: offsets[i] });
  }
  return runs;
}

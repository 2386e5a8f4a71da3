// Reads of 8 bytes all over: what a debugger does when it follows pointers.
import { readSync } from 'node:fs';
import { pageOffsets, random, randomAddresses } from './cores.mjs';
import { figure, measure } from './measure.mjs';

const COUNT = 65536;
const WORKING_SET = 16 * 1024 * 1024;

/** Working sets that fit the cache: 16 MB of each kind of mapping. */
export function workingSetReads(kvm, core, fd) {
  const { small, large } = core.windows;
  const direct = core.machine.directKva(core.machine.translate(large.start).pa & ~(2 ** 25 - 1));
  return [
    ...randomReads(kvm, core, fd, 'readInto, 4 KB pages', small.start, into, 150),
    ...randomReads(kvm, core, fd, 'readInto, 2 MB pages', large.start, into, 150),
    ...randomReads(kvm, core, fd, 'readInto, direct map', direct, into, 120),
    ...randomReads(kvm, core, fd, 'readU64, 4 KB pages', small.start, u64, 150),
    ...randomReads(kvm, core, fd, 'readU64, 2 MB pages', large.start, u64, 150),
    ...randomReads(kvm, core, fd, 'readU64, direct map', direct, u64, 120),
  ];
}

function randomReads(kvm, core, fd, name, start, makeRun, ambition) {
  const c = ambition === 120 ? 907 : 1365;
  const { kvas, offsets } = randomAddresses(core, start, WORKING_SET, COUNT, 1);
  check(kvm, core, kvas, offsets, fd);
  const times = measure({ floor: floorRun(fd, offsets, 8), ours: makeRun(kvm, kvas) });
  const ns = (ms) => (ms * 1e6) / COUNT;
  return [
    figure({
      ...{ name: `8 bytes in 16 MB, ${name}`, unit: 'ns', value: ns(times.ours), floor: ns(times.floor) },
      ...{ floorIs: 'readSync of 8 bytes', limit: 1 / 3, ambition, c },
    }),
  ];
}

/** The whole core, which is three times the cache: most reads miss. */
export function wholeCoreReads(kvm, core, fd) {
  const { small, large } = core.windows;
  const pages = { small: pageOffsets(core, small), large: pageOffsets(core, large) };
  const { below } = random(2);
  const kvas = [];
  const blocks = new Float64Array(COUNT);
  for (let i = 0; i < COUNT; i++) {
    const which = below(2) === 0 ? 'small' : 'large';
    const page = below(pages[which].length);
    kvas.push(core.windows[which].start + BigInt(page * 4096 + below(512) * 8));
    blocks[i] = pages[which][page];
  }
  const contenders = { floor: floorRun(fd, blocks, 4096), into: into(kvm, kvas), u64: u64(kvm, kvas) };
  const times = measure(contenders, { rounds: 9 });
  const ns = (ms) => (ms * 1e6) / COUNT;
  const common = { unit: 'ns', floor: ns(times.floor), floorIs: 'readSync of 4 KB', limit: 1.2, c: 1365 };
  return [
    figure({ name: '8 bytes in the whole core, readInto', value: ns(times.into), ...common }),
    figure({ name: '8 bytes in the whole core, readU64', value: ns(times.u64), ...common }),
  ];
}

function into(kvm, kvas) {
  const target = new Uint8Array(8);
  return () => {
    for (let i = 0; i < kvas.length; i++) kvm.readInto(kvas[i], target);
  };
}

function u64(kvm, kvas) {
  let last = 0n;
  return () => {
    for (let i = 0; i < kvas.length; i++) last = kvm.readU64(kvas[i]);
    return last;
  };
}

function floorRun(fd, offsets, length) {
  const target = new Uint8Array(length);
  return () => {
    for (let i = 0; i < offsets.length; i++) readSync(fd, target, 0, length, offsets[i]);
  };
}

/** A wrong answer is not worth measuring. */
function check(kvm, core, kvas, offsets, fd) {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 1000; i++) {
    readSync(fd, bytes, 0, 8, offsets[i]);
    const read = kvm.readU64(kvas[i]);
    if (read !== view.getBigUint64(0, true)) throw new Error(`wrong bytes at 0x${kvas[i].toString(16)}`);
  }
}

// Writes a dump of argv[4] MB to argv[2], and dies by its own hand where argv[3] says: at so many bytes, or `never`.
// The last line tells how it went.
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { isKvmError, literalAddressSpace, literalMemory, planPortable } from '@libkvm/minidump-core';
import { writeDumpFile } from '../../src/node-file-sink.js';

const [, , path, dieAt, megabytes] = process.argv;
const length = Number(megabytes) * 2 ** 20;
const memory = literalMemory([], [{ start: 0, end: length }]);
const plan = planPortable({
  machine: {
    ...{ architecture: 'amd64', elfMachine: 62, bits: 64, byteOrder: 'little', pageSize: 4096 },
    pteFormat: '',
  },
  memory: { ...memory, readSync: (pa, target, at, bytes) => target.fill(pa / 2 ** 20 + 1, at, at + bytes) },
  addressSpace: literalAddressSpace([{ kva: 0xffffffff80000000n, pa: 0, length }]),
});

function onProgress(done: number): void {
  if (dieAt !== 'never' && done >= Number(dieAt) * plan.size) process.kill(process.pid, 'SIGKILL');
}

process.stdout.write('started\n');
let outcome: unknown = 'written';
try {
  await writeDumpFile(plan, path, { onProgress });
} catch (error) {
  outcome = isKvmError(error) ? { code: error.code, message: error.message } : String(error);
}
process.stdout.write(`${JSON.stringify({ outcome, left: readdirSync(dirname(path)) })}\n`);

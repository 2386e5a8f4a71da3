import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { armKernelWorld, elfFullDump, i386KernelWorld, sampleMachine } from '@libkvm/fixtures';
import { describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';
import { temporaryFolder } from './sample.js';

const folder = temporaryFolder();
const write = (name: string, bytes: Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const { machine, kernel, known } = sampleMachine();
const core = write(
  'vmcore.full',
  elfFullDump(machine.ram, { class: 64, byteOrder: 'little', machine: 62 }).file.bytes(),
);
const kernelPath = write('kernel', kernel);
const { kva } = machine.description.mappings[10];
const { pa } = machine.translate(kva)!;

describe('a full dump with its kernel', () => {
  it('has its facts', async () => {
    const ran = await vmcore(['info', core, '--json', '-k', kernelPath]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    expect(rows(ran)[0]).toMatchObject({
      ...{ format: 'elf', architecture: 'amd64', kernbase: '0xffffffff80000000', warnings: [] },
      ...{ kernel: { verdict: 'match' }, osrelease: known.osrelease, panic: known.panic },
    });
    const text = (await vmcore(['info', core, '-k', kernelPath])).stdout;
    expect(text).toMatch(new RegExp(`CR3=${hex(machine.cr3)}`));
    expect(text).toMatch(/^kernphys +0x200000$/m);
  });

  it('has its messages', async () => {
    expect((await vmcore(['dmesg', core, '-k', kernelPath])).stdout).toBe(known.messages);
  });

  it('is resolved, read and walked', async () => {
    const resolved = await vmcore(['resolve', core, '--json', '-k', kernelPath, hex(kva), 'hz']);
    expect(resolved).toMatchObject({ status: 0, stderr: '' });
    expect(rows(resolved)).toMatchObject([
      { kva: hex(kva), pa: hex(pa) },
      { kva: hex(known.symbols.hz), pa: hex(machine.translate(known.symbols.hz)!.pa) },
    ]);
    const read = await vmcore(['read', core, '--json', '-k', kernelPath, 'hz', '4']);
    expect(rows(read)).toMatchObject([
      { bytes: Buffer.from(Uint32Array.of(known.hz).buffer).toString('hex') },
    ]);
    const walked = await vmcore(['pages', core, '--json', '-k', kernelPath]);
    expect(walked.status).toBe(0);
    const listed = rows<{ kva: string | null; pa: string; length: number }>(walked);
    const row = listed.find((one) => one.kva === hex(kva));
    expect(row).toMatchObject({ pa: hex(pa) });
  });
});

describe('a full dump without its kernel', () => {
  it('says what is needed', async () => {
    const ran = await vmcore(['resolve', core, hex(kva)]);
    expect(ran.status).toBe(1);
    expect(ran.stderr).toMatch(/physical memory only.*no kernel was given/);
    expect(ran.stderr).toMatch(/--kernel.*--reg/s);
    expect(rows(await vmcore(['info', core, '--json']))[0].warnings).toEqual([
      expect.stringContaining('KVAs cannot be resolved'),
    ]);
  });

  it('is walked by registers', async () => {
    const ran = await vmcore(['resolve', core, '--json', '--reg', `CR3=${hex(machine.cr3)}`, hex(kva)]);
    expect(rows(ran)).toMatchObject([{ pa: hex(pa) }]);
  });

  it('or with the kernel of another machine is refused', async () => {
    const arm = armKernelWorld({ format: 'v4', littleEndian: false });
    const other = write('kernel.arm', arm.kernel);
    expect(rows(await vmcore(['info', core, '--json', '-k', other]))).toMatchObject([
      { error: { code: 'MISMATCH' } },
    ]);
    const i386 = i386KernelWorld({ release: '13', pae: true });
    const dump = write('vmcore.i386', i386.fullDump().file.bytes());
    const own = write('kernel.i386', i386.kernel);
    expect((await vmcore(['dmesg', dump, '-k', own])).stdout).toBe(i386.messages);
  });
});

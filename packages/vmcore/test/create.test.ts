import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { amd64Minidump, sampleMachine } from '@libkvm/fixtures';
import { sharedFile, unpackedFile } from '@libkvm/fixtures/node';
import { describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';

const folder = mkdtempSync(join(tmpdir(), 'vmcore-create-'));
const { machine, kernel, known } = sampleMachine();
const kernelPath = join(folder, 'kernel');
writeFileSync(kernelPath, kernel);

/** RAM of the sample as a raw image, its ranges one behind the other, and the options that say where they lie. */
const image = join(folder, 'ram');
const where: string[] = [];
{
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const { start, end } of machine.ram.ranges) {
    where.push('--base', `0x${start.toString(16)}:${offset}:${end - start}`);
    parts.push(machine.ram.readBytes(start, end - start));
    offset += end - start;
  }
  writeFileSync(image, Buffer.concat(parts));
}
const walked = [...where, '--arch', 'amd64', '--reg', `cr3=0x${machine.cr3.toString(16)}`];

describe('vmcore on a memory image', () => {
  const kva = known.symbols.version;
  const truth = machine.translate(kva);

  it('walks its page tables', async () => {
    const ran = await vmcore(['resolve', image, ...walked, '--json', `0x${kva.toString(16)}`]);
    expect(ran.status).toBe(0);
    expect(rows(ran)[0]).toMatchObject({
      pa: `0x${truth?.pa.toString(16)}`,
      protection: 'r-x',
      pageSize: 0x200000,
    });
    const read = await vmcore(['read', image, ...walked, '--json', `0x${kva.toString(16)}`, '20']);
    expect(Buffer.from(String(rows(read)[0].bytes), 'hex').toString()).toBe(known.version.slice(0, 20));
  });

  it('says what is missing without registers', async () => {
    const ran = await vmcore(['resolve', image, ...where, '--json', '0x1000']);
    expect(ran.status).toBe(1);
    expect(rows(ran)[0]).toMatchObject({ error: { code: 'UNSUPPORTED' } });
    const create = await vmcore(['create', image, join(folder, 'none'), ...where]);
    expect(create.status).toBe(1);
    expect(create.stderr).toContain('CR3');
    expect(existsSync(join(folder, 'none'))).toBe(false);
  });

  it('refuses what makes no sense as usage', async () => {
    for (const wrong of [
      ['--reg', 'CR3'],
      ['--reg', 'CR3=zebra'],
      ['--base', '1:2:3:4'],
      ['--byte-order', 'middle'],
      ['--kva', '5'],
    ]) {
      const ran = await vmcore(['create', image, join(folder, 'none'), ...wrong]);
      expect([wrong, ran.status]).toEqual([wrong, 2]);
    }
    expect((await vmcore(['create', image])).status).toBe(2);
  });
});

describe('vmcore create', () => {
  it('makes a minidump that answers as the image does', async () => {
    const out = join(folder, 'dump');
    const made = await vmcore(['create', image, out, ...walked, '--kernel', kernelPath, '--exact', '--json']);
    expect(made).toMatchObject({ status: 0, stderr: '' });
    const [report] = rows(made);
    expect(report).toMatchObject({ format: 'portable', architecture: 'amd64', file: out });
    expect(report.size).toBe(readFileSync(out).length);
    expect(rows(await vmcore(['verify', out, '--json']))[0]).toMatchObject({ sound: true, problems: [] });
    const kvas = Object.values(known.symbols).map((value) => `0x${value.toString(16)}`);
    const ours = rows(await vmcore(['resolve', out, '--json', ...kvas]));
    const theirs = rows(await vmcore(['resolve', image, ...walked, '--json', ...kvas]));
    expect(ours.map((row) => ({ ...row, offset: 0 }))).toEqual(theirs.map((row) => ({ ...row, offset: 0 })));
    expect(rows(await vmcore(['info', out, '--json']))[0]).toMatchObject({
      format: 'portable',
      notes: { kernelVersion: known.version, panic: known.panic },
    });
  });

  it('takes pages in and leaves pages out, and keeps to a window', async () => {
    const out = join(folder, 'window');
    const extra = machine.ram.ranges[0].start;
    const { pa } = machine.translate(known.symbols.hz)!;
    const page = pa - (pa % 4096);
    const options = [
      '--kva',
      '0xffffffff80000000-',
      '--add-page',
      `${extra}`,
      '--drop-page',
      `0x${page.toString(16)}`,
    ];
    const made = await vmcore(['create', image, out, ...walked, ...options, '--json']);
    expect(rows(made)[0]).toMatchObject({ added: 1, dropped: { byHand: 1 } });
    const [hz, outside] = rows(
      await vmcore(['resolve', out, '--json', `0x${known.symbols.hz.toString(16)}`, '0xfffffe0000000000']),
    );
    expect(hz).toMatchObject({ pa: `0x${pa.toString(16)}`, error: { code: 'NOT_DUMPED' } });
    expect(outside).toMatchObject({ error: { code: 'NOT_MAPPED' } });
  });

  it('keeps the messages of a core in order, whatever the ring', async () => {
    const core = join(folder, 'vmcore.0');
    writeFileSync(core, amd64Minidump(machine).file.bytes());
    const out = join(folder, 'from-core');
    expect((await vmcore(['create', core, out])).status).toBe(0);
    expect(rows(await vmcore(['dmesg', out, '--json']))[0]).toEqual({ text: known.messages });
  });

  it('puts a message buffer in', async () => {
    const text = join(folder, 'messages');
    writeFileSync(text, 'one\ntwo\n');
    const out = join(folder, 'with-messages');
    await vmcore(['create', image, out, ...walked, '--msgbuf', text]);
    expect((await vmcore(['dmesg', out])).stdout).toBe('one\ntwo\n');
  });

  it('leaves nothing behind when it cannot write, or tables are damaged', async () => {
    const before = readdirSync(folder).length;
    const lost = await vmcore(['create', image, join(folder, 'no', 'such', 'folder'), ...walked]);
    expect(lost.status).toBe(1);
    const wrong = [...where, '--arch', 'amd64', '--reg', 'CR3=0x1000'];
    const damaged = await vmcore(['create', image, join(folder, 'damaged'), ...wrong, '--json']);
    expect(damaged.status).toBe(1);
    expect(rows(damaged)[0]).toMatchObject({ error: { code: 'CORRUPT' } });
    expect(readdirSync(folder).length).toBe(before);
  });

  it('refuses formats that it cannot write', async () => {
    const ran = await vmcore(['create', image, join(folder, 'none'), ...walked, '--format', 'zip', '--json']);
    expect(ran.status).toBe(1);
    expect(rows(ran)[0]).toMatchObject({ error: { code: 'UNSUPPORTED' } });
  });

  const real = unpackedFile('images/x86-64-bare/image.elf.xz');
  if (sharedFile('images') === undefined)
    console.warn('images/ is not there: create is not tried on a real image');
  it.skipIf(real === undefined)('finds the registers in an image of QEMU', async () => {
    const out = join(folder, 'bare');
    expect((await vmcore(['create', real ?? '', out])).status).toBe(0);
    expect((await vmcore(['verify', out])).status).toBe(0);
  });
});

describe('vmcore verify', () => {
  it('lists what does not hold and fails', async () => {
    const out = join(folder, 'flipped');
    await vmcore(['create', image, out, ...walked]);
    const bytes = readFileSync(out);
    bytes[bytes.length - 5000] ^= 1;
    writeFileSync(out, bytes);
    const ran = await vmcore(['verify', out, '--json']);
    expect(ran.status).toBe(1);
    expect(rows(ran)[0]).toMatchObject({ sound: false });
    expect((await vmcore(['verify', out])).stdout).toContain('checksum');
  });
});

import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { dumpDevice } from '@libkvm/fixtures';
import { describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

/** Cores on dump devices, compressed cores, and what savecore writes beside them. */

const { core, folder, dump, known } = sampleFiles();
const bytes = dump.file.bytes();
const write = (name: string, content: Uint8Array | string): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const FACTS = {
  hostname: 'crash\u001b[2J',
  dumpTime: 1700000000,
  panicString: 'page fault',
  versionString: 'FreeBSD 14\n',
};
const gz = write('vmcore.1.gz', gzipSync(bytes, { level: 1 }));
const device = write('device', dumpDevice(bytes, 2 ** 26, FACTS));
const wanted = await vmcore(['dmesg', core]);

describe('vmcore', () => {
  it('reads dump devices and compressed cores as it reads cores', async () => {
    expect(wanted.stdout).toContain(known.messages.slice(0, 20));
    for (const path of [
      gz,
      device,
      write('zipped-device', gzipSync(dumpDevice(bytes, 2 ** 26), { level: 1 })),
    ]) {
      const ran = await vmcore(['dmesg', path]);
      expect([ran.status, ran.stdout]).toEqual([0, wanted.stdout]);
    }
  });

  it('info tells of the dump header', async () => {
    const [info] = rows(await vmcore(['info', device, '--json']));
    expect(info).toMatchObject({
      dumpHeader: { ...FACTS, kind: 'kernel', version: 4, dumpLength: bytes.length, parityHolds: true },
      ...{ infoFile: null, fileSize: 2 ** 26, dataOffset: 2 ** 26 - 512 - bytes.length },
      notes: { panic: 'page fault', time: '2023-11-14T22:13:20.000Z' },
    });
    const { stdout } = await vmcore(['info', device]);
    expect(stdout).toMatch(/^Dump header +version 4, amd64/m);
    expect(stdout).toMatch(/^Host +crash\\x1b/m);
    expect(stdout).toMatch(/^panic +page fault$/m);
    expect(rows(await vmcore(['info', core, '--json']))[0]).toMatchObject({
      dumpHeader: null,
      dataOffset: 0,
    });
  });

  it('info tells what savecore found, unless told not to look', async () => {
    write(
      'info.1',
      `Dump header from device: /dev/da0p2\n  Hostname: web\n  Dump Length: 99999999\n  Dump Status: bad\n`,
    );
    const [info] = rows(await vmcore(['info', gz, '--json']));
    expect(info).toMatchObject({ infoFile: { hostname: 'web', status: 'bad', device: '/dev/da0p2' } });
    expect(info.warnings).toEqual([expect.stringMatching(/cut/), expect.stringMatching(/bad/)]);
    expect((await vmcore(['info', gz])).stdout).toMatch(/^Dump status +bad$/m);
    const [alone] = rows(await vmcore(['info', gz, '--json', '--no-info-file']));
    expect(alone).toMatchObject({ infoFile: null, warnings: [] });
  });

  it('keeps to a limit, and to a folder', async () => {
    const small = await vmcore(['info', gz, '--json', '--temporary-limit', '1M']);
    expect(rows(small)).toMatchObject([{ error: { code: 'UNSUPPORTED', field: 'temporaryBytes' } }]);
    const nowhere = await vmcore(['info', gz, '--json', '--temporary-directory', join(folder, 'none')]);
    expect(rows(nowhere)).toMatchObject([{ error: { code: 'IO' } }]);
    expect((await vmcore(['info', gz, '--temporary-limit', 'much'])).status).toBe(2);
  });

  it('reads through an index', async () => {
    for (const [options, index] of [
      [['--index'], `${gz}.kvmindex`],
      [['--index-file', join(folder, 'my.index')], join(folder, 'my.index')],
    ] as const) {
      const ran = await vmcore(['dmesg', gz, ...options, '--temporary-directory', join(folder, 'none')]);
      expect([ran.status, ran.stdout]).toEqual([0, wanted.stdout]);
      expect(statSync(index).size).toBeGreaterThan(100);
    }
    const refused = await vmcore(['dmesg', gz, '--json', '--index-file', core]);
    expect(rows(refused)).toMatchObject([{ error: { code: 'INVALID_ARGUMENT' } }]);
  });

  it('verifies what is within', async () => {
    for (const path of [gz, device]) {
      const ran = await vmcore(['verify', path, '--json']);
      expect(ran.status).toBe(0);
      expect(rows(ran)).toMatchObject([{ sound: true }]);
    }
    const damaged = bytes.slice();
    damaged[32] = 0xff;
    expect((await vmcore(['verify', write('damaged.gz', gzipSync(damaged, { level: 1 }))])).status).toBe(1);
  });
});

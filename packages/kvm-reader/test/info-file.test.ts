import { amd64 } from '@libkvm/arch-amd64';
import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { runs } from '../../minidump-core/test/runs.js';
import { formatInfo, openKvm, parseInfoFile } from '../src/index.js';
import { smallDump } from './support/small-machine.js';

/** What savecore writes beside a core. */

const SAMPLE = `Dump header from device: /dev/ada0p3
  Architecture: amd64
  Architecture Version: 2
  Dump Length: 19087360
  Blocksize: 512
  Compression: none
  Dumptime: 2023-11-14 22:13:20 +0000
  Hostname: host.example
  Magic: FreeBSD Kernel Dump
  Version String: FreeBSD 14.0-RELEASE
  Panic String: page fault
  Dump Parity: 796191811
  Bounds: 0
  Dump Status: good
`;

describe('info.N', () => {
  it('is read', () => {
    expect(parseInfoFile(SAMPLE)).toMatchObject({
      ...{ device: '/dev/ada0p3', architecture: 'amd64', architectureVersion: 2, dumpLength: 19087360 },
      ...{ blockSize: 512, compression: 'none', dumpTime: 1700000000, timeZone: '+0000', bounds: 0 },
      ...{ hostname: 'host.example', versionString: 'FreeBSD 14.0-RELEASE', panicString: 'page fault' },
      ...{ parity: 796191811, status: 'good' },
    });
  });

  it('is written as savecore writes it', () => {
    const facts = {
      ...{ device: '/dev/ada0p3', architecture: 'amd64', dumpLength: 0x1234000, dumpTime: 1700000000 },
      ...{ hostname: 'host.example', versionString: 'FreeBSD 14.0-RELEASE\n', panicString: 'page fault' },
    };
    expect(formatInfo(facts)).toBe(SAMPLE);
  });

  it('of an older release: time without a zone, a length in words, no compression', () => {
    const old = SAMPLE.replace('2023-11-14 22:13:20 +0000', 'Tue Nov 14 22:13:20 2023')
      .replace('19087360', '19087360B (18 MB)')
      .replace(/ {2}Compression.*\n/, '');
    const info = parseInfoFile(old);
    expect(info).toMatchObject({ dumpTime: 1700000000, dumpLength: 19087360 });
    expect(info.timeZone).toBeUndefined();
    expect(info.compression).toBeUndefined();
    expect(parseInfoFile('  Dumptime: Sat Feb  7 01:02:03 2015').dumpTime).toBe(
      Date.UTC(2015, 1, 7, 1, 2, 3) / 1000,
    );
  });

  it('takes the zone of the time into account', () => {
    expect(parseInfoFile(SAMPLE.replace('22:13:20 +0000', '23:43:20 +0130')).dumpTime).toBe(1700000000);
  });

  it('has a version of many lines, and labels of a time to come', () => {
    const version = 'FreeBSD 13.2-RELEASE #0: Thu\n    root@builder: /usr/obj\n    Odd Label: of the version';
    const text = SAMPLE.replace('FreeBSD 14.0-RELEASE', version).replace(
      '  Bounds',
      '  Dump Mood: fine\n  Bounds',
    );
    const info = parseInfoFile(text);
    expect(info.versionString).toBe(version);
    expect(info.panicString).toBe('page fault');
    expect(info.fields['Dump Mood']).toBe('fine');
    expect(info.bounds).toBe(0);
  });

  it('runs into the panic where the version filled its field', () => {
    const info = parseInfoFile(SAMPLE.replace('14.0-RELEASE\n', '14.0-RELEASE #0 releng/14'));
    expect(info).toMatchObject({
      versionString: 'FreeBSD 14.0-RELEASE #0 releng/14',
      panicString: 'page fault',
    });
  });

  it('may be anything', () => {
    expect(parseInfoFile('').fields).toEqual({});
    const info = parseInfoFile('  Dump Length: many\n  Dumptime: never\n  __proto__: x\n  constructor: y\n');
    expect(info.dumpLength).toBeUndefined();
    expect(info.dumpTime).toBeUndefined();
  });

  const word = fc.stringMatching(/^[!-~]([ -~]{0,40}[!-~])?$/);
  test.prop([word, word, fc.integer({ min: 0, max: 4e9 }), fc.integer({ min: 1, max: 2 ** 50 })], runs(100))(
    'says the same when it is read again',
    (hostname, panicString, dumpTime, dumpLength) => {
      const facts = {
        hostname,
        panicString,
        dumpTime,
        dumpLength,
        architecture: 'i386',
        compression: 'zstd',
      } as const;
      expect(parseInfoFile(formatInfo(facts))).toMatchObject(facts);
    },
  );

  test.prop([fc.array(fc.oneof(word, fc.constantFrom(...SAMPLE.split('\n')), fc.string()))], runs(200))(
    'never fails',
    (lines) => {
      parseInfoFile(lines.join('\n'));
    },
  );
});

describe('a core with its info', () => {
  const core = smallDump(3).file.bytes();
  const info = (length: number): string => SAMPLE.replace('19087360', String(length));

  it('has its facts', () => {
    const kvm = openKvm(core, { architectures: [amd64], info: parseInfoFile(info(core.length)) });
    expect(kvm.core.warnings).toEqual([]);
    expect(kvm.core.info?.hostname).toBe('host.example');
    expect(kvm.core.notes).toEqual({
      ...{ panic: 'page fault', kernelVersion: 'FreeBSD 14.0-RELEASE', time: '2023-11-14T22:13:20.000Z' },
    });
  });

  it('that is longer than the file, or bad, has warnings', () => {
    const open = (text: string): readonly string[] =>
      openKvm(core, { architectures: [amd64], info: parseInfoFile(text) }).core.warnings;
    expect(open(info(core.length + 4096))).toEqual([expect.stringMatching(/cut.*info/)]);
    expect(open(info(core.length - 4096))).toEqual([]);
    expect(open(info(core.length).replace('good', 'bad'))).toEqual([expect.stringMatching(/bad/)]);
  });
});

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { amd64Minidump, randomMachine } from '@libkvm/fixtures';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

const { core, kernelPath, folder, known, dump } = sampleFiles();

describe('vmcore dmesg', () => {
  it('prints the messages in order, with and without a kernel', async () => {
    for (const argv of [[core], [core, '-k', kernelPath]]) {
      expect(rows(await vmcore(['dmesg', ...argv, '--json']))).toEqual([{ text: known.messages }]);
      const ran = await vmcore(['dmesg', ...argv]);
      expect(ran).toMatchObject({ status: 0, stderr: '' });
      expect(ran.stdout.trimEnd()).toBe(known.messages.trimEnd());
      expect(ran.stdout.endsWith('\n')).toBe(true);
    }
  });

  it('spells out on a terminal what it would obey, and nowhere else', async () => {
    const bytes = dump.file.bytes();
    const { offset } = dump.expected.sections.msgbuf;
    bytes.set(new TextEncoder().encode('\u001b]0;evil\u0007\u009b2J\u202eabc\r\n\ttab'), offset + 300);
    const path = join(folder, 'evil');
    writeFileSync(path, bytes);
    const shown = await vmcore(['dmesg', path], { terminal: true });
    expect(shown.stdout).toContain('\\x1b]0;evil\\x07\\x9b2J\\u202eabc\\x0d\n\ttab');
    const piped = await vmcore(['dmesg', path]);
    expect(piped.stdout).toContain('\u001b]0;evil\u0007\u009b2J\u202eabc\r\n\ttab');
    const json = await vmcore(['dmesg', path, '--json']);
    expect(json.stdout).not.toMatch(/[\u007f-\u009f\u202e]/);
    expect((rows(json)[0].text as string).includes('\u001b]0;evil\u0007\u009b2J\u202eabc\r\n\ttab')).toBe(
      true,
    );
  });

  it('says when there are none', async () => {
    const path = join(folder, 'silent');
    const { machine } = randomMachine(7);
    const { file } = amd64Minidump(machine, { mutate: (bytes, { section }) => void [bytes, section] });
    const bytes = file.bytes();
    const { offset, length } = file.section('msgbuf');
    bytes.fill(0, offset, offset + length);
    writeFileSync(path, bytes);
    const ran = await vmcore(['dmesg', path]);
    if (length > 0)
      expect(ran).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('empty') });
    else expect(ran.status).toBe(1);
  });
});

describe('vmcore symbols', () => {
  it('lists the symbols of a kernel', async () => {
    const ran = await vmcore(['symbols', kernelPath, '--json']);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const listed = rows<{ name: string; value: string; size: number; type: string }>(ran);
    expect(Object.fromEntries(listed.map(({ name, value }) => [name, BigInt(value)]))).toEqual(known.symbols);
    expect(listed.find(({ name }) => name === 'panicstr')).toEqual({
      ...{ name: 'panicstr', value: '0xffffffff80600d08', size: 8, type: 'object' },
    });
    const text = await vmcore(['symbols', kernelPath]);
    expect(text.stdout).toMatch(/^0xffffffff80600d08 +8 {2}object {3}panicstr$/m);
  });

  it('looks some up, and fails for those that are not there', async () => {
    const ran = await vmcore(['symbols', kernelPath, '--json', 'hz', 'nosuch', '__proto__', 'panic']);
    expect(ran.status).toBe(1);
    expect(rows(ran)).toMatchObject([
      ...[
        { name: 'hz', size: 4 },
        { name: 'nosuch', error: { code: 'NO_SYMBOL' } },
      ],
      ...[
        { name: '__proto__', error: { code: 'NO_SYMBOL' } },
        { name: 'panic', type: 'func' },
      ],
    ]);
    const text = await vmcore(['symbols', kernelPath, 'hz', 'nosuch']);
    expect(text.status).toBe(1);
    expect(text.stdout).toMatch(/ hz\n$/);
    expect(text.stderr).toMatch(/^error: .*nosuch \(NO_SYMBOL\)\nhint: /);
    expect((await vmcore(['symbols', kernelPath, 'hz'])).status).toBe(0);
  });

  it('says what a file is that is no kernel', async () => {
    const ran = await vmcore(['symbols', core, '--json']);
    expect(ran.status).toBe(1);
    expect(rows(ran)).toMatchObject([{ error: { code: 'INVALID_ARGUMENT' } }]);
  });
});

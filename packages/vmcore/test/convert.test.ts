import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

const { folder, core, kernelPath, known, machine } = sampleFiles();
const kvas = Object.values(known.symbols).map((value) => `0x${value.toString(16)}`);

interface Answer {
  readonly kva: string;
  readonly pa?: string;
  readonly protection?: string;
  readonly pageSize?: number;
  readonly error?: { readonly code: string };
}

/** Everything that a core says of the kernel's symbols, but for where its file has them. */
async function answers(path: string): Promise<unknown[]> {
  const resolved = rows<Answer>(await vmcore(['resolve', path, '--json', ...kvas]));
  const read = await Promise.all(kvas.map((kva) => vmcore(['read', path, kva, '16', '--json'])));
  return [
    ...resolved.map(({ kva, pa, protection, pageSize, error }) => [
      kva,
      pa,
      protection,
      pageSize,
      error?.code,
    ]),
    ...read.map((ran) => ran.stdout),
  ];
}

async function convert(from: string, name: string, ...options: string[]): Promise<string> {
  const out = join(folder, name);
  const ran = await vmcore(['convert', from, out, ...options]);
  expect([name, ran.status, ran.stderr]).toEqual([name, 0, '']);
  return out;
}

describe('vmcore convert', () => {
  let wanted: unknown[];
  beforeAll(async () => {
    wanted = await answers(core);
    expect(wanted.length).toBe(2 * kvas.length);
  });

  it('writes every format from every other, and all say the same', async () => {
    const portable = await convert(core, 'portable', '--kernel', kernelPath);
    const freebsd = ['--format', 'freebsd'];
    const files = [
      portable,
      await convert(portable, 'v3', ...freebsd),
      await convert(portable, 'v2', ...freebsd, '--dump-version', '2'),
      await convert(core, 'full', '--format', 'elf'),
    ];
    files.push(await convert(files[2], 'v2-v3', ...freebsd));
    files.push(await convert(files[3], 'full-v3', ...freebsd, '--kva', '0xfffffe0000000000-'));
    for (const file of files) expect([file, await answers(file)]).toEqual([file, wanted]);
    const sound = await vmcore(['verify', files[1], '--json']);
    expect(rows(sound)[0]).toMatchObject({ sound: true, problems: [] });
  });

  it('keeps the pages that only the direct map reaches', async () => {
    const extra = machine.extraRanges[0]?.start ?? machine.ram.ranges[0].start;
    const pages = async (path: string): Promise<unknown> =>
      (rows(await vmcore(['info', path, '--json']))[0] as { pages: unknown }).pages;
    const portable = await convert(core, 'all-pages');
    expect(await pages(portable)).toEqual(await pages(core));
    const kva = `0x${machine.directKva(extra).toString(16)}`;
    expect((await vmcore(['read', portable, kva, '64'])).stdout).toBe(
      (await vmcore(['read', core, kva, '64'])).stdout,
    );
  });

  it('writes a core of a debugger, which has KVAs and no physical memory', async () => {
    const out = await convert(core, 'kva', '--format', 'elf-kva');
    expect(readFileSync(out).subarray(0, 4).toString('latin1')).toBe('\x7fELF');
    const again = await vmcore(['info', out, '--json']);
    expect(again.status).toBe(1);
    expect(rows(again)[0]).toMatchObject({ error: { code: 'UNSUPPORTED' } });
  });

  it('wraps a dump as on a dump device, with the text of savecore(8)', async () => {
    const info = join(folder, 'info.7');
    const options = ['--format', 'freebsd', '--dump-header', '--info', info, '--kernel', kernelPath];
    const device = await convert(core, 'device', ...options);
    const bytes = readFileSync(device);
    expect(bytes.subarray(0, 19).toString('latin1')).toBe('FreeBSD Kernel Dump');
    expect(bytes.subarray(0, 512)).toEqual(bytes.subarray(-512));
    expect(await answers(device)).toEqual(wanted);
    const text = readFileSync(info, 'utf8');
    expect(text).toContain(`  Dump Length: ${bytes.length - 1024}\n`);
    expect(text).toContain(`  Panic String: ${known.panic}\n`);
    expect(text).toContain('  Architecture: amd64\n');
  });

  it('says what a format cannot hold, and writes nothing', async () => {
    const out = join(folder, 'none');
    const refused = async (...options: string[]): Promise<unknown> =>
      rows(await vmcore(['convert', core, out, '--json', ...options]))[0];
    expect(await refused('--format', 'zip')).toMatchObject({
      error: { code: 'UNSUPPORTED', field: 'format' },
    });
    expect(await refused('--format', 'freebsd', '--dump-version', '4')).toMatchObject({
      error: { code: 'UNSUPPORTED', field: 'version' },
    });
    expect(await refused('--format', 'freebsd', '--kernbase', '0xffffffffc0000000')).toMatchObject({
      error: { code: 'INVALID_ARGUMENT', field: 'kernbase' },
    });
    expect(existsSync(out)).toBe(false);
  });

  it('may write over the core itself, which stays as it is until the new one is whole', async () => {
    const own = join(folder, 'own');
    copyFileSync(core, own);
    for (const wrong of [
      ['--format', 'zip'],
      ['--format', 'freebsd', '--kernbase', '0xffffffffc0000000'],
      ['--format', 'freebsd', '--to-pte-format', 'pae'],
    ]) {
      expect([wrong, (await vmcore(['convert', own, own, ...wrong])).status]).toEqual([wrong, 1]);
      expect(readFileSync(own).equals(readFileSync(core))).toBe(true);
    }
    await convert(own, 'own', '--format', 'freebsd', '--dump-version', '2');
    expect(await answers(own)).toEqual(wanted);
  });

  it('takes its numbers as numbers', async () => {
    for (const wrong of [
      ['--dump-version', 'new'],
      ['--dmap', '0x1000'],
      ['--dmap', '0x1000-0x3000:0:0'],
      ['--kernbase', 'kernbase'],
      ['--superpages', 'none'],
      ['--pages', 'some'],
    ]) {
      const ran = await vmcore(['convert', core, join(folder, 'none'), ...wrong]);
      expect([wrong, ran.status]).toEqual([wrong, 2]);
    }
  });
});

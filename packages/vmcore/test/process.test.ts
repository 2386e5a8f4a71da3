import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { version } from '../package.json';
import { sampleFiles } from './sample.js';

/** The built command as a process of its own. */

const path = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
const BIN = path('bin/vmcore.js');
const built = existsSync(path('dist/main.js'));
if (!built) console.log('skipped: the command is not built (npm run build)');

const { core } = built ? sampleFiles() : { core: '' };
const run = (...argv: string[]): ReturnType<typeof spawnSync> =>
  spawnSync(process.execPath, [BIN, ...argv], { maxBuffer: 2 ** 24 });

describe.skipIf(!built)('vmcore as a process', () => {
  it('ends with its status', () => {
    expect(run('--version')).toMatchObject({ status: 0, stdout: Buffer.from(`${version}\n`) });
    expect(run('resolve', core, '0x10').status).toBe(1);
    expect(run('resolve').status).toBe(2);
  });

  it('writes bytes as they are', () => {
    const { status, stdout } = run('read', core, '0xffffffff80200000', '4M', '--raw');
    expect([status, stdout.length]).toEqual([0, 4 * 2 ** 20]);
  });

  it('ends quietly when nobody reads on, and does not wait for more input', async () => {
    const child = spawn(process.execPath, [BIN, 'read', core, '--json', '--batch', '-']);
    const ended = new Promise<number | null>((resolve) => child.once('exit', (status) => resolve(status)));
    let complaints = '';
    child.stderr.on('data', (data: Buffer) => (complaints += data.toString()));
    child.stdin.on('error', () => undefined);
    child.stdout.once('data', () => {
      child.stdout.destroy();
      const more = setInterval(() => child.stdin.write('0xffffffff80200000 65536\n'), 5);
      void ended.then(() => clearInterval(more));
    });
    child.stdin.write('0xffffffff80200000 16\n');
    expect(await ended).toBe(0);
    expect(complaints).toBe('');
  });
});

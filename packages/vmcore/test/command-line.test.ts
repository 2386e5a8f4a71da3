import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { version } from '../package.json';
import { Collector, rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

const { core } = sampleFiles();

describe('vmcore', () => {
  it('prints its version and its help', async () => {
    expect(await vmcore(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
    const help = await vmcore(['--help']);
    expect(help).toMatchObject({ status: 0, stderr: '' });
    for (const name of ['info', 'dmesg', 'resolve', 'read', 'pages', 'symbols']) {
      expect(help.stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
      const one = await vmcore(['help', name]);
      expect(one).toMatchObject({ status: 0, stderr: '' });
      expect(one.stdout).toContain('With --json:');
      expect(await vmcore([name, '--help'])).toEqual(one);
      for (const line of one.stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    }
  });

  it('ends with status 2 for what makes no sense', async () => {
    for (const argv of [
      [],
      ['nosuch'],
      ['help', 'nosuch'],
      ['info'],
      ['info', core, core],
      ['info', core, '--nosuch'],
      ['info', core, '--cache', 'much'],
      ['info', core, '--cache', '3G'],
      ['info', core, '--kernel'],
      ['resolve', core],
      ['resolve', core, '0xg'],
      ['resolve', core, '0x10000000000000000'],
      ['resolve', core, 'panicstr'],
    ]) {
      const ran = await vmcore(argv);
      expect([argv, ran.status, ran.stdout]).toEqual([argv, 2, '']);
      expect(ran.stderr).not.toBe('');
    }
  });

  it('colours only what goes to a terminal, and nothing with NO_COLOR', async () => {
    const argv = ['info', core];
    expect((await vmcore(argv, { terminal: true })).stdout).toContain('\u001b[');
    expect((await vmcore(argv, { terminal: true, env: { NO_COLOR: '1' } })).stdout).not.toContain('\u001b');
    expect((await vmcore(argv, { terminal: true, env: { TERM: 'dumb' } })).stdout).not.toContain('\u001b');
    expect((await vmcore(argv, { env: { FORCE_COLOR: '1' } })).stdout).not.toContain('\u001b');
  });

  it('ends quietly when nobody reads on', async () => {
    const closed = new Collector();
    let writes = 0;
    closed._write = (_chunk, _encoding, done) => {
      writes++;
      done(writes > 2 ? Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }) : null);
    };
    const ran = await vmcore(['pages', core, '--json'], { stdout: closed });
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    expect(writes).toBe(3);
  });

  it('fails when the output does', async () => {
    const full = new Collector();
    full._write = (_chunk, _encoding, done) => {
      done(Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', syscall: 'write' }));
    };
    const ran = await vmcore(['info', core], { stdout: full });
    expect(ran.status).toBe(1);
    expect(ran.stderr).toContain('no space left');
  });

  it('waits for a reader that is slow, in pieces of some size', async () => {
    const slow = new Collector();
    let waiting = 0;
    let most = 0;
    const take = slow._write.bind(slow);
    slow._write = (chunk: Buffer, encoding, done) => {
      waiting += chunk.length;
      most = Math.max(most, waiting + slow.writableLength);
      take(chunk, encoding, (error) => {
        waiting -= chunk.length;
        done(error);
      });
    };
    await vmcore(['pages', core, '--json'], { stdout: slow });
    expect(slow.chunks.length).toBeLessThan(20);
    expect(most).toBeLessThan(300_000);
  });

  it('answers a program at the other end of a pipe before it asks on', async () => {
    const stdin = new Readable({ read: () => undefined });
    const stdout = new Collector();
    const done = vmcore(['resolve', core, '--json', '--batch', '-'], { stdin, stdout });
    const answers = async (count: number): Promise<void> => {
      while (stdout.bytes.toString().split('\n').length <= count)
        await new Promise((tick) => setTimeout(tick, 2));
    };
    for (let i = 1; i <= 3; i++) {
      stdin.push(`0xffffffff8020000${i}\n0xffff`);
      await answers(2 * i - 1);
      stdin.push('ffff80300000 # again\n# a remark');
      await answers(2 * i);
      stdin.push('\n');
    }
    stdin.push(null);
    expect((await done).status).toBe(0);
  });

  it('gives an answer to a line without end, and to a batch that cannot be read', async () => {
    const stdin = Readable.from(Array.from({ length: 100 }, () => Buffer.alloc(65536, 'x')));
    const ran = await vmcore(['resolve', core, '--json', '-b', '-'], { stdin });
    expect(ran.status).toBe(0);
    expect(ran.stdout.length).toBeLessThan(1000);
    expect(rows(ran)).toMatchObject([{ error: { code: 'INVALID_ARGUMENT' } }]);
    const none = await vmcore(['resolve', core, '--json', '-b', '/nonexistent']);
    expect(none.status).toBe(1);
    expect(rows(none)).toMatchObject([{ error: { code: 'IO', field: 'batch' } }]);
  });
});

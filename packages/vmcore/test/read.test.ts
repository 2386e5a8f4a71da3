import { describe, expect, it } from 'vitest';
import { rows, vmcore } from './run.js';
import { sampleFiles } from './sample.js';

interface ReadRow {
  readonly kva: string;
  readonly length: number | null;
  readonly bytes?: string;
  readonly partial?: string;
  readonly error?: { readonly code: string; readonly address?: string; readonly bytesDone?: number };
}

const { core, kernelPath, machine, known } = sampleFiles();
const hex = (value: bigint): string => `0x${value.toString(16)}`;
const bytesAt = (kva: bigint, length: number): Buffer => Buffer.from(machine.read(kva, length)!);

const TEXT = 0xffffffff80200000n;
const DATA = 0xffffffff80600000n;
/** The end of the kernel's data; nothing is mapped behind it. */
const END = 0xffffffff80800000n;

describe('vmcore read', () => {
  it('reads what the machine has at every heap mapping, in a batch', async () => {
    const heap = machine.description.mappings.filter(
      ({ pageSize, pa }) => pageSize === 0x1000 && pa < 0xe0000000,
    );
    const asked = heap.map(({ kva, pages }, i) => ({
      kva: kva + BigInt((i * 37) % 4096),
      length: pages * 4096 - 4095,
    }));
    const stdin = asked.map(({ kva, length }) => `${hex(kva)} ${length}\n`).join('');
    const ran = await vmcore(['read', core, '--json', '--batch', '-'], { stdin });
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    let good = 0;
    rows<ReadRow>(ran).forEach((row, i) => {
      const { kva, length } = asked[i];
      const expected = bytesAt(kva, length).toString('hex');
      expect([row.kva, row.length]).toEqual([hex(kva), length]);
      if (row.bytes === undefined) expect(expected.startsWith(row.partial!)).toBe(true);
      else expect(row.bytes === expected).toBe(true);
      if (row.bytes !== undefined) good++;
    });
    expect(good).toBeGreaterThan(asked.length - 5);
  });

  it('prints lines of 16 bytes with their characters', async () => {
    const ran = await vmcore(['read', core, '-k', kernelPath, 'ostype', '8']);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    expect(ran.stdout).toBe(
      `${known.symbols.ostype.toString(16)}  46 72 65 65 42 53 44 00${' '.repeat(25)}  |FreeBSD.|\n`,
    );
    const two = await vmcore(['read', core, hex(TEXT + 5n), '20']);
    const [first, second] = two.stdout.split('\n');
    expect(first).toMatch(/^ffffffff80200005 {2}([\da-f]{2} ){8} ([\da-f]{2} ){8} \|.{16}\|$/);
    expect(second).toMatch(/^ffffffff80200015 {2}([\da-f]{2} ){4}/);
    expect(second.indexOf('|')).toBe(first.indexOf('|'));
    expect(first.replace(/^\w+|\|.*|\s/g, '') + second.replace(/^\w+|\|.*|\s/g, '')).toBe(
      bytesAt(TEXT + 5n, 20).toString('hex'),
    );
  });

  it('prints the bytes before the fault, then the error', async () => {
    const ran = await vmcore(['read', core, hex(END - 20n), '64']);
    expect(ran.status).toBe(1);
    expect(ran.stdout.split('\n').length).toBe(3);
    expect(ran.stderr).toMatch(/^error: .*0xffffffff80800000 \(NOT_MAPPED\)\n/);
    const raw = await vmcore(['read', core, hex(END - 20n), '64', '--raw']);
    expect(raw.status).toBe(1);
    expect(raw.bytes.equals(bytesAt(END - 20n, 20))).toBe(true);
    const json = await vmcore(['read', core, hex(END - 20n), '64', '--json']);
    expect(json).toMatchObject({ status: 1, stderr: '' });
    expect(rows(json)).toMatchObject([
      {
        kva: hex(END - 20n),
        length: 64,
        error: { code: 'NOT_MAPPED', address: hex(END), bytesDone: 20, length: 64 },
        partial: bytesAt(END - 20n, 20).toString('hex'),
      },
    ]);
  });

  it('reads more than it holds at once', async () => {
    const length = Number(END - TEXT);
    const whole = bytesAt(TEXT, length);
    const raw = await vmcore(['read', core, hex(TEXT), '6M', '--raw']);
    expect(raw.status).toBe(0);
    expect(raw.bytes.equals(whole)).toBe(true);
    const [row] = rows<ReadRow>(await vmcore(['read', core, hex(TEXT), String(length), '--json']));
    expect(row.bytes === whole.toString('hex')).toBe(true);
    const over = await vmcore(['read', core, hex(TEXT + 3n), '1T', '--json']);
    const [faulty] = rows<ReadRow>(over);
    expect(over.status).toBe(1);
    expect(faulty).toMatchObject({ length: 2 ** 40, error: { code: 'NOT_MAPPED', address: hex(END) } });
    expect(faulty.error!.bytesDone).toBe(length - 3);
    expect(faulty.partial === whole.subarray(3).toString('hex')).toBe(true);
    const dump = await vmcore(['read', core, hex(TEXT), String(length)]);
    expect(dump.stdout.split('\n').length).toBe(length / 16 + 1);
  });

  it('reads nothing, and across the end of the address space', async () => {
    expect(rows(await vmcore(['read', core, '0x10', '0', '--json']))).toEqual([
      { kva: '0x10', length: 0, bytes: '' },
    ]);
    expect((await vmcore(['read', core, '0x10', '0'])).stdout).toBe('');
    const ran = await vmcore(['read', core, '0xffffffffffffffff', '2', '--json']);
    expect(ran.status).toBe(1);
    expect(rows(ran)).toMatchObject([{ error: { code: 'NOT_MAPPED' }, partial: '' }]);
  });

  it('answers every line of a batch', async () => {
    const lines = [
      `${hex(DATA)} 16`,
      `${hex(END - 2n)}\t0x4`,
      'zz 4',
      `${hex(DATA)}`,
      `${hex(DATA)} 1 1`,
      `${hex(DATA)} -1`,
    ];
    const ran = await vmcore(['read', core, '--json', '-b', '-'], { stdin: lines.join('\n') });
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const answers = rows<ReadRow>(ran);
    expect(answers.map(({ error }) => error?.code)).toEqual([
      ...[
        undefined,
        'NOT_MAPPED',
        'INVALID_ARGUMENT',
        'INVALID_ARGUMENT',
        'INVALID_ARGUMENT',
        'INVALID_ARGUMENT',
      ],
    ]);
    expect(answers.map(({ length }) => length)).toEqual([16, 4, 4, null, 1, null]);
    const text = await vmcore(['read', core, '-b', '-'], { stdin: lines.join('\n') });
    expect(text.status).toBe(0);
    expect(text.stdout).toContain(`${hex(DATA)} 16\nffffffff80600000  `);
    expect(text.stdout).toContain('NOT_MAPPED not mapped: 0xffffffff80800000\n');
  });

  it('tells apart what does not go together', async () => {
    const address = hex(DATA);
    for (const argv of [
      [address],
      [],
      [address, 'long'],
      [address, '4', '--json', '--raw'],
      [address, '4', '--batch', '-'],
      ['--batch', '-', '--raw'],
      ['12x', '4'],
      ['panicstr', '4'],
    ]) {
      const ran = await vmcore(['read', core, ...argv]);
      expect([argv, ran.status, ran.stdout]).toEqual([argv, 2, '']);
      expect(ran.stderr).toMatch(/^error: /);
    }
    const terminal = await vmcore(['read', core, address, '4', '--raw'], { terminal: true });
    expect([terminal.status, terminal.stdout]).toEqual([2, '']);
  });
});

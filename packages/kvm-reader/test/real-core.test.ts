import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { amd64 } from '@libkvm/arch-amd64';
import { sharedFile, unpackedFile } from '../../fixtures/src/shared-files.js';
import { FileSource } from '../src/node.js';
import { caughtLater, FACES, listOf, type Face } from './support/faces.js';
import { LONG } from './support/long.js';

/** LLVM's FreeBSD core against the answers of an existing C reader: `cores/` of the shared folder. */

interface Header {
  readonly fileSize: number;
  readonly header: Readonly<Record<string, string | number>>;
  readonly layout: Readonly<Record<string, number>>;
  readonly dumpAvail: readonly (readonly [string, string])[];
  readonly dumpAvailPages: number;
  readonly bitmapPopcount: number;
  readonly pagesBeyondEof: number;
}

interface ReadRow {
  readonly kva: string;
  readonly len: number;
  readonly ret: number;
  readonly bytes?: string | null;
  readonly sha256?: string;
  readonly fileOffset: number | null;
  readonly suspect?: string;
  readonly correct?: {
    readonly ret: number;
    readonly bytes: string | null;
    readonly fileOffset: number | null;
  };
}

interface Thread {
  readonly tid: number;
  readonly td: string;
  readonly pid: number;
  readonly name: string;
  readonly oncpu: number;
  readonly pcb: string;
  readonly regs: Readonly<Record<string, string>>;
  readonly fpBacktrace: readonly string[];
}

interface Threads {
  readonly oracle: {
    readonly hz: number;
    readonly dumptid: number;
    readonly pcbSize: number;
    readonly offsets: Readonly<Record<string, number>>;
    readonly procs: readonly (readonly [string, number, string])[];
    readonly threads: readonly Thread[];
  };
}

const CORE = 'cores/amd64-minidump';
const core = unpackedFile('cores/vmcore-amd64-minidump.bz2');
const kernel = unpackedFile('cores/kernel-amd64.xz');
const there = core !== undefined && kernel !== undefined;
if (!there) console.log('skipped: no real core in ../shared/cores (or VMCORE_FIXTURES), or no bzip2 and xz');

const text = (name: string): string => readFileSync(sharedFile(`${CORE}.${name}`)!, 'utf8');
const json = <T>(name: string): T => JSON.parse(text(name)) as T;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

describe.skipIf(!there).each(FACES)("LLVM's FreeBSD/amd64 core, $name", (face) => {
  let kvm: Face;
  const files: FileSource[] = [];
  beforeAll(async () => {
    files.push(new FileSource(core!));
    kvm = await face.open(files[0], { architectures: [amd64], kernel: readFileSync(kernel!) });
  });
  afterAll(() => {
    kvm?.close();
    files[0]?.close();
  });

  it('has the header, sections and page counts', async () => {
    const facts = json<Header>('header.json');
    const { header, layout } = facts;
    expect(kvm.core.cache.size).toBe(facts.fileSize);
    expect(kvm.core).toMatchObject({
      ...{ format: 'freebsd', architecture: 'amd64', bits: 64, byteOrder: 'little', pageSize: 4096 },
      version: header.version,
      kernbase: BigInt(header.kernbase),
      directMap: { base: BigInt(header.dmapbase), end: BigInt(header.dmapend), phys: 0 },
    });
    const pages = { name: 'pages', offset: layout.sparseOffset, length: facts.bitmapPopcount * 4096 };
    expect(kvm.core.sections).toEqual([
      { name: 'header', offset: 0, length: 4096 },
      { name: 'msgbuf', offset: layout.msgbufOffset, length: header.msgbufsize },
      { name: 'dumpAvail', offset: layout.dumpAvailOffset, length: header.dumpavailsize },
      { name: 'bitmap', offset: layout.bitmapOffset, length: header.bitmapsize },
      { name: 'table', offset: layout.pmapOffset, length: header.pmapsize },
      pages,
    ]);
    const ranges = facts.dumpAvail.map(([start, end]) => ({ start: Number(start), end: Number(end) }));
    expect(kvm.core.memory.ranges.ranges).toEqual(ranges);
    expect(kvm.core.memory.ranges.pages).toBe(facts.dumpAvailPages);
    const { dumped, missing, partial } = kvm.core.memory.pages;
    expect({ dumped, missing, partial }).toEqual({
      ...{ dumped: facts.bitmapPopcount, missing: facts.pagesBeyondEof, partial: 1 },
    });
    expect(kvm.core.warnings.join()).toContain('cut short');
  });

  it('gives the bytes of every row of the read list', async () => {
    const rows = text('reads.jsonl').trimEnd().split('\n');
    const wrong: string[] = [];
    // Over HTTP one in five: each read may cost a request.
    const step = face.name.includes('HTTP') && !LONG ? 5 : 1;
    for (const [i, line] of rows.entries()) {
      if (i % step > 0) continue;
      const row = JSON.parse(line) as ReadRow;
      const problem = await checkRow(kvm, { ...row, ...row.correct });
      if (problem) wrong.push(`${row.kva}+${row.len}: ${problem}`);
    }
    expect(rows.length).toBeGreaterThan(14_000);
    expect(wrong).toEqual([]);
  });

  it('has kern.hz', async () => {
    const { oracle } = json<Threads>('threads.json');
    expect(await kvm.readU32(await kvm.symbol('hz'))).toBe(oracle.hz);
  });

  it('has the symbols', async () => {
    const symbols = json<Record<string, { value: string; size: number }>>('symbols.json');
    for (const [name, { value, size }] of Object.entries(symbols)) {
      expect(hex(await kvm.symbol(name)), name).toBe(value);
      expect(await kvm.symbols.lookup(name)).toMatchObject({ name, value: BigInt(value), size });
    }
    await caughtLater(() => kvm.symbol('no_such_symbol'), 'NO_SYMBOL');
  });

  it('walks the pages that the reference walks, and the others once each', async () => {
    const rows = await listOf(kvm.pages());
    const offsets = pageOffsets(core!);
    const found = rows
      .filter(({ kva }) => kva !== undefined)
      .flatMap((row) => {
        const { kva = 0n, pa, dmap = 0n, protection, offset } = row;
        return Array.from({ length: row.length / 4096 }, (_, i) => ({
          ...{ kva: kva + BigInt(i * 4096), pa: pa + i * 4096, dmap: dmap + BigInt(i * 4096), protection },
          offset: offset === undefined ? undefined : offset + i * 4096,
        }));
      });
    const walked = gunzipSync(readFileSync(sharedFile(`${CORE}.walk.txt.gz`)!)).toString('utf8');
    const wanted = walked.split('\n').flatMap((line) => {
      const [kva, pa, dmap, protection, offset, length] = line.split(' ');
      if (!kva.startsWith('0x') || kva === '0x0') return []; // a comment; the oracle's second pass repeats pages
      const inFile = Number(offset) >= 0 && Number(offset) < kvm.core.cache.size;
      expect(offsets.get(Number(pa))).toBe(inFile ? Number(offset) : undefined);
      return Array.from({ length: Number(length) / 4096 }, (_, i) => ({
        ...{ kva: BigInt(kva) + BigInt(i * 4096), pa: Number(pa) + i * 4096 },
        ...{ dmap: BigInt(dmap) + BigInt(i * 4096), protection, offset: offsets.get(Number(pa) + i * 4096) },
      }));
    });
    expect(wanted.length).toBeGreaterThan(4000);
    expect(found).toEqual(wanted);

    // Every dumped page is in some row with a KVA, or in exactly one without.
    const dumped = new Set(bitmapPages(core!));
    const mapped = new Set(found.map(({ pa }) => pa).filter((pa) => dumped.has(pa)));
    const others = rows.filter(({ kva }) => kva === undefined);
    expect(others.every(({ pa, offset }) => !mapped.has(pa) && offset === offsets.get(pa))).toBe(true);
    expect(
      others.every(({ pa, length, dmap }) => length === 4096 && dmap === 0xfffff80000000000n + BigInt(pa)),
    ).toBe(true);
    expect([...mapped, ...others.map(({ pa }) => pa)].sort((a, b) => a - b)).toEqual([...dumped]);
  });

  it('says TRUNCATED for the pages behind the end of the file', async () => {
    const { bitmapPopcount, pagesBeyondEof } = json<Header>('header.json');
    const pages = bitmapPages(core!);
    expect(pages.length).toBe(bitmapPopcount);
    for (const [i, pa] of pages.entries()) {
      if (i < bitmapPopcount - pagesBeyondEof) continue;
      const kva = 0xfffff80000000000n + BigInt(pa);
      expect((await caughtLater(() => kvm.resolve(kva), 'TRUNCATED')).physicalAddress).toBe(pa);
      if (i % 50 === 0) await caughtLater(() => kvm.readPhysical(pa, 1), 'TRUNCATED');
    }
    const last = pages[bitmapPopcount - pagesBeyondEof - 1];
    const kva = 0xfffff80000000000n + BigInt(last); // the page that the end of the file cuts
    const inFile = kvm.core.cache.size - (await kvm.resolve(kva)).fileOffset!;
    expect(inFile).toBe(2048);
    expect((await kvm.readPartial(kva, 4096)).bytes.length).toBe(inFile);
    expect((await caughtLater(() => kvm.resolve(kva + 2048n), 'TRUNCATED')).physicalAddress).toBe(
      last + 2048,
    );
  });

  it('leads from allproc to every thread, its registers and its stack', async () => {
    const { oracle } = json<Threads>('threads.json');
    const offsets = new Map<string, bigint>();
    for (const [name, value] of Object.entries(oracle.offsets)) {
      offsets.set(name, BigInt(await kvm.readU32(await kvm.symbol(name))));
      expect(offsets.get(name), name).toBe(BigInt(value));
    }
    const off = (name: string): bigint => offsets.get(name)!;
    const pcbSize = await kvm.readU32(await kvm.symbol('pcb_size'));
    const dumptid = await kvm.readU32(await kvm.symbol('dumptid'));
    expect({ pcbSize, dumptid }).toEqual({ pcbSize: oracle.pcbSize, dumptid: oracle.dumptid });
    const procs: [string, number, string][] = [];
    const threads: Thread[] = [];
    for (
      let p = await kvm.readPointer(await kvm.symbol('allproc'));
      p !== 0n;
      p = await kvm.readPointer(p + off('proc_off_p_list'))
    ) {
      const pid = await kvm.readU32(p + off('proc_off_p_pid'));
      const comm = await kvm.readCString(p + off('proc_off_p_comm'), 20);
      procs.push([hex(p), pid, comm]);
      let td = await kvm.readPointer(p + off('proc_off_p_threads'));
      for (; td !== 0n; td = await kvm.readPointer(td + off('thread_off_td_plist'))) {
        const tid = await kvm.readU32(td + off('thread_off_td_tid'));
        const oncpu = (await kvm.readU32(td + off('thread_off_td_oncpu'))) | 0;
        const pcb =
          tid === dumptid
            ? await kvm.symbol('dumppcb')
            : oncpu >= 0
              ? (await kvm.symbol('stoppcbs')) + BigInt(oncpu * pcbSize)
              : await kvm.readPointer(td + off('thread_off_td_pcb'));
        const name = threadName(pid, comm, await kvm.readCString(td + off('thread_off_td_name'), 20));
        const state = tid === dumptid ? ' (crashed)' : oncpu >= 0 ? ` (on CPU ${oncpu})` : '';
        threads.push({
          tid,
          td: hex(td),
          pid,
          name: name + state,
          oncpu,
          pcb: hex(pcb),
          ...(await registers(pcb)),
        });
      }
    }
    expect(procs).toEqual(oracle.procs);
    expect(threads).toEqual(oracle.threads);

    /** struct pcb of amd64 (sys/amd64/include/pcb.h) begins with these. */
    async function registers(pcb: bigint): Promise<Pick<Thread, 'regs' | 'fpBacktrace'>> {
      const names = ['r15', 'r14', 'r13', 'r12', 'rbp', 'rsp', 'rbx', 'rip'];
      const values = await Promise.all(names.map((_, i) => kvm.readU64(pcb + BigInt(i * 8))));
      const fpBacktrace = [hex(values[7])];
      for (let rbp = values[4]; rbp !== 0n && fpBacktrace.length < 100;) {
        const { bytes } = await kvm.readPartial(rbp, 16);
        if (bytes.length < 16) break;
        const frame = new DataView(bytes.buffer);
        const [next, back] = [frame.getBigUint64(0, true), frame.getBigUint64(8, true)];
        if (next === 0n) break; // fork_trampoline
        fpBacktrace.push(hex(back));
        rbp = next;
      }
      return { regs: Object.fromEntries(names.map((name, i) => [name, hex(values[i])])), fpBacktrace };
    }
  });
});

function threadName(pid: number, comm: string, name: string): string {
  return `(pid ${pid}) ${name === comm || name === '' ? comm : `${comm}/${name}`}`;
}

/** What is wrong with a read, or undefined. */
async function checkRow(kvm: Face, row: ReadRow): Promise<string | undefined> {
  const kva = BigInt(row.kva);
  const { bytes, fault } = await kvm.readPartial(kva, row.len);
  if (row.ret === row.len) {
    if (fault) return fault.message;
    if ((await kvm.resolve(kva)).fileOffset !== row.fileOffset)
      return `offset ${(await kvm.resolve(kva)).fileOffset}`;
    if (Buffer.compare(await kvm.read(kva, row.len), bytes)) return 'read and readPartial differ';
  } else if (row.ret >= 0) {
    if (fault?.code !== 'TRUNCATED' || bytes.length !== row.ret)
      return `${fault?.code} after ${bytes.length}`;
    if (row.ret > 0 && (await kvm.resolve(kva)).fileOffset !== row.fileOffset) return 'offset';
  } else {
    if (!fault || fault.code === 'TRUNCATED') return `${fault?.code} after ${bytes.length}`;
    if ((row.fileOffset === null) !== (bytes.length === 0)) return `${bytes.length} bytes before the fault`;
    if (bytes.length > 0 && (await kvm.resolve(kva)).fileOffset !== row.fileOffset) return 'offset';
    return undefined;
  }
  if (row.sha256 && createHash('sha256').update(bytes).digest('hex') !== row.sha256) return 'sha256';
  if (row.sha256 === undefined && Buffer.from(bytes).toString('hex') !== (row.bytes ?? '')) return 'bytes';
  return undefined;
}

/** The PAs of all set bits, read from the file by the offsets of header.json. */
function bitmapPages(path: string): number[] {
  const { layout, dumpAvail } = json<Header>('header.json');
  const head = readFileSync(path).subarray(layout.bitmapOffset, layout.pmapOffset);
  const pages: number[] = [];
  let bit = 0;
  for (const [start, end] of dumpAvail) {
    for (let pa = Number(start); pa < Number(end); pa += 4096, bit++) {
      if ((head[bit >> 3] >> (bit & 7)) & 1) pages.push(pa);
    }
  }
  return pages;
}

/** Offset in the file of every page that is dumped and begins before the file ends. */
function pageOffsets(path: string): Map<number, number> {
  const { layout, fileSize } = json<Header>('header.json');
  const offsets = bitmapPages(path).map((pa, rank) => [pa, layout.sparseOffset + rank * 4096] as const);
  return new Map(offsets.filter(([, offset]) => offset < fileSize));
}

import type { Command } from 'commander';
import { isKvmError, toHex, type KvmError } from '@libkvm/minidump-core';
import type { Kvm } from '@libkvm/kvm-reader';
import { addressOf, echoed, parseAddress, parseRead, parseSize, type ReadTerm } from '../arguments.js';
import { batchLines, withoutStacks } from '../batch.js';
import { describe } from '../describe.js';
import { FAILED, printKvmError, shortError, usage, UsageError } from '../errors.js';
import { Hexdump } from '../hexdump.js';
import { addCoreOptions, withCore, type CoreOptions } from '../open.js';
import { json, visibleLine } from '../output.js';
import { faultBehind, PIECE, readableLength, readFault, readPieces } from '../pieces.js';
import type { Session } from '../session.js';

interface ReadOptions extends CoreOptions {
  readonly batch?: string;
  readonly raw?: boolean;
  readonly json?: boolean;
}

/** `vmcore read`. */
export function addRead(program: Command, session: Session): void {
  const command = program
    .command('read')
    .summary('bytes at a KVA')
    .description(
      'Reads the bytes at a kernel virtual address. What can be read before an error is printed before it.',
    )
    .argument('<core>', 'core file')
    .argument('[address]', 'KVA: 0x… in hex, decimal, or with --kernel NAME or NAME+OFFSET')
    .argument('[length]', 'bytes to read: decimal or 0x…, with K, M or G')
    .option('-b, --batch <file>', 'reads to do, ADDR LEN a line (- for standard input)')
    .option('--raw', 'print the bytes themselves')
    .option('--json', 'print JSON, a line a read');
  addCoreOptions(command).action(
    async (core: string, address: string | undefined, length: string | undefined, options: ReadOptions) => {
      const { batch } = options;
      const term = usage(() => checkUsage(address, length, options, session));
      await withCore(session, core, options, async (kvm) => {
        const reader = new Reader(session, kvm);
        if (batch !== undefined) return withoutStacks(() => reader.batch(batch));
        const read = { asked: usage(() => addressOf(term!.address, kvm.symbols)), length: term!.length };
        await (options.raw === true ? reader.raw(read) : reader.one(read));
      });
    },
  );
  describe(command, {
    json: `A line a read: \`{"kva","length","bytes"}\` with the bytes in hex, or
\`{"kva","length","error":{"code","message","address",...},"partial"}\` with those before the first that cannot be read.`,
    examples: [
      'vmcore read vmcore.0 0xffffffff80200000 64',
      'vmcore read vmcore.0 --kernel kernel version 256',
      'vmcore read vmcore.0 0xfffff80000200000 4K --raw > page',
      'vmcore read vmcore.0 --json --batch reads.txt',
    ],
  });
}

function checkUsage(
  address: string | undefined,
  length: string | undefined,
  { batch, raw, json }: ReadOptions,
  session: Session,
): ReadTerm | undefined {
  if (raw === true && json === true) throw new UsageError('--raw and --json exclude each other');
  if (raw === true && session.out.terminal) {
    throw new UsageError(
      'the bytes of a dump would confuse this terminal',
      'send them to a file: --raw > FILE',
    );
  }
  if (batch !== undefined) {
    if (address !== undefined) throw new UsageError('an address and --batch exclude each other');
    if (raw === true) throw new UsageError('--raw reads one address, not a batch');
    return undefined;
  }
  if (address === undefined)
    throw new UsageError('no address was given', 'name ADDR and LEN, or a --batch file');
  if (length === undefined) throw new UsageError('no length was given', 'e.g. vmcore read CORE ADDR 64');
  return { address: parseAddress(address), length: parseSize(length, 'LEN') };
}

interface Read {
  readonly asked: bigint;
  readonly length: number;
}

class Reader {
  constructor(
    private readonly session: Session,
    private readonly kvm: Kvm,
  ) {}

  /** The read of the command line. */
  async one(read: Read): Promise<void> {
    const { session } = this;
    const fault = await (session.json ? this.json(read) : this.hexdump(read));
    if (fault === undefined) return;
    session.status = FAILED;
    if (!session.json) await this.printFault(fault);
  }

  /** The same as bytes. */
  async raw({ asked, length }: Read): Promise<void> {
    for (const { bytes, fault } of readPieces(asked, length, this.kvm)) {
      await this.session.out.bytes(bytes);
      if (fault === undefined) continue;
      this.session.status = FAILED;
      await this.printFault(fault);
    }
  }

  /** Reads of a file: each has its answer on its line, or below the line that repeats it. */
  async batch(file: string): Promise<void> {
    const { out, io, json: asJson } = this.session;
    for await (const { lines } of batchLines(file, io)) {
      for (const line of lines) {
        const read = this.parse(line);
        if (read !== undefined) await (asJson ? this.json(read) : this.titled(read));
        if (out.full) await out.flush();
      }
      await out.flush();
    }
  }

  /** A line of a batch; one that makes no sense is answered at once. */
  private parse(line: string): Read | undefined {
    try {
      const { address, length } = parseRead(line);
      return { asked: addressOf(address, this.kvm.symbols), length };
    } catch (error) {
      if (!isKvmError(error)) throw error;
      this.refuse(line, error);
      return undefined;
    }
  }

  private refuse(line: string, error: KvmError): void {
    const { out } = this.session;
    if (!this.session.json) {
      out.line(`${visibleLine(echoed(line))}: ${out.colors.red(error.code)} ${visibleLine(error.message)}`);
      return;
    }
    const [kva, length] = line.split(/\s+/);
    out.json({ kva: echoed(kva), length: asNumber(length), error: shortError(error), partial: '' });
  }

  /** Prints a line of JSON and returns the fault it tells of. */
  private async json({ asked, length }: Read): Promise<KvmError | undefined> {
    const { out } = this.session;
    out.write(`{"kva":"${toHex(asked)}","length":${length},`);
    if (length > PIECE) return this.longJson({ asked, length });
    const [{ bytes, fault }] = readPieces(asked, length, this.kvm);
    if (fault)
      out.write(`"error":${json(readFault(fault, length, bytes.length))},"partial":"${hex(bytes)}"}\n`);
    else out.write(`"bytes":"${hex(bytes)}"}\n`);
    return fault;
  }

  /** The rest of the line, when it is too long to be held: what kind of line it is has to be known in advance. */
  private async longJson({ asked, length }: Read): Promise<KvmError | undefined> {
    const { out } = this.session;
    const there = readableLength(asked, length, this.kvm);
    const fault = there < length ? faultBehind(asked, there, this.kvm) : undefined;
    if (fault) out.write(`"error":${json(readFault(fault, length, there))},"partial":"`);
    else out.write('"bytes":"');
    for (const { bytes } of readPieces(asked, there, this.kvm)) {
      out.write(hex(bytes));
      await out.flush();
    }
    out.write('"}\n');
    return fault;
  }

  private async titled(read: Read): Promise<void> {
    const { out } = this.session;
    out.line(out.colors.bold(`${toHex(read.asked)} ${read.length}`));
    const fault = await this.hexdump(read);
    if (fault) out.line(`${out.colors.red(fault.code)} ${visibleLine(fault.message)}`);
  }

  private async hexdump({ asked, length }: Read): Promise<KvmError | undefined> {
    const { out } = this.session;
    const dump = new Hexdump(asked, this.kvm.core.bits);
    for (const { bytes, fault } of readPieces(asked, length, this.kvm)) {
      for (const line of dump.add(bytes)) {
        out.line(line);
        if (out.full) await out.flush();
      }
      if (fault === undefined) continue;
      for (const line of dump.end()) out.line(line);
      return fault;
    }
    for (const line of dump.end()) out.line(line);
    return undefined;
  }

  private async printFault(fault: KvmError): Promise<void> {
    await this.session.out.flush();
    printKvmError(this.session.err, fault);
    await this.session.err.flush();
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** What a line that makes no sense has for a length, where that is one. */
function asNumber(text: string | undefined): number | null {
  try {
    return text === undefined ? null : parseSize(text, 'LEN');
  } catch {
    return null;
  }
}

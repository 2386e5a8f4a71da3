import type { Command } from 'commander';
import { isKvmError, toHex, type KvmError } from '@libkvm/minidump-core';
import type { Kvm, Resolved } from '@libkvm/kvm-reader';
import { addressOf, echoed, parseAddress, type AddressTerm } from '../arguments.js';
import { batchLines, withoutStacks } from '../batch.js';
import { describe } from '../describe.js';
import { FAILED, printKvmError, shortError, usage, UsageError } from '../errors.js';
import { addCoreOptions, withCore, type CoreOptions } from '../open.js';
import { json, visibleLine } from '../output.js';
import type { Session } from '../session.js';
import { hexColumn, pageSizeName } from '../text.js';

interface ResolveOptions extends CoreOptions {
  readonly batch?: string;
  readonly json?: boolean;
}

/** The answer for one address: `asked` is a KVA, or what was written where that makes no KVA. */
interface Answer {
  readonly asked: bigint | string;
  readonly resolved?: Resolved;
  readonly fault?: KvmError;
}

/** `vmcore resolve`. */
export function addResolve(program: Command, session: Session): void {
  const command = program
    .command('resolve')
    .summary('KVA -> PA -> offset in the file')
    .description(
      'Says which physical address kernel virtual addresses translate to, with which protection and page size, and ' +
        'at which offset of the file the byte is.',
    )
    .argument('<core>', 'core file')
    .argument('[addresses...]', 'KVAs: 0x… in hex, decimal, or with --kernel NAME or NAME+OFFSET')
    .option('-b, --batch <file>', 'more addresses, one a line (- for standard input)')
    .option('--json', 'print JSON, a line an address');
  addCoreOptions(command).action(async (core: string, addresses: string[], options: ResolveOptions) => {
    const { batch } = options;
    if (addresses.length === 0 && batch === undefined) {
      throw new UsageError('no address was given', 'name addresses, or a file of them with --batch');
    }
    const terms = addresses.map((text) => usage(() => parseAddress(text)));
    await withCore(session, core, options, async (kvm) => {
      const kvas = terms.map((term) => usage(() => find(term, kvm)));
      const resolver = new Resolver(session, kvm);
      await resolver.all(kvas);
      if (batch !== undefined) await withoutStacks(() => resolver.batch(batch));
    });
  });
  describe(command, {
    json: `A line an address: \`{"kva","pa","offset","protection","pageSize","entry","level"}\`; the last two where the
address has a page-table entry in the core. Without an answer \`{"kva","error":{"code","message"}}\`; where the
address is mapped and only its page is missing (NOT_DUMPED, TRUNCATED) with \`pa\` too.`,
    examples: [
      'vmcore resolve vmcore.0 0xffffffff80200000',
      'vmcore resolve vmcore.0 --kernel kernel panicstr allproc+8',
      'vmcore resolve vmcore.0 --json --batch addresses.txt',
    ],
  });
}

/** An address on the command line; one that the kernel does not know is an answer like others. */
function find(term: AddressTerm, kvm: Kvm): Answer {
  try {
    return { asked: addressOf(term, kvm.symbols) };
  } catch (error) {
    if (!isKvmError(error, 'NO_SYMBOL')) throw error;
    return { asked: echoed(term.text), fault: error };
  }
}

class Resolver {
  constructor(
    private readonly session: Session,
    private readonly kvm: Kvm,
  ) {}

  /** Addresses of the command line: one without an answer makes the whole command fail. */
  async all(answers: readonly Answer[]): Promise<void> {
    const { session } = this;
    for (const found of answers) {
      const answer = found.fault ? found : this.resolve(found.asked as bigint);
      if (answer.fault) session.status = FAILED;
      if (session.json || answer.fault === undefined) this.print(answer);
      else {
        await session.out.flush();
        printKvmError(session.err, answer.fault);
        await session.err.flush();
      }
    }
  }

  /** Addresses of a file: each has its answer on its line. */
  async batch(file: string): Promise<void> {
    const { out, io } = this.session;
    for await (const { lines } of batchLines(file, io)) {
      for (const line of lines) {
        this.print(this.answer(line));
        if (out.full) await out.flush();
      }
      await out.flush();
    }
  }

  private answer(line: string): Answer {
    let asked: bigint;
    try {
      asked = addressOf(parseAddress(line), this.kvm.symbols);
    } catch (error) {
      if (!isKvmError(error)) throw error;
      return { asked: echoed(line), fault: error };
    }
    return this.resolve(asked);
  }

  private resolve(asked: bigint): Answer {
    try {
      return { asked, resolved: this.kvm.resolve(asked) };
    } catch (error) {
      if (!isKvmError(error)) throw error;
      return { asked, fault: error };
    }
  }

  private print(answer: Answer): void {
    const { out } = this.session;
    if (this.session.json) out.line(jsonLine(answer));
    else out.line(this.textLine(answer));
  }

  private textLine({ asked, resolved, fault }: Answer): string {
    const { colors } = this.session.out;
    const kva = typeof asked === 'bigint' ? hexColumn(asked, 18) : visibleLine(asked).padEnd(18);
    if (resolved === undefined) return `${kva}  ${colors.red(fault!.code)} ${visibleLine(fault!.message)}`;
    const { physicalAddress, fileOffset, protection, pageSize, entry, level } = resolved;
    const fields = [
      kva,
      `pa ${hexColumn(physicalAddress, 12)}`,
      `offset ${hexColumn(fileOffset, 12)}`,
      protection,
      pageSizeName(pageSize).padStart(4),
      entry === undefined ? '' : `entry ${toHex(entry)} level ${level}`,
      this.symbolAt(asked as bigint),
    ];
    return fields.join('  ').trimEnd();
  }

  private symbolAt(kva: bigint): string {
    const hit = this.kvm.symbols.at(kva);
    if (hit === undefined) return '';
    const { colors } = this.session.out;
    return colors.cyan(`<${visibleLine(hit.symbol.name)}+${toHex(hit.offset)}>`);
  }
}

/** Written out by hand: this is where a million lines go through. */
function jsonLine({ asked, resolved, fault }: Answer): string {
  const kva = typeof asked === 'bigint' ? `"${toHex(asked)}"` : json(asked);
  if (resolved === undefined) {
    const { physicalAddress } = fault!;
    const pa = physicalAddress === undefined ? '' : `"pa":"${toHex(physicalAddress)}",`;
    return `{"kva":${kva},${pa}"error":${json(shortError(fault!))}}`;
  }
  const { physicalAddress, fileOffset = null, protection, pageSize, entry, level } = resolved;
  const leaf = entry === undefined ? '' : `,"entry":"${toHex(entry)}","level":${level}`;
  return `{"kva":${kva},"pa":"${toHex(physicalAddress)}","offset":${fileOffset},"protection":"${protection}","pageSize":${pageSize}${leaf}}`;
}

import type { Command } from 'commander';
import { KvmError, toHex } from '@libkvm/minidump-core';
import { openKernel, type KernelFile, type KernelSymbol } from '@libkvm/kvm-reader';
import { FileSource } from '@libkvm/kvm-reader/node';
import { describe } from '../describe.js';
import { FAILED, printKvmError, shortError } from '../errors.js';
import { json, visibleLine } from '../output.js';
import type { Session } from '../session.js';

interface SymbolsOptions {
  readonly json?: boolean;
}

/** `vmcore symbols`. */
export function addSymbols(program: Command, session: Session): void {
  const command = program
    .command('symbols')
    .summary('symbols of a kernel')
    .description('Lists the symbols of a kernel in the order of its file, or looks some up by name.')
    .argument('<kernel>', 'ELF file of a kernel, or its .debug file')
    .argument('[names...]', 'symbols to look up')
    .option('--json', 'print JSON, a line a symbol');
  command.action(async (path: string, names: string[], _options: SymbolsOptions) => {
    const source = new FileSource(path);
    try {
      const kernel = openKernel(source);
      await (names.length > 0 ? lookUp(session, kernel, names) : list(session, kernel));
    } finally {
      source.close();
    }
  });
  describe(command, {
    json: `A line a symbol: \`{"name","value","size","type"}\`; \`value\` is its address. For a name that the kernel does
not have \`{"name","error":{"code","message"}}\`.`,
    examples: ['vmcore symbols kernel', 'vmcore symbols kernel panicstr msgbufp'],
  });
}

async function list(session: Session, kernel: KernelFile): Promise<void> {
  const { out } = session;
  for (const symbol of kernel.symbols.entries()) {
    print(session, kernel, symbol);
    if (out.full) await out.flush();
  }
}

async function lookUp(session: Session, kernel: KernelFile, names: readonly string[]): Promise<void> {
  const { out, err } = session;
  for (const name of names) {
    const symbol = kernel.symbols.lookup(name);
    if (symbol !== undefined) {
      print(session, kernel, symbol);
      continue;
    }
    session.status = FAILED;
    const error = new KvmError('NO_SYMBOL', `no kernel symbol ${name}`, {
      field: name,
      hint: 'vmcore symbols KERNEL lists those that there are',
    });
    if (session.json) out.json({ name, error: shortError(error) });
    else {
      await out.flush();
      printKvmError(err, error);
      await err.flush();
    }
  }
}

function print({ out, json: asJson }: Session, kernel: KernelFile, symbol: KernelSymbol): void {
  const { name, value, size, type } = symbol;
  if (asJson) {
    out.line(`{"name":${json(name)},"value":"${toHex(value)}","size":${size},"type":"${type}"}`);
    return;
  }
  const address = `0x${value.toString(16).padStart(kernel.identity.bits / 4, '0')}`;
  out.line(`${address}  ${String(size).padStart(8)}  ${type.padEnd(7)}  ${visibleLine(name)}`);
}

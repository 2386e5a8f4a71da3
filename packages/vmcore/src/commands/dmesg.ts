import type { Command } from 'commander';
import { KvmError } from '@libkvm/minidump-core';
import type { Kvm, MessageBuffer } from '@libkvm/kvm-reader';
import { describe } from '../describe.js';
import { addCoreOptions, withCore, type CoreOptions } from '../open.js';
import type { Session } from '../session.js';

interface DmesgOptions extends CoreOptions {
  readonly json?: boolean;
}

/** `vmcore dmesg`. */
export function addDmesg(program: Command, session: Session): void {
  const command = program
    .command('dmesg')
    .summary('the message buffer')
    .description('Prints what the kernel last printed: its message buffer, oldest message first.')
    .argument('<core>', 'core file')
    .option('--json', 'print JSON, one object');
  addCoreOptions(command).action(async (core: string, options: DmesgOptions) => {
    await withCore(session, core, options, async (kvm) => {
      const buffer = kvm.messageBuffer();
      if (buffer === undefined) throw noBuffer(kvm);
      await print(session, buffer);
    });
  });
  describe(command, {
    json: '`{"text"}`.',
    examples: ['vmcore dmesg vmcore.0', 'vmcore dmesg vmcore.0 --json | jq -r .text'],
  });
}

async function print(session: Session, { text, order }: MessageBuffer): Promise<void> {
  const { out } = session;
  if (session.json) {
    out.json({ text });
    return;
  }
  out.foreign(text === '' || text.endsWith('\n') ? text : `${text}\n`);
  await out.flush();
  if (text === '') await session.warn('the message buffer is empty');
  else if (order === 'none') {
    await session.warn('where the messages start is unknown, they may be out of order; --kernel tells');
  }
}

function noBuffer(kvm: Kvm): KvmError {
  if (kvm.symbols.kernel === undefined) {
    return new KvmError('NO_SYMBOL', 'the core has no section for messages, and where they are is unknown', {
      field: 'msgbufp',
      hint: 'give the kernel of this core with --kernel FILE',
    });
  }
  return new KvmError('NOT_DUMPED', 'the message buffer is not in the core', { field: 'msgbufp' });
}

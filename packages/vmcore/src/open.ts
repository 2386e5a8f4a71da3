import { Option, type Command } from 'commander';
import type { ImageOptions } from '@libkvm/minidump-core';
import type { Kvm } from '@libkvm/kvm-reader';
import { openKvmFile, type OpenFileOptions, type UnpackOptions } from '@libkvm/kvm-reader/node';
import { parseCount, parseHeaderField, parseRawRange, parseRegister, parseSize } from './arguments.js';
import { usage, UsageError } from './errors.js';
import { Progress } from './progress.js';
import type { Session } from './session.js';

/** The library holds no more in one cache. */
const MAX_CACHE = 2 ** 31;

/** The options of every command that opens a core. */
export interface CoreOptions {
  readonly kernel?: string;
  readonly cache?: string;
  readonly header?: readonly string[];
  readonly arch?: string;
  readonly reg?: readonly string[];
  readonly base?: readonly string[];
  readonly cpu?: string;
  readonly pteFormat?: string;
  readonly byteOrder?: 'little' | 'big';
  readonly temporaryDirectory?: string;
  readonly temporaryLimit?: string;
  readonly index?: boolean;
  readonly indexFile?: string;
  readonly infoFile?: boolean;
}

/** Adds them to a command. */
export function addCoreOptions(command: Command): Command {
  return command
    .option(
      '-k, --kernel <file>',
      'the kernel that made the core (ELF, or its .debug file): gives symbols, and a full dump its page tables',
    )
    .option('--cache <bytes>', 'bytes of the core to keep in memory, e.g. 128M (default: 32M)')
    .addOption(
      new Option('--header <field=value>', 'use this value instead of the one in the header (repeatable)')
        .argParser(collect)
        .default(undefined),
    )
    .option(
      '--arch <name>',
      'memory image: its architecture, where the file does not say it (amd64, i386, arm, arm64)',
    )
    .addOption(
      new Option(
        '--reg <name=value>',
        'memory image: a control register, e.g. CR3=0x1000, TTBR0=0x40004000 (repeatable)',
      )
        .argParser(collect)
        .default(undefined),
    )
    .addOption(
      new Option(
        '--base <pa[:offset[:length]]>',
        'the file is raw memory from this physical address on (repeatable)',
      )
        .argParser(collect)
        .default(undefined),
    )
    .option('--cpu <n>', 'memory image: use the registers of this processor (default: 0)')
    .option(
      '--pte-format <name>',
      'memory image: format of its page tables, where registers do not tell (v4, xscale, …)',
    )
    .addOption(
      new Option('--byte-order <order>', 'memory image: byte order of its page tables').choices([
        'little',
        'big',
      ]),
    )
    .option(
      '--temporary-directory <folder>',
      'compressed core: where it is decompressed (default: that of the system)',
    )
    .option(
      '--temporary-limit <bytes>',
      'compressed core: refuse one that decompresses to more (default: 64G)',
    )
    .option('--index', 'gzip core: read it through an index beside it instead, made when it is not there')
    .option('--index-file <file>', 'gzip core: the same, with the index in this file')
    .option('--no-info-file', 'do not read info.N beside vmcore.N');
}

/** Opens a core as the options say, uses it, and closes it. */
export async function withCore(
  session: Session,
  path: string,
  options: CoreOptions,
  use: (kvm: Kvm) => Promise<void>,
): Promise<void> {
  const { kernel } = options;
  const progress = unpackProgress(session);
  const kvm = withProgress(progress, () =>
    openKvmFile(path, {
      ...openOptions(options),
      ...(kernel !== undefined && { kernel }),
      onProgress: progress.update,
    }),
  );
  try {
    if (kernel !== undefined) await warnOfMismatch(session, kvm);
    await use(kvm);
  } finally {
    kvm.close();
  }
}

/** What the options say of how a core is opened, but for its kernel. */
export function openOptions(options: CoreOptions): Omit<OpenFileOptions, 'kernel'> {
  const { cache, header = [], base, ...image } = options;
  const overrides = Object.fromEntries(header.map((text) => usage(() => parseHeaderField(text))));
  return {
    ...(cache !== undefined && { cacheBytes: parseCache(cache) }),
    ...(header.length > 0 && { overrides }),
    ...(base && { raw: base.map((text) => usage(() => parseRawRange(text))) }),
    image: imageOptions(image),
    ...unpackOptions(options),
    ...(options.infoFile === false && { info: false }),
  };
}

/** What the options say of compressed cores. */
function unpackOptions({ temporaryDirectory, temporaryLimit, index, indexFile }: CoreOptions): UnpackOptions {
  const limit =
    temporaryLimit === undefined ? undefined : usage(() => parseSize(temporaryLimit, '--temporary-limit'));
  return {
    ...(temporaryDirectory !== undefined && { temporaryDirectory }),
    ...(limit !== undefined && { temporaryBytes: limit }),
    ...((indexFile ?? index) !== undefined && { index: indexFile ?? index! }),
  };
}

/** A bar for a core that is decompressed; how long it takes is known when it begins. */
export function unpackProgress(session: Session): UnpackProgress {
  let bar: Progress | undefined;
  return {
    update(done, total) {
      bar ??= new Progress(session, 'decompressing', total);
      bar.update(done);
    },
    stop: () => bar?.stop(),
  };
}

interface UnpackProgress {
  readonly update: (done: number, total: number) => void;
  readonly stop: () => void;
}

/** The bar is gone when the work is, however it ends. */
export function withProgress<T>({ stop }: UnpackProgress, work: () => T): T {
  try {
    return work();
  } finally {
    stop();
  }
}

function imageOptions({ arch, reg = [], cpu, pteFormat, byteOrder }: CoreOptions): ImageOptions {
  return {
    ...(arch !== undefined && { architecture: arch }),
    ...(reg.length > 0 && {
      registers: Object.fromEntries(reg.map((text) => usage(() => parseRegister(text)))),
    }),
    ...(cpu !== undefined && { cpu: usage(() => parseCount(cpu, '--cpu')) }),
    ...(pteFormat !== undefined && { pteFormat }),
    ...(byteOrder && { byteOrder }),
  };
}

/** With a kernel of another build every symbol is somewhere else: not to be found out by wrong answers. */
async function warnOfMismatch(session: Session, kvm: Kvm): Promise<void> {
  const { verdict, reason } = kvm.checkMatch();
  if (verdict === 'mismatch') await session.warn(`kernel and core do not belong together: ${reason}`);
}

function parseCache(text: string): number {
  const bytes = usage(() => parseSize(text, '--cache'));
  if (bytes > MAX_CACHE) throw new UsageError('--cache is at most 2G');
  return bytes;
}

/** Gathers the values of an option that may be repeated. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}

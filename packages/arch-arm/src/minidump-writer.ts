import {
  flatTable,
  kvaOf,
  KvmError,
  tableWindow,
  toHex,
  type DialectOptions,
  type LeafEncoder,
  type MinidumpWriter,
  type TablePlan,
  type TableSource,
  type TableWindow,
} from '@libkvm/minidump-core';
import { armMinidumpHeader, LPAE_VERSIONS, MAGIC } from './header.js';
import { ArmLpaeLeafEncoder } from './lpae-leaf-encoder.js';
import { armPteFormat, type ArmPteFormat } from './pte-format.js';
import { ArmV4LeafEncoder } from './v4-leaf-encoder.js';
import { ArmV6LeafEncoder } from './v6-leaf-encoder.js';

/** sizeof(struct minidumphdr). */
const HEADER_BYTES = 56;
/** Pages of 4 MB, which a page of entries of 4 bytes stands for: where the table starts by preference. */
const UNIT = 1024;

/** What the header says of each format: mmuformat, and `__ARM_ARCH` of a kernel that would have it. */
const HEADER_FACTS: Readonly<Record<ArmPteFormat, readonly [mmuformat: number, arch: number]>> = {
  v4: [1, 5],
  xscale: [1, 5],
  xscale3: [1, 5],
  'v6-subpages': [1, 6],
  v6: [2, 7],
  lpae: [3, 7],
};

/** What may be said of FreeBSD/arm minidumps that are written. */
export interface ArmWriteOptions {
  /** `arch` of the header: `__ARM_ARCH` of the kernel. Unless given, the least that the entry format goes with. */
  readonly arch?: number;
}

/**
 * Writes FreeBSD/arm minidumps as the kernel does (sys/arm/arm/minidump_machdep.c), in the machine's byte order: an entry
 * for each 4 KB from kernbase on, in one of three formats by `pteFormat`: mmuformat 1 for `v4`, `xscale`, `xscale3` and
 * `v6-subpages`, 2 for `v6`, and 3 for `lpae`, which is an extension of this library.
 *
 * Exact entries are kept where they read as the mapping does. Rights that upper levels take away are taken away in them,
 * since no upper level is in the file.
 */
export function armMinidumpWriter({ arch }: ArmWriteOptions = {}): MinidumpWriter {
  return { versions: [1, 2], plan: (source, options) => plan(source, options, arch) };
}

function plan(source: TableSource, options: DialectOptions, arch: number | undefined): TablePlan {
  requireArm(source);
  const { version = 2 } = options;
  const { byteOrder } = source.source.machine;
  const found = sourceFormat(source);
  const pteFormat = armPteFormat({}, options.pteFormat ?? (found === '' ? 'v6' : found));
  const [mmuformat, leastArch] = HEADER_FACTS[pteFormat];
  const window = windowOf(source, options);
  countConversion(source, found, pteFormat);
  const kernbase = kvaOf(window.fromPage, 0);
  return {
    ...{ version, kernbase, dumpAvail: version >= 2, wordBits: version >= 2 ? 32 : 8 },
    bitOrder: byteOrder === 'little' ? 'little' : 'big32',
    table: flatTable(source, window, encoderFor(source, options, found, pteFormat)),
    header(sizes) {
      const bytes = new Uint8Array(HEADER_BYTES);
      armMinidumpHeader.write(bytes, 0, byteOrder, {
        ...{ magic: MAGIC, version: version + (mmuformat === 3 ? LPAE_VERSIONS : 0) },
        ...{ msgbufsize: sizes.msgbuf, bitmapsize: sizes.bitmap, ptesize: sizes.table },
        ...{ kernbase: Number(kernbase), arch: arch ?? leastArch, mmuformat, dumpavailsize: sizes.dumpAvail },
      });
      return bytes;
    },
  };
}

function encoderFor(
  { source: { machine } }: TableSource,
  { superpages, pteFormat: asked }: DialectOptions,
  found: string,
  pteFormat: ArmPteFormat,
): LeafEncoder {
  const options = { byteOrder: machine.byteOrder, exact: familyOf(found) === familyOf(pteFormat) };
  if (pteFormat === 'v6') return new ArmV6LeafEncoder(options);
  if (pteFormat === 'lpae') return new ArmLpaeLeafEncoder(options);
  // Those of an XScale kernel's dump, which says no more than v4, stay as long as nobody asks for v4 by name.
  const extended = asked !== 'v4';
  return new ArmV4LeafEncoder({ ...options, pteFormat, fixedParts: superpages !== 'attributes', extended });
}

/** The format of the source's own entries; empty where it does not say. */
function sourceFormat({ source: { machine, addressSpace } }: TableSource): string {
  return addressSpace.pteFormat ?? machine.pteFormat;
}

/** Formats whose second-level descriptors mean the same. */
function familyOf(format: string): string {
  return format === 'v6' || format === 'lpae' || format === '' ? format : 'v4';
}

/** At multiples of 4 MB, but for kernels whose kernbase is none. */
function windowOf(source: TableSource, options: DialectOptions): TableWindow {
  const asked = options.kernbase ?? source.source.machine.kernbase;
  const page = asked === undefined ? 0 : Number(BigInt.asUintN(32, asked) >> 12n);
  const starts = options.kernbase !== undefined || page <= source.fromPage || source.toPage === 0;
  return tableWindow(source, options, starts && page % UNIT !== 0 ? 1 : UNIT);
}

/** What is lost whatever the mappings are. */
function countConversion(
  { source: { machine }, toPage, losses }: TableSource,
  found: string,
  made: string,
): void {
  const types = found !== '' && (found === 'lpae') !== (made === 'lpae');
  if (types && toPage > 0) {
    losses.add('memoryType', `memory types: ${found} and ${made} entries number them in different ways`);
  }
  if (machine.directMap === undefined) return;
  const { base, end } = machine.directMap;
  losses.add('directMap', 'the direct map: FreeBSD/arm has none', Number(end - base));
}

function requireArm(source: TableSource): void {
  const { architecture, bits, pageSize } = source.source.machine;
  if (architecture === 'arm' && bits === 32 && pageSize === 4096) return;
  throw new KvmError(
    'UNSUPPORTED',
    `a FreeBSD/arm minidump cannot be of a machine that is ${architecture}, ${bits} bits, with pages of ` +
      toHex(pageSize),
    { field: 'architecture', hint: 'write the minidump of its own architecture, or the portable format' },
  );
}

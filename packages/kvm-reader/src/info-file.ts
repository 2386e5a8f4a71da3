import type { DumpHeaderFacts } from './kernel-dump-header.js';
import { roundUp, writeKernelDumpHeader, readKernelDumpHeader } from './kernel-dump-header.js';

/** What savecore(8) writes to `info.N` beside a core (printheader of sbin/savecore/savecore.c). All of it may be absent. */
export interface InfoFile {
  /** The dump device. */
  readonly device?: string;
  readonly architecture?: string;
  readonly architectureVersion?: number;
  /** Bytes of the dump as stored on the device. */
  readonly dumpLength?: number;
  readonly blockSize?: number;
  /** `none`, `gzip` or `zstd`; older releases do not say it. */
  readonly compression?: string;
  /** Seconds since 1970. Where the file names no time zone (older releases) its local time is taken for UTC. */
  readonly dumpTime?: number;
  /** `+0000`; undefined where the file names none. */
  readonly timeZone?: string;
  readonly hostname?: string;
  /** The kernel's version, in as many lines as it has. */
  readonly versionString?: string;
  readonly panicString?: string;
  readonly parity?: number;
  /** The number of the dump: N of `vmcore.N`. */
  readonly bounds?: number;
  /** `good`, `bad` or `unknown`. */
  readonly status?: string;
  /** Every label with its text, those too that are not known here. */
  readonly fields: Readonly<Record<string, string>>;
}

/** What `info.N` is written from. */
export interface InfoFacts extends DumpHeaderFacts {
  /** The dump device: `/dev/null` unless given. */
  readonly device?: string;
  /** 0 unless given. */
  readonly bounds?: number;
  readonly status?: 'good' | 'bad' | 'unknown';
}

const DEVICE = 'Dump header from device';
const LABELS = [
  ...[DEVICE, 'Architecture', 'Architecture Version', 'Dump Length', 'Blocksize', 'Compression', 'Dumptime'],
  ...['Hostname', 'Magic', 'Version String', 'Panic String', 'Dump Parity', 'Bounds', 'Dump Status'],
];
/** savecore(8) relies on the version's own line end, which the header has no room for when the version is long. */
const GLUED = /^(.*?\S) {2}(Panic String: .*)$/;
const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';

/** Reads `info.N` of any release. Never fails: what makes no sense is left out, or stays in `fields` alone. */
export function parseInfoFile(text: string): InfoFile {
  const fields = Object.fromEntries(labelled(text));
  const value = (label: string): string | undefined =>
    Object.hasOwn(fields, label) ? fields[label] : undefined;
  const count = (label: string): number | undefined => leadingInteger(value(label));
  return {
    ...present({
      device: value(DEVICE),
      architecture: value('Architecture'),
      architectureVersion: count('Architecture Version'),
      dumpLength: count('Dump Length'),
      blockSize: count('Blocksize'),
      compression: value('Compression'),
      ...timeOf(value('Dumptime')),
      hostname: value('Hostname'),
      versionString: value('Version String'),
      panicString: value('Panic String'),
      parity: count('Dump Parity'),
      bounds: count('Bounds'),
      status: value('Dump Status'),
    }),
    fields,
  };
}

/**
 * The text of `info.N` as savecore(8) of FreeBSD 14 writes it for a dump with these facts; times in UTC.
 *
 * @throws KvmError `INVALID_ARGUMENT` as `writeKernelDumpHeader`
 */
export function formatInfo(facts: InfoFacts): string {
  const header = readKernelDumpHeader(writeKernelDumpHeader(facts));
  const { device = '/dev/null', bounds = 0, status = 'good' } = facts;
  const time = new Date(header.dumpTime * 1000).toISOString();
  const rows: (readonly [string, string | number])[] = [
    ['Architecture', header.architecture],
    ['Architecture Version', header.architectureVersion],
    ['Dump Length', header.dumpLength],
    ['Blocksize', header.blockSize],
    ['Compression', header.compression],
    ['Dumptime', `${time.slice(0, 10)} ${time.slice(11, 19)} +0000`],
    ['Hostname', header.hostname],
    ['Magic', 'FreeBSD Kernel Dump'],
    ['Version String', header.versionString.trimEnd()],
    ['Panic String', header.panicString],
    ['Dump Parity', header.parity],
    ['Bounds', bounds],
    ['Dump Status', status],
  ];
  return [`${DEVICE}: ${device}\n`, ...rows.map(([label, value]) => `  ${label}: ${value}\n`)].join('');
}

/**
 * What an `info.N` says of the length of its core, held against the core's file; undefined where they agree.
 *
 * @param stored bytes of the file as savecore(8) left it
 * @param unpacked bytes of the core in it, where the file is compressed
 */
export function lengthMismatch(info: InfoFile, stored: number, unpacked?: number): string | undefined {
  const { dumpLength, compression = 'none', blockSize = 512 } = info;
  if (dumpLength === undefined) return undefined;
  // What the kernel compressed is counted as stored; what savecore(8) compressed is not.
  const there = compression === 'none' ? (unpacked ?? stored) : stored;
  if (there >= dumpLength) return undefined;
  // savecore(8) may end the file where the last block is all zeros.
  const near = roundUp(there, blockSize) >= dumpLength;
  if (near) return undefined;
  return `the file is cut: the info file says ${dumpLength} bytes of dump, ${there} are there`;
}

/** Labels and texts in their order; lines without a label go on with the text before them. */
function labelled(text: string): [string, string][] {
  const entries: [string, string][] = [];
  for (const line of text.replace(/\r\n/g, '\n').split('\n')) addLine(entries, line);
  return entries.map(([label, value]) => [label, value.trimEnd()]);
}

function addLine(entries: [string, string][], line: string): void {
  const last = entries.at(-1);
  const open = last?.[0] === 'Version String';
  const glued = open || line.startsWith('  Version String: ') ? GLUED.exec(line) : null;
  if (glued) {
    addLine(entries, glued[1]);
    addLine(entries, `  ${glued[2]}`);
    return;
  }
  const match = /^ *([A-Z][^:]{0,60}): ?(.*)$/.exec(line);
  if (match && (LABELS.includes(match[1]) || !open)) entries.push([match[1], match[2]]);
  else if (last) last[1] += `\n${line}`;
}

function leadingInteger(text: string | undefined): number | undefined {
  const digits = /^\d{1,16}/.exec(text ?? '')?.[0];
  const value = Number(digits);
  return digits !== undefined && Number.isSafeInteger(value) ? value : undefined;
}

/** `2023-11-14 22:13:20 +0000`, or as ctime(3): `Tue Nov 14 22:13:20 2023`. */
function timeOf(text = ''): { dumpTime?: number; timeZone?: string } {
  const iso = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-])(\d\d)(\d\d)/.exec(text);
  if (iso) {
    const [, date, time, sign, hours, minutes] = iso;
    return { ...seconds(`${date}T${time}${sign}${hours}:${minutes}`), timeZone: `${sign}${hours}${minutes}` };
  }
  const ctime = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})/.exec(text);
  const month = ctime ? MONTHS.indexOf(ctime[1]) / 3 + 1 : 0;
  if (!ctime || !Number.isInteger(month) || month < 1) return {};
  const pad = (part: string | number): string => String(part).padStart(2, '0');
  return seconds(`${ctime[4]}-${pad(month)}-${pad(ctime[2])}T${ctime[3]}Z`);
}

function seconds(iso: string): { dumpTime?: number } {
  const milliseconds = Date.parse(iso);
  return Number.isNaN(milliseconds) ? {} : { dumpTime: milliseconds / 1000 };
}

function present<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}

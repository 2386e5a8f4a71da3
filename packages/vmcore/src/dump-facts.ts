import type { InfoFile, KernelDumpHeader, OpenedCore } from '@libkvm/kvm-reader';
import { toHex } from '@libkvm/minidump-core';
import { bytesInUnits } from './text.js';

/** What dump headers and info files say of a dump, to people. Panic, version and time are notes of the core. */
export function dumpRows({ dumpHeader, info, dataOffset }: OpenedCore): (readonly [string, string])[] {
  const rows: (readonly [string, string])[] = [];
  const hostname = dumpHeader?.hostname ?? info?.hostname;
  if (dumpHeader) rows.push(['Dump header', headerLine(dumpHeader)]);
  if (dataOffset !== undefined)
    rows.push(['Core', `at offset ${toHex(dataOffset)} of the file; offsets count from there`]);
  if (hostname) rows.push(['Host', hostname]);
  if (info?.device) rows.push(['Dump device', info.device]);
  if (info?.status) rows.push(['Dump status', info.status]);
  return rows;
}

function headerLine({
  kind,
  version,
  architecture,
  dumpLength,
  compression,
  parityHolds,
}: KernelDumpHeader): string {
  return [
    `version ${version}, ${architecture}, ${bytesInUnits(dumpLength)}`,
    ...(compression === 'none' ? [] : [`compressed: ${compression}`]),
    ...(kind === 'cleared' ? ['cleared by savecore(8)'] : []),
    ...(parityHolds ? [] : ['wrong parity']),
  ].join(', ');
}

/** The same for programs: null where there is none. */
export function dumpObject({ dumpHeader, info, dataOffset }: OpenedCore): Record<string, unknown> {
  return {
    dumpHeader: dumpHeader ?? null,
    infoFile: info ? infoObject(info) : null,
    dataOffset: dataOffset ?? 0,
  };
}

function infoObject(info: InfoFile): Record<string, unknown> {
  return { ...info };
}

import type { Core } from '@libkvm/minidump-core';
import { lengthMismatch, type InfoFile } from './info-file.js';
import type { KernelDumpHeader } from './kernel-dump-header.js';

/** An opened core, with what the containers around it say: its dump header, and the info file beside it. */
export interface OpenedCore extends Core {
  /** The header of the dump, where the file still has it. */
  readonly dumpHeader?: KernelDumpHeader;
  /** What savecore(8) wrote beside the core, where it was given or found. */
  readonly info?: InfoFile;
  /**
   * Bytes of the file in front of the core, where it has a dump header; file offsets of the core count from there.
   * Those of a compressed core count in what it decompresses to.
   */
  readonly dataOffset?: number;
}

/** What was found around a core. */
export interface Surroundings {
  readonly dumpHeader?: KernelDumpHeader;
  readonly info?: InfoFile;
  readonly dataOffset: number;
  /** Bytes of the file that was opened. */
  readonly fileSize: number;
  readonly compressed: boolean;
  readonly warnings: readonly string[];
}

/** Adds to a core what was found around it: its facts as notes too, where the core has none of its own. */
export function surrounded(core: Core, around: Surroundings): OpenedCore {
  const { dumpHeader, info, dataOffset, fileSize, compressed } = around;
  const warnings = [...around.warnings];
  const mismatch =
    info && !dumpHeader
      ? lengthMismatch(info, fileSize, compressed ? core.cache.size : undefined)
      : undefined;
  if (mismatch !== undefined) warnings.push(mismatch);
  if (info?.status !== undefined && /^bad/i.test(info.status)) {
    warnings.push('savecore(8) found the dump bad: its headers were damaged');
  }
  if (!dumpHeader && !info && warnings.length === 0) return core;
  return {
    ...core,
    notes: { ...notesOf(dumpHeader ?? info), ...core.notes },
    warnings: [...warnings, ...core.warnings],
    ...(dumpHeader && { dumpHeader }),
    ...(info && { info }),
    ...(dataOffset > 0 && !compressed && { dataOffset }),
  };
}

/** In the names that notes have in portable minidumps. */
function notesOf(
  facts: Pick<InfoFile, 'panicString' | 'versionString' | 'dumpTime'> = {},
): Record<string, string> {
  const { panicString, versionString, dumpTime } = facts;
  const time = new Date((dumpTime ?? 0) * 1000);
  return {
    ...(panicString && { panic: panicString }),
    ...(versionString && { kernelVersion: versionString }),
    ...(dumpTime && !Number.isNaN(time.getTime()) && { time: time.toISOString() }),
  };
}

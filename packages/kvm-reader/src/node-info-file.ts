import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isKvmError } from '@libkvm/minidump-core';
import { encrypted } from './dump-device.js';
import { parseInfoFile, type InfoFile } from './info-file.js';

/** Names that savecore(8) gives to cores; N is a number, or `last`. */
const CORE_NAME = /^(?:vmcore|vmcore_encrypted|livecore)\.(\d+|last)(?:\.gz|\.zst)?$/;
/** savecore(8) writes less than 1 KB. */
const MAX_INFO = 65536;

/** Reads `info.N` beside `vmcore.N`, where there is one. Never fails. */
export function findInfoFile(path: string): InfoFile | undefined {
  const number = CORE_NAME.exec(basename(path))?.[1];
  if (number === undefined) return undefined;
  try {
    const beside = join(dirname(path), `info.${number}`);
    const stat = statSync(beside);
    if (!stat.isFile() || stat.size === 0 || stat.size > MAX_INFO) return undefined;
    return parseInfoFile(readFileSync(beside, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * The error to report for a file that did not open: ciphertext looks like nothing, and is told by its name or by the key
 * beside it (sbin/savecore/savecore.c).
 */
export function orEncrypted(error: unknown, path: string): unknown {
  if (!isKvmError(error, 'NOT_A_CORE')) return error;
  const name = basename(path);
  const number = CORE_NAME.exec(name)?.[1];
  const key = number !== undefined && existsSync(join(dirname(path), `key.${number}`));
  return name.startsWith('vmcore_encrypted.') || key
    ? encrypted(`${path} is an encrypted core`, { offset: 0 })
    : error;
}

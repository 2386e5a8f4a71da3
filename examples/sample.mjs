// @ts-check
// Writes a core and its kernel, of a small synthetic machine that panicked, for examples that are run without arguments.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { amd64Minidump, sampleMachine } from '@libkvm/fixtures';

/** @returns {{ core: string, kernel: string }} paths */
export function sampleFiles() {
  const folder = mkdtempSync(join(tmpdir(), 'libkvm-sample-'));
  const { machine, kernel } = sampleMachine();
  const paths = { core: join(folder, 'vmcore.0'), kernel: join(folder, 'kernel') };
  writeFileSync(paths.core, amd64Minidump(machine).file.bytes());
  writeFileSync(paths.kernel, kernel);
  return paths;
}

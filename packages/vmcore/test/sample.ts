import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { amd64Minidump, sampleMachine, type Amd64Minidump, type SampleMachine } from '@libkvm/fixtures';

/** The sample machine's core and kernel as files, and everything that is known of them. */
export interface Sample extends SampleMachine {
  readonly dump: Amd64Minidump;
  readonly folder: string;
  readonly core: string;
  readonly kernelPath: string;
}

/** A folder that is gone after the tests of this file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vmcore-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes the sample's files into a folder that is gone after the tests of this file. */
export function sampleFiles(): Sample {
  const folder = temporaryFolder();
  const sample = sampleMachine();
  const dump = amd64Minidump(sample.machine);
  const core = join(folder, 'vmcore.0');
  const kernelPath = join(folder, 'kernel');
  writeFileSync(core, dump.file.bytes());
  writeFileSync(kernelPath, sample.kernel);
  return { ...sample, dump, folder, core, kernelPath };
}

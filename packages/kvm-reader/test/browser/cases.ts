import { amd64Minidump, sampleMachine, type SimRam } from '@libkvm/fixtures';
import { DUMP_VARIANTS, VARIANTS } from '../support/variants.js';
import type { BrowserCase } from './answers.js';

/** A core for the browser lane, with the bytes that its server gives out. */
export interface CaseWithFiles extends BrowserCase {
  readonly files: Readonly<Record<string, Uint8Array>>;
}

/** The sample with its kernel, and a random machine of every kind of minidump and of every walker. */
export function browserCases(seed = 11): CaseWithFiles[] {
  return [
    sample(),
    ...DUMP_VARIANTS.map((_, i) => dumped(i, seed)),
    ...VARIANTS.map((_, i) => walked(i, seed)),
  ];
}

function sample(): CaseWithFiles {
  const { machine, kernel, known } = sampleMachine();
  const symbols = [...Object.keys(known.symbols), 'no_such_symbol'];
  const probes = Object.values(known.symbols).map(hex);
  const files = { '/sample.core': amd64Minidump(machine).file.bytes(), '/sample.kernel': kernel };
  const [core, kernelPath] = Object.keys(files);
  return { name: 'sample with its kernel', core, kernel: kernelPath, probes, symbols, files };
}

function dumped(index: number, seed: number): CaseWithFiles {
  const { name, make } = DUMP_VARIANTS[index];
  const { bytes, probes } = make(seed);
  const core = `/minidump.${index}`;
  return { name: `minidump, ${name}`, core, probes: some(probes), symbols: [], files: { [core]: bytes } };
}

function walked(index: number, seed: number): CaseWithFiles {
  const { name, make } = VARIANTS[index];
  const { ram, image, probes } = make(seed);
  const { registers = {}, ...rest } = image;
  const core = `/image.${index}`;
  const { bytes, raw } = rawImage(ram);
  return {
    ...{ name: `walked, ${name}`, core, raw, probes: some(probes), symbols: [], files: { [core]: bytes } },
    image: {
      ...rest,
      registers: Object.fromEntries(
        Object.entries(registers).map(([register, value]) => [register, hex(value)]),
      ),
    },
  };
}

/** RAM as one file, its ranges one behind the other. */
function rawImage(ram: SimRam): { bytes: Uint8Array; raw: NonNullable<BrowserCase['raw']> } {
  const raw: { pa: number; offset: number; length: number }[] = [];
  let size = 0;
  for (const { start, end } of ram.ranges) {
    raw.push({ pa: start, offset: size, length: end - start });
    size += end - start;
  }
  const bytes = new Uint8Array(size);
  for (const { pa, offset, length } of raw) bytes.set(ram.readBytes(pa, length), offset);
  return { bytes, raw };
}

function some(probes: readonly bigint[]): string[] {
  const step = Math.max(1, Math.floor(probes.length / 40));
  return probes.filter((_, i) => i % step === 0).map(hex);
}

function hex(value: number | bigint): string {
  return `0x${BigInt(value).toString(16)}`;
}

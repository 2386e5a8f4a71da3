import type { DumpFormat } from '@libkvm/minidump-core';
import { planElfKva } from './elf-write-kva.js';
import { planElf } from './elf-write-plan.js';

/** Full dumps: see {@link planElf}. A source without page tables becomes one without. */
export const elfDumpFormat: DumpFormat = {
  name: 'elf',
  needsTables: false,
  plan: (source, options, architectures) => planElf(source, { ...options, architectures }),
};

/** ELF cores by KVA, for debuggers: see {@link planElfKva}. */
export const elfKvaDumpFormat: DumpFormat = {
  name: 'elf-kva',
  needsTables: true,
  plan: (source, options, architectures) => planElfKva(source, { ...options, architectures }),
};

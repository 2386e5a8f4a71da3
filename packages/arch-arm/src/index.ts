/**
 * The 32-bit ARM architecture for libkvm for TypeScript: page-table formats from ARMv4 to LPAE, their walkers, and
 * FreeBSD/arm minidumps.
 *
 * @packageDocumentation
 */
export type { ArmView } from './access.js';
export { arm } from './architecture.js';
export { armMinidumpHeader } from './header.js';
export { armLpaeFormat } from './lpae-format.js';
export { armMinidump, armMinidumpDialect, type ArmMinidumpOptions } from './minidump.js';
export type { ArmWriteOptions } from './minidump-writer.js';
export { ARM_PTE_FORMATS, armPteFormat, type ArmPteFormat } from './pte-format.js';
export { SubpageSpace } from './subpage-space.js';
export {
  ArmV4Format,
  armV4Format,
  armV6SubpagesFormat,
  armXscale3Format,
  armXscaleFormat,
  type ArmV4Options,
} from './v4-format.js';
export { ArmV6Format, type ArmV6Options } from './v6-format.js';
export { armTableEncoder } from './table-encoder.js';
export { armWalker, type ArmWalkOptions } from './walker.js';

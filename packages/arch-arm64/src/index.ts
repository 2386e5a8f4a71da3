/**
 * The 64-bit Arm architecture for libkvm for TypeScript: page-table entries and walkers, and FreeBSD/arm64 minidumps.
 *
 * @packageDocumentation
 */
export { arm64 } from './architecture.js';
export { Arm64Format, type Arm64View } from './format.js';
export type { Granule } from './granule.js';
export { arm64MinidumpHeader } from './header.js';
export { arm64Minidump, arm64MinidumpDialect, type Arm64MinidumpOptions } from './minidump.js';
export { arm64TableEncoder } from './table-encoder.js';
export { arm64Walker } from './walker.js';

/**
 * The amd64 architecture for libkvm for TypeScript: page-table entries, walkers and FreeBSD/amd64 minidumps.
 *
 * @packageDocumentation
 */
export { amd64 } from './architecture.js';
export { amd64Format } from './format.js';
export { amd64MinidumpHeader } from './header.js';
export { amd64Minidump } from './minidump.js';
export { amd64MinidumpWriter } from './minidump-writer.js';
export { amd64TableEncoder } from './table-encoder.js';
export { amd64Walker } from './walker.js';

/**
 * The i386 architecture for libkvm for TypeScript: page-table entries with and without PAE, walkers and FreeBSD/i386
 * minidumps.
 *
 * @packageDocumentation
 */
export { i386 } from './architecture.js';
export { i386NopaeFormat, i386NopaeSmallFormat } from './format-nopae.js';
export { i386PaeFormat } from './format-pae.js';
export { i386MinidumpHeader } from './header.js';
export { i386Minidump } from './minidump.js';
export { i386NopaeTableEncoder, i386PaeTableEncoder } from './table-encoder.js';
export { i386Walker } from './walker.js';

/**
 * The pmap-independent heart of libkvm for TypeScript: byte sources, struct tables, physical ranges, page bitmaps,
 * address spaces, and the layout that all FreeBSD kernel minidumps share. It knows no architecture, needs no runtime
 * and has no dependencies.
 *
 * @packageDocumentation
 */
export * from './address-space.js';
export * from './architecture.js';
export * from './block-cache.js';
export * from './byte-source.js';
export * from './core.js';
export * from './dialect.js';
export * from './dump-avail.js';
export * from './errors.js';
export * from './format.js';
export * from './kva.js';
export * from './minidump.js';
export * from './minidump-layout.js';
export * from './page-ranges.js';
export * from './physical-memory.js';
export * from './sparse-pages.js';
export * from './stored-bitmap.js';
export * from './struct.js';
export * from './radix-format.js';
export { RadixSpace } from './radix-space.js';

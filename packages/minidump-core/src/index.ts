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
export { counted, cutShort } from './counts.js';
export * from './dialect.js';
export { readDumpAvail } from './dump-avail.js';
export * from './errors.js';
export * from './format.js';
export * from './header-overrides.js';
export * from './identity-space.js';
export * from './kva.js';
export { LeafTable } from './leaf-table.js';
export * from './losses.js';
export * from './minidump.js';
export * from './note-layout.js';
export * from './minidump-plan.js';
export * from './minidump-writer.js';
export type { SectionPlan } from './dump-sections.js';
export { exactly, PieceBuffer } from './dump-sections.js';
export * from './flat-table.js';
export { wholePages, type PageMapping } from './whole-pages.js';
export type { SparePages } from './plan-sections.js';
export * from './minidump-layout.js';
export * from './page-ranges.js';
export * from './physical-memory.js';
export { RootSearch } from './root-search.js';
export * from './sparse-pages.js';
export * from './stored-bitmap.js';
export * from './struct.js';
export * from './radix-format.js';
export { RadixSpace, type AddressHole } from './radix-space.js';
export { SegmentMemory, type PhysicalSegment, type SegmentOptions } from './segment-memory.js';
export * from './crc32.js';
export * from './dump-format.js';
export * from './dump-plan.js';
export * from './dump-source.js';
export * from './dump-write.js';
export { LEAF_BITS } from './leaf.js';
export { literalAddressSpace, literalMemory, type LiteralMapping } from './literal-space.js';
export * from './page-bitmap.js';
export { PageSelection, requireSoundTables, type Selection, type SelectionReport } from './page-selection.js';
export * from './portable-header.js';
export { portableFormat } from './portable-open.js';
export type { PortableOptions, SegmentReport } from './portable-plan.js';
export { verifyCore, type Problem, type VerifyReport } from './verify.js';
export { checkedDirectMap } from './direct-map.js';
export { copyRuns, MemoryRuns, type MemoryRunOptions, type PhysicalRun } from './memory-runs.js';
export { withDirectMap } from './direct-mappings.js';
export { PhysicalUse } from './physical-use.js';
export { SourceWalk, countDamage, noDamage, type KvaWindow, type WalkDamage } from './source-walk.js';
export type { EntryHalves, LeafKind, TableEncoder, TableLevel } from './table-encoder.js';
export { TableTree } from './table-tree.js';

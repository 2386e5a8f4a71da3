import {
  LEAF_BITS,
  portableHeader,
  portableSection,
  portableSegment,
  portableTrailer,
  type Struct,
  type StructSpec,
} from '../src/index.js';

/** What stands between `<!-- NAME -->` and `<!-- end -->` in docs/formats/portable.md, by name. */
const TABLES: Readonly<Record<string, () => string>> = {
  header: () => structTable(portableHeader),
  section: () => structTable(portableSection),
  segment: () => structTable(portableSegment),
  trailer: () => structTable(portableTrailer),
  leaf: leafTable,
};

/** The document with its tables made anew from the definitions that reader and writer use. */
export function withTables(document: string): string {
  const missing = Object.keys(TABLES).filter((name) => !document.includes(`<!-- ${name} -->`));
  if (missing.length > 0) throw new Error(`the document has no place for: ${missing.join(', ')}`);
  return document.replace(
    /(<!-- (\w+) -->)[\s\S]*?(<!-- end -->)/g,
    (_all, start: string, name: string, end: string) => {
      if (!Object.hasOwn(TABLES, name)) throw new Error(`no table ${name}`);
      return `${start}\n\n${TABLES[name]()}\n\n${end}`;
    },
  );
}

function structTable<S extends StructSpec>(struct: Struct<S>): string {
  return `${struct.toMarkdown()}\n\n${struct.size} bytes.`;
}

function leafTable(): string {
  const rows = LEAF_BITS.map(([bits, name, meaning]) => `| ${bits} | ${name || '–'} | ${meaning} |`);
  return ['| bits | name | meaning |', '|---|---|---|', ...rows].join('\n');
}

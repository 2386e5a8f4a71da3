import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { describe, expect, it } from 'vitest';
import { CHECKSUMS_AT, MAX_SECTIONS, PORTABLE_ALIGN, SECTION_TABLE_AT } from '../src/index.js';
import { MAX_NOTE, NOTE_SECTIONS } from '../src/portable-header.js';
import { withTables } from './format-document.js';

const DOCUMENT = fileURLToPath(new URL('../../../docs/formats/portable.md', import.meta.url));
const text = readFileSync(DOCUMENT, 'utf8');

describe('docs/formats/portable.md', () => {
  it('has the tables of the definitions (`npx vitest run portable-document -u` writes them anew)', async () => {
    const config = await resolveConfig(DOCUMENT);
    const wanted = await format(withTables(text), { ...config, parser: 'markdown' });
    await expect(wanted).toMatchFileSnapshot(DOCUMENT);
  });

  it('has the numbers of the definitions', () => {
    expect(text).toContain(`at offset ${SECTION_TABLE_AT}`);
    expect(text).toContain(`at most ${MAX_SECTIONS} sections`);
    expect(text).toContain(`multiples of ${PORTABLE_ALIGN}`);
    expect(text).toContain(`from offset ${CHECKSUMS_AT} on`);
    expect(text).toContain(`at most ${MAX_NOTE} bytes`);
    for (const name of NOTE_SECTIONS) expect(text).toContain(`\`${name}\``);
  });
});

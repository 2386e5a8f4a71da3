import { expect, it } from 'vitest';
import { format, resolveConfig } from 'prettier';
import { fileURLToPath } from 'node:url';
import { helpDocument } from '../src/help-document.js';
import { createProgram } from '../src/program.js';
import { Session } from '../src/session.js';
import { Collector } from './run.js';
import { Readable } from 'node:stream';

const DOCUMENT = fileURLToPath(new URL('../../../docs/vmcore.md', import.meta.url));

it('docs/vmcore.md says what the help says (`npx vitest run packages/vmcore -u` writes it anew)', async () => {
  const io = { stdin: Readable.from([]), stdout: new Collector(), stderr: new Collector(), env: {} };
  const text = helpDocument(createProgram(new Session(io)));
  const config = await resolveConfig(DOCUMENT);
  await expect(await format(text, { ...config, parser: 'markdown' })).toMatchFileSnapshot(DOCUMENT);
});

// `npm run test:browser`: the neutral builds in Chromium, asked the same as in Node. Without a Chromium it is skipped:
// set CHROME_PATH to one, or install e.g. Debian's chromium-headless-shell.
import './node-version.mjs';
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { build as bundle } from 'tsup';
import { build } from './build.mjs';
import { cacheFolder, isNeutral, packages, root } from './workspace.mjs';

const folder = join(cacheFolder, 'browser');
const tests = join(root, 'packages', 'kvm-reader', 'test', 'browser');

/** Where browsers are on common systems, the small ones first. */
const KNOWN = [
  '/usr/bin/chromium-headless-shell',
  '/usr/lib/chromium/chromium-headless-shell',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
];

/** The path of a Chromium: of the one that is named, and of no other, where one is; or undefined. */
function findBrowser() {
  const named = process.env.CHROME_PATH ?? process.env.PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH;
  const candidates = named ? [named] : [chromium.executablePath(), ...KNOWN];
  return candidates.find((path) => path && existsSync(path));
}

/** Bundles a program of the lane. What runs in the page is made of the published entries, with no shims. */
async function bundleProgram(name, neutral) {
  await bundle({
    entry: { [name]: join(tests, `${name}.ts`) },
    ...{ outDir: folder, format: ['esm'], target: 'es2022', platform: neutral ? 'browser' : 'node' },
    ...{ config: false, silent: true, clean: false, dts: false, noExternal: [/^@libkvm\//] },
    tsconfig: join(root, neutral ? 'tsconfig.build.json' : 'tsconfig.json'),
    outExtension: () => ({ js: '.mjs' }),
    esbuildOptions(options) {
      options.absWorkingDir = root;
      if (neutral) options.alias = neutralEntries();
    },
  });
  return join(folder, `${name}.mjs`);
}

/** The packages that must run in a browser, by name: their built neutral entry. */
function neutralEntries() {
  const neutral = packages().filter(
    (item) => item.published && isNeutral(item) && item.entries.includes('index'),
  );
  return Object.fromEntries(neutral.map((item) => [item.name, join(item.dir, 'dist', 'index.js')]));
}

/** Serves files by ranges, and as a whole; to pages of any origin. */
async function serve(files) {
  const server = createServer((request, response) => {
    const file = files[request.url];
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-expose-headers', 'content-range, etag');
    if (file === undefined) return response.writeHead(404).end();
    const type = request.url.endsWith('.mjs') ? 'text/javascript' : 'text/html';
    const [, from, to] = (/^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []).map(Number);
    if (from === undefined) return response.writeHead(200, { 'content-type': type }).end(file);
    const part = file.subarray(from, to + 1);
    const range = `bytes ${from}-${from + part.length - 1}/${file.length}`;
    return response.writeHead(206, { 'content-range': range, etag: '"1"' }).end(part);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, base: `http://127.0.0.1:${server.address().port}` };
}

/** Asks every case in the page and in Node; gives the names of those whose answers differ. */
async function compare(page, cases, base, { expectedAnswers }) {
  const wrong = [];
  for (const { files, ...one } of cases) {
    const wanted = await expectedAnswers(one, files[one.core], one.kernel && files[one.kernel]);
    const found = await page.evaluate(
      ([asked, at]) => globalThis.lane.answersInBrowser(asked, at),
      [one, base],
    );
    for (const way of Object.keys(wanted)) {
      try {
        assert.deepEqual(asJson(found[way]), asJson(wanted[way]));
      } catch (error) {
        wrong.push(`${one.name}, ${way}: ${error.message.slice(0, 600)}`);
      }
    }
  }
  return wrong;
}

/** Fields that are undefined do not count. */
function asJson(value) {
  return JSON.parse(JSON.stringify(value));
}

async function main() {
  const executablePath = findBrowser();
  if (executablePath === undefined) {
    const named = process.env.CHROME_PATH ? ` at CHROME_PATH (${process.env.CHROME_PATH})` : '';
    console.error(`skipped: no Chromium found${named}; set CHROME_PATH, or install chromium-headless-shell`);
    return;
  }
  await build({ types: false });
  mkdirSync(folder, { recursive: true });
  const [answersFile, casesFile] = [
    await bundleProgram('answers', true),
    await bundleProgram('cases', false),
  ];
  const program = await import(pathToFileURL(answersFile).href);
  const cases = (await import(pathToFileURL(casesFile).href)).browserCases();
  const text = readFileSync(answersFile);
  const start = "import * as lane from './answers.mjs'; globalThis.lane = lane;";
  const html = Buffer.from(`<!doctype html><title>libkvm</title><script type="module">${start}</script>`);
  const site = await serve({ '/': html, '/answers.mjs': text });
  const store = await serve(Object.assign({}, ...cases.map(({ files }) => files)));
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    const complaints = [];
    page.on('pageerror', (error) => complaints.push(`the page threw: ${error.message}`));
    await page.goto(`${site.base}/`);
    await page.waitForFunction(() => globalThis.lane !== undefined, undefined, { timeout: 15_000 });
    const shims = await page.evaluate(() => globalThis.lane.shims());
    if (shims.length > 0) complaints.push(`the page has ${shims.join(', ')}: the lane would prove nothing`);
    complaints.push(...(await compare(page, cases, store.base, program)));
    for (const complaint of complaints) console.error(complaint);
    if (complaints.length > 0) process.exitCode = 1;
    else console.error(`browser: ${cases.length} cores answer as in Node, in Chromium ${browser.version()}`);
  } finally {
    await browser.close();
    for (const { server } of [site, store]) {
      server.closeAllConnections();
      server.close();
    }
  }
}

await main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

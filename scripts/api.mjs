// API reports: `node scripts/api.mjs` compares packages/*/etc/*.api.md with the built declarations,
// `--update` writes them. A difference is a change of the public API, to be reviewed like code.
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor';
import { existsSync, mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { cacheFolder, packages, root } from './workspace.mjs';

const update = process.argv.includes('--update');
const silent = { default: { logLevel: 'none' } };
const messages = {
  compilerMessageReporting: { default: { logLevel: 'error' } },
  extractorMessageReporting: {
    default: { logLevel: 'warning', addToApiReportFile: true },
    'ae-missing-release-tag': { logLevel: 'none' },
    // Marked in place already; the list at the end would carry line numbers.
    'ae-undocumented': { logLevel: 'none' },
    'ae-unresolved-link': { logLevel: 'none' },
  },
  tsdocMessageReporting: silent,
};

const declarations = (item, entry) => join(item.dir, 'dist', `${entry}.d.ts`);

/** True where the report of one entry is up to date, or now is. */
function check(item, entry) {
  const reportName = entry === 'index' ? item.folder : `${item.folder}-${entry}`;
  const reportFolder = join(item.dir, 'etc');
  if (update) mkdirSync(reportFolder, { recursive: true });
  const config = ExtractorConfig.prepare({
    configObject: {
      projectFolder: item.dir,
      mainEntryPointFilePath: declarations(item, entry),
      newlineKind: 'lf',
      compiler: { overrideTsconfig: compilerSettings, skipLibCheck: true },
      apiReport: {
        enabled: true,
        reportFileName: `${reportName}.api.md`,
        reportFolder,
        reportTempFolder: join(cacheFolder, 'api'),
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages,
    },
    configObjectFullPath: undefined,
    packageJsonFullPath: join(item.dir, 'package.json'),
  });
  let quiet = true;
  const result = Extractor.invoke(config, {
    localBuild: update,
    messageCallback(message) {
      if (message.logLevel === 'error') {
        quiet = false;
        console.error(`${reportName}: ${message.text}`);
      }
      message.handled = true;
    },
  });
  const report = relative(root, join(reportFolder, `${reportName}.api.md`));
  if (result.apiReportChanged && update) console.log(`${report}: updated`);
  if (result.apiReportChanged && !update) {
    console.error(`${report} is not what the sources export; \`npm run api\` updates it.`);
  }
  return quiet && (update || !result.apiReportChanged);
}

const compilerSettings = {
  compilerOptions: {
    target: 'ES2022',
    lib: ['ES2023', 'DOM'],
    module: 'ESNext',
    moduleResolution: 'bundler',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
  },
};

let passed = true;
for (const item of packages().filter(({ typed, hasSources }) => typed && hasSources)) {
  for (const entry of item.entries) {
    if (existsSync(declarations(item, entry))) {
      passed = check(item, entry) && passed;
    } else {
      console.error(`${item.name} has no declarations yet: \`npm run build\` makes them.`);
      passed = false;
    }
  }
}
if (!passed) process.exitCode = 1;

// Removes everything the build wrote; node_modules stays.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, packages, root } from './workspace.mjs';

const remove = (path) => rmSync(path, { recursive: true, force: true });
for (const { dir } of packages()) remove(join(dir, 'dist'));
remove(join(root, 'coverage'));
remove(cacheFolder);

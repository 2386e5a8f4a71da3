// Writing every format, of every architecture: create and convert beside a plain copy of the result.
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { planConversion } from '../packages/kvm-reader/dist/index.js';
import { defaultArchitectures, openKvmFile, writeDumpFile } from '../packages/kvm-reader/dist/node.js';
import { withFolderAsync } from './cores.mjs';
import { copyFile, makeImage, openImage, timed } from './create.mjs';
import { MACHINES } from './machines.mjs';
import { figure, median } from './measure.mjs';

const MB = 2 ** 20;
const BYTES = 64 * MB;
const ROUNDS = 5;
/** What the result may take, beside copying it. */
const LIMIT = 1.25;

/** @param print called with a line about what is going on */
export async function benchConvert(print = () => undefined) {
  return withFolderAsync(async (folder) => {
    print('writing FreeBSD minidumps and ELF cores of an amd64 image of 1 GB');
    const rows = await amd64(folder);
    for (const [name, make] of Object.entries(MACHINES)) {
      print(`converting cores of ${name}`);
      const path = join(folder, 'core');
      writeFileSync(path, make(BYTES).file.bytes());
      const formats =
        name === 'arm64' ? ['portable', 'elf', 'elf-kva'] : ['freebsd', 'portable', 'elf', 'elf-kva'];
      for (const format of formats) {
        rows.push(await writing(`convert ${name} to ${format}`, () => openKvmFile(path), { format }, folder));
      }
    }
    return rows;
  });
}

async function amd64(folder) {
  const image = makeImage(join(folder, 'image'));
  const rows = [];
  const targets = [1, 2, 3].map((version) => ({ format: 'freebsd', version }));
  for (const target of [...targets, { format: 'elf-kva' }]) {
    const name = `create amd64 ${target.format} ${target.version ?? ''}`.trim();
    // Version 1 has 2^32 bytes for entries: 2 TB of KVA do not fit.
    rows.push(await writing(name, () => openImage(image), target, folder));
  }
  const v3 = join(folder, 'v3');
  const kvm = openImage(image);
  await writeDumpFile(planConversion(kvm, { ...targets[2], architectures: defaultArchitectures }), v3);
  kvm.close();
  for (const format of ['portable', 'freebsd', 'elf', 'elf-kva']) {
    rows.push(
      await writing(`convert amd64 freebsd 3 to ${format}`, () => openKvmFile(v3), { format }, folder),
    );
  }
  rmSync(v3);
  rmSync(image.path);
  return rows;
}

/** Opening, planning and writing take turns with the copy. */
async function writing(name, open, target, folder) {
  const file = join(folder, 'out');
  const copy = join(folder, 'copy');
  const times = { ours: [], copy: [] };
  for (let round = -1; round < ROUNDS; round++) {
    rmSync(file, { force: true });
    const ours = await timed(async () => {
      const kvm = open();
      await writeDumpFile(planConversion(kvm, { ...target, architectures: defaultArchitectures }), file);
      kvm.close();
    });
    const copied = await timed(() => copyFile(file, copy));
    rmSync(copy);
    if (round < 0) continue;
    times.ours.push(ours);
    times.copy.push(copied);
  }
  const { size } = statSync(file);
  rmSync(file);
  return figure({
    ...{ name: `${name}, ${Math.round(size / 1e6)} MB`, unit: 'ms', limit: LIMIT },
    ...{ value: median(times.ours), floor: median(times.copy) },
    floorIs: 'read/write loop and fsync over the same bytes',
  });
}

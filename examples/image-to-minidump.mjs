// @ts-check
// A memory image to a portable minidump: node examples/image-to-minidump.mjs [IMAGE OUT]
// The image is an ELF core with physical memory, as QEMU's `dump-guest-memory` writes it.
import { openKvmFile, writeDumpFile } from '@libkvm/kvm-reader/node';
import { dumpSourceOf, planPortable } from '@libkvm/minidump-core';

/**
 * @param {string} image
 * @param {string} out
 */
export async function imageToMinidump(image, out) {
  const kvm = openKvmFile(image);
  try {
    const plan = planPortable(dumpSourceOf(kvm.core));
    await writeDumpFile(plan, out);
    return plan.report;
  } finally {
    kvm.close();
  }
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const [image, out] = process.argv.slice(2);
  const files = image && out ? { image, out } : (await import('./sample-image.mjs')).sampleImage();
  const { pages, mappings, size, metadataShare } = await imageToMinidump(files.image, files.out);
  console.log(`${files.out}: ${pages} pages in ${mappings} mappings, ${size} bytes`);
  console.log(`${(metadataShare * 100).toFixed(1)} % of it is not memory`);
}

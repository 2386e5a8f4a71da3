// @ts-check
// Any core in another format: node examples/convert-core.mjs [CORE OUT [FORMAT]]
// FORMAT is portable, freebsd, elf (a full dump), or elf-kva (a core for gdb and lldb, with the kernel file).
import { planConversion } from '@libkvm/kvm-reader';
import { defaultArchitectures, openKvmFile, writeDumpFile } from '@libkvm/kvm-reader/node';

/**
 * @param {string} core
 * @param {string} out
 * @param {string} format
 */
export async function convertCore(core, out, format) {
  const kvm = openKvmFile(core);
  try {
    const plan = planConversion(kvm, { format, architectures: defaultArchitectures });
    await writeDumpFile(plan, out); // whole, or not at all
    return plan.report; // pages, what was left out, what the format cannot hold
  } finally {
    kvm.close();
  }
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const [core = (await import('./sample.mjs')).sampleFiles().core, out = `${core}.elf`, format = 'elf-kva'] =
    process.argv.slice(2);
  const { size, pages, losses } = await convertCore(core, out, format);
  console.log(`${out}: ${format}, ${pages} pages, ${size} bytes`);
  for (const loss of losses) console.log(`lost: ${loss}`);
}

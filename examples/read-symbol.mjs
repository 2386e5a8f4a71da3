// @ts-check
// The value of a kernel variable: node examples/read-symbol.mjs [CORE KERNEL [NAME]]
import { openKvmFile } from '@libkvm/kvm-reader/node';

/**
 * @param {string} core
 * @param {string} kernel
 * @param {string} name a 32-bit variable
 */
export function readSymbol(core, kernel, name) {
  const kvm = openKvmFile(core, { kernel });
  try {
    const address = kvm.symbol(name);
    return { address, value: kvm.readU32(address) };
  } finally {
    kvm.close();
  }
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const [core, kernel, name = 'hz'] = process.argv.slice(2);
  const files = core && kernel ? { core, kernel } : (await import('./sample.mjs')).sampleFiles();
  const { address, value } = readSymbol(files.core, files.kernel, name);
  console.log(`${name} at 0x${address.toString(16)} is ${value}`);
}

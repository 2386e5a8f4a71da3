// @ts-check
// A variable of a core that lies on a web server, without fetching the core: node examples/http-core.mjs [URL KERNEL-URL]
// In a browser it is the same program.
import { amd64 } from '@libkvm/arch-amd64';
import { httpSource, openKvmAsync } from '@libkvm/kvm-reader';

/**
 * @param {string | URL} core
 * @param {string | URL} kernel
 * @param {string} name a 32-bit variable
 */
export async function readOverHttp(core, kernel, name) {
  const kvm = await openKvmAsync(await httpSource(core), {
    architectures: [amd64],
    kernel: await httpSource(kernel),
  });
  try {
    const value = await kvm.readU32(await kvm.symbol(name));
    return { value, ...kvm.fetched };
  } finally {
    kvm.close();
  }
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const [core, kernel] = process.argv.slice(2);
  if (!core || !kernel) {
    console.log('two URLs are needed: of a core, and of its kernel');
  } else {
    const { value, requests, bytes } = await readOverHttp(core, kernel, 'hz');
    console.log(`hz is ${value}; ${requests} requests for ${bytes} bytes of the core`);
  }
}

// @ts-check
// Walks a linked list in kernel memory, allproc: node examples/walk-list.mjs [CORE KERNEL]
//
// The kernel says itself where the fields of struct proc lie: proc_off_p_pid and its like are variables of every
// FreeBSD kernel (sys/kern/kern_proc.c), made for debuggers that have no type information.
import { openKvmFile } from '@libkvm/kvm-reader/node';

/**
 * @param {string} core
 * @param {string} kernel
 * @returns {{ pid: number, name: string, address: bigint }[]}
 */
export function processes(core, kernel) {
  const kvm = openKvmFile(core, { kernel });
  try {
    /** @param {string} field */
    const offsetOf = (field) => BigInt(kvm.readU32(kvm.symbol(`proc_off_${field}`)));
    const [pid, comm, list] = [offsetOf('p_pid'), offsetOf('p_comm'), offsetOf('p_list')];
    const found = [];
    // A damaged list may run in circles: a kernel has no more processes than PIDs.
    for (let proc = kvm.readPointer(kvm.symbol('allproc')); proc !== 0n && found.length < 100_000;) {
      found.push({ pid: kvm.readU32(proc + pid), name: kvm.readCString(proc + comm, 20), address: proc });
      proc = kvm.readPointer(proc + list);
    }
    return found;
  } finally {
    kvm.close();
  }
}

if (import.meta.url.endsWith(process.argv[1]?.split(/[/\\]/).pop() ?? '-')) {
  const [core, kernel] = process.argv.slice(2);
  const files = core && kernel ? { core, kernel } : (await import('./sample.mjs')).sampleFiles();
  for (const { pid, name, address } of processes(files.core, files.kernel)) {
    console.log(`${String(pid).padStart(6)}  ${name.padEnd(20)}  0x${address.toString(16)}`);
  }
}

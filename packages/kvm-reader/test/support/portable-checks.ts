import type { Prng } from '@libkvm/fixtures';
import { Mapping } from '@libkvm/minidump-core';
import type { ModelDump } from '../../../minidump-core/test/portable-model.js';
import type { Kvm } from '../../src/kvm.js';
import { checkError } from './faults.js';

/** The byte that the tables of the file, read literally, give at an address. */
function modelByte(model: ModelDump, kva: bigint): number | undefined {
  const { header } = model;
  const top = 1n << (header.elfClass === 1 ? 32n : 64n);
  if (kva >= top) return undefined;
  const dmapEnd = header.dmapEnd === 0n ? top : header.dmapEnd;
  const page = kva & ~0xfffn;
  const direct = (header.flags & 2) !== 0 && page >= header.dmapBase && page < dmapEnd;
  const pa = direct ? kva - header.dmapBase + header.dmapPhys : model.translate(kva)?.pa;
  return pa === undefined ? undefined : model.byteAt(pa);
}

function probes(model: ModelDump, prng: Prng): bigint[] {
  const edges = model.segments.flatMap(({ kva, count, granuleShift }) => {
    const granule = 1n << BigInt(granuleShift & 63);
    const length = count * granule;
    const inside = kva + BigInt(prng.below(Number(count % 1000n) + 1)) * granule;
    return [kva, kva + length, inside, kva + length / 2n];
  });
  const around = edges.flatMap((kva) => [kva - 3n, kva, kva + 0x3fen, kva + 0xffcn]);
  const { dmapBase, dmapEnd } = model.header;
  return [...around, dmapBase, dmapEnd - 8n]
    .map((kva) => BigInt.asUintN(model.header.elfClass === 1 ? 32 : 64, kva))
    .slice(0, 200);
}

/** Reads around every edge of the tables: each byte is the one that the file, read literally, has there. */
export function checkReads(kvm: Kvm, model: ModelDump, prng: Prng): void {
  for (const kva of probes(model, prng)) {
    const length = prng.pick([1, 8, 1030, 5000]);
    const { bytes, fault } = kvm.readPartial(kva, length);
    for (let i = 0; i < bytes.length; i += i < 8 ? 1 : 331) {
      if (bytes[i] !== modelByte(model, kva + BigInt(i)))
        throw new Error(`${(kva + BigInt(i)).toString(16)}: not the byte that the tables say`);
    }
    if (fault) {
      checkError(fault);
      const there = modelByte(model, kva + BigInt(bytes.length));
      // What lies past the end of a cut file has no byte in the model either.
      if (there !== undefined) throw new Error(`${kva.toString(16)}: ${fault.message}, but it is there`);
    } else if (bytes.length !== length) throw new Error('short without a fault');
  }
}

/** Looks at the start of every enumeration; none may throw anything but a KvmError, or go back. */
export function checkWalks(kvm: Kvm): void {
  const mapping = new Mapping();
  const cursor = kvm.core.addressSpace!.mappings(0, kvm.core.bits === 32 ? 2 ** 20 : 2 ** 52);
  let before = 0;
  for (let rows = 0; rows < 300 && cursor.next(mapping); rows++) {
    const at = mapping.page * 4096 + mapping.offset;
    if (at < before || !(mapping.length > 0)) throw new Error('a walk that goes back');
    before = at;
  }
  let rows = 0;
  for (const _ of kvm.pages()) if (++rows > 300) break;
}

/**
 * A page-table walk in the plainest words (Intel SDM volume 3, sections 5.3 and 5.4), over pages in a Map: nothing here
 * is shared with the walker.
 */

export type Mode = 'small' | 'nopae' | 'pae';

export type Found =
  | { readonly outcome: 'mapped'; readonly pa: number; readonly pageSize: number; readonly rights: string }
  | { readonly outcome: 'unmapped' }
  /** `pa`: of the table. */
  | { readonly outcome: 'no table'; readonly pa: number };

type Pages = ReadonlyMap<number, Uint8Array>;

const FRAME = 0xffffffffff000n;

export function plainWalk(pages: Pages, mode: Mode, root: number, kva: number): Found {
  return mode === 'pae'
    ? walkPae(pages, root, BigInt(kva))
    : walkNopae(pages, root, BigInt(kva), mode === 'nopae');
}

function walkNopae(pages: Pages, root: number, kva: bigint, bigPages: boolean): Found {
  const at = root + Number(kva >> 22n) * 4;
  const pde = read(pages, at, 4);
  if (pde === undefined) return { outcome: 'no table', pa: root };
  if ((pde & 1n) === 0n) return { outcome: 'unmapped' };
  if (bigPages && (pde & 0x80n) !== 0n) {
    const high = (pde >> 13n) & 0xffn;
    const pa = (high << 32n) | (pde & 0xffc00000n) | (kva & 0x3fffffn);
    return mapped(pa, 0x400000, [pde]);
  }
  const table = Number(pde & 0xfffff000n);
  const pte = read(pages, table + Number((kva >> 12n) & 1023n) * 4, 4);
  if (pte === undefined) return { outcome: 'no table', pa: table };
  if ((pte & 1n) === 0n) return { outcome: 'unmapped' };
  return mapped((pte & 0xfffff000n) | (kva & 0xfffn), 0x1000, [pde, pte]);
}

function walkPae(pages: Pages, root: number, kva: bigint): Found {
  const pointer = read(pages, root + Number(kva >> 30n) * 8, 8);
  if (pointer === undefined) return { outcome: 'no table', pa: root };
  if ((pointer & 1n) === 0n) return { outcome: 'unmapped' };
  const directory = Number(pointer & FRAME);
  const pde = read(pages, directory + Number((kva >> 21n) & 511n) * 8, 8);
  if (pde === undefined) return { outcome: 'no table', pa: directory };
  if ((pde & 1n) === 0n) return { outcome: 'unmapped' };
  if ((pde & 0x80n) !== 0n) return mapped((pde & 0xfffffffe00000n) | (kva & 0x1fffffn), 0x200000, [pde]);
  const table = Number(pde & FRAME);
  const pte = read(pages, table + Number((kva >> 12n) & 511n) * 8, 8);
  if (pte === undefined) return { outcome: 'no table', pa: table };
  if ((pte & 1n) === 0n) return { outcome: 'unmapped' };
  return mapped((pte & FRAME) | (kva & 0xfffn), 0x1000, [pde, pte]);
}

function mapped(pa: bigint, pageSize: number, entries: readonly bigint[]): Found {
  const all = (bit: bigint): boolean => entries.every((entry) => (entry & bit) !== 0n);
  const executable = entries.every((entry) => entry >> 63n === 0n);
  const global = (entries.at(-1)! & 0x100n) !== 0n;
  const letters = ['r', all(2n) ? 'w' : '-', executable ? 'x' : '-', all(4n) ? 'u' : '-', global ? 'g' : '-'];
  return { outcome: 'mapped', pa: Number(pa), pageSize, rights: letters.join('') };
}

function read(pages: Pages, pa: number, bytes: 4 | 8): bigint | undefined {
  const page = pages.get(pa - (pa % 4096));
  if (page === undefined) return undefined;
  const view = new DataView(page.buffer, page.byteOffset);
  return bytes === 8 ? view.getBigUint64(pa % 4096, true) : BigInt(view.getUint32(pa % 4096, true));
}

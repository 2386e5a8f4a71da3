/** A slow, obvious reader of ELF cores, which shares nothing with the library. */
export interface PlainSegment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  readonly align: bigint;
}

export interface PlainElf {
  readonly bits: 32 | 64;
  readonly little: boolean;
  readonly osabi: number;
  readonly type: number;
  readonly machine: number;
  readonly version: number;
  readonly segments: readonly PlainSegment[];
}

/** Field offsets of the file header and the program headers, by class (System V gABI, chapters 4 and 5). */
const HEADER = {
  32: { phoff: 28, shoff: 32, phentsize: 42, phnum: 44, shnum: 48, info: 28 },
  64: { phoff: 32, shoff: 40, phentsize: 54, phnum: 56, shnum: 60, info: 44 },
};

export function plainElf(bytes: Uint8Array): PlainElf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const bits = bytes[4] === 1 ? 32 : 64;
  const little = bytes[5] === 1;
  const at = HEADER[bits];
  const word = (offset: number): bigint =>
    bits === 32 ? BigInt(view.getUint32(offset, little)) : view.getBigUint64(offset, little);
  let count = view.getUint16(at.phnum, little);
  if (count === 0xffff) {
    if (view.getUint16(at.shnum, little) !== 1) throw new Error('no section header with the number');
    count = view.getUint32(Number(word(at.shoff)) + at.info, little);
  }
  const phoff = Number(word(at.phoff));
  const size = view.getUint16(at.phentsize, little);
  const segments = Array.from({ length: count }, (_, i): PlainSegment => {
    const start = phoff + i * size;
    const type = view.getUint32(start, little);
    if (bits === 64) {
      const [offset, vaddr, paddr, filesz, memsz, align] = [8, 16, 24, 32, 40, 48].map((n) =>
        word(start + n),
      );
      const flags = view.getUint32(start + 4, little);
      return { type, flags, offset: Number(offset), vaddr, paddr, filesz, memsz, align };
    }
    const [offset, vaddr, paddr, filesz, memsz] = [4, 8, 12, 16, 20].map((n) => word(start + n));
    const flags = view.getUint32(start + 24, little);
    return { type, flags, offset: Number(offset), vaddr, paddr, filesz, memsz, align: word(start + 28) };
  });
  return {
    ...{ bits, little, osabi: bytes[7], type: view.getUint16(16, little) },
    ...{ machine: view.getUint16(18, little), version: view.getUint32(20, little), segments },
  };
}

/** PT_LOAD segments. */
export function loads({ segments }: PlainElf): PlainSegment[] {
  return segments.filter(({ type }) => type === 1);
}

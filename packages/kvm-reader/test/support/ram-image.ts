import type { SimRam } from '@libkvm/fixtures';
import type { ByteSource } from '@libkvm/minidump-core';

/** Simulated RAM as a raw image: its ranges one behind the other. */
export function ramImage(ram: SimRam): {
  source: ByteSource;
  ranges: { pa: number; offset: number; length: number }[];
} {
  let size = 0;
  const ranges = ram.ranges.map(({ start, end }) => {
    const range = { pa: start, offset: size, length: end - start };
    size += range.length;
    return range;
  });
  const source: ByteSource = {
    size,
    readSync(offset, target, at, length) {
      let done = 0;
      for (const range of ranges) {
        const inside = offset + done - range.offset;
        if (inside < 0 || inside >= range.length || done >= length) continue;
        const count = Math.min(length - done, range.length - inside);
        target.set(ram.readBytes(range.pa + inside, count), at + done);
        done += count;
      }
      return done;
    },
  };
  return { source, ranges };
}

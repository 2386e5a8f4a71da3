// The parts of pako's zlib port that are used: pako's own types describe its simple functions alone.
declare module 'pako/lib/zlib/zstream.js' {
  /** z_stream of zlib.h, with bytes and positions for its pointers. */
  export default class ZStream {
    input: Uint8Array | null;
    next_in: number;
    avail_in: number;
    output: Uint8Array | null;
    next_out: number;
    avail_out: number;
    msg: string;
    /** After Z_BLOCK: unused bits of the last byte, 64 in the last block, 128 at the end of a block. */
    data_type: number;
  }
}

declare module 'pako/lib/zlib/inflate.js' {
  import type ZStream from 'pako/lib/zlib/zstream.js';

  interface Inflate {
    inflateInit2(stream: ZStream, windowBits: number): number;
    inflate(stream: ZStream, flush: number): number;
  }
  const inflate: Inflate;
  export default inflate;
}

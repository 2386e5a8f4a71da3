const BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
const CHARACTERS = Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.',
);
const WIDTH = 16;

/** Lines of address, 16 bytes and their ASCII characters, as hexdump -C prints them. */
export class Hexdump {
  /** Bytes that did not yet fill a line. */
  private readonly row = new Uint8Array(WIDTH);
  private filled = 0;

  /** @param address of the first byte */
  constructor(
    private address: bigint,
    private readonly bits: 32 | 64,
  ) {}

  /** The lines that these bytes complete. */
  *add(bytes: Uint8Array): Generator<string, void, undefined> {
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(WIDTH - this.filled, bytes.length - at);
      for (let i = 0; i < count; i++) this.row[this.filled + i] = bytes[at + i];
      this.filled += count;
      at += count;
      if (this.filled === WIDTH) yield this.take();
    }
  }

  /** The line of what is left, if anything is. */
  *end(): Generator<string, void, undefined> {
    if (this.filled > 0) yield this.take();
  }

  private take(): string {
    let hex = '';
    let text = '';
    for (let i = 0; i < WIDTH; i++) {
      const gap = i === WIDTH / 2 ? '  ' : ' ';
      hex += gap + (i < this.filled ? BYTES[this.row[i]] : '  ');
      if (i < this.filled) text += CHARACTERS[this.row[i]];
    }
    const address = BigInt.asUintN(this.bits, this.address)
      .toString(16)
      .padStart(this.bits / 4, '0');
    this.address += BigInt(this.filled);
    this.filled = 0;
    return `${address} ${hex}  |${text}|`;
  }
}

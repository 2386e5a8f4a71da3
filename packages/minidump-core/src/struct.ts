import { KvmError } from './errors.js';

/** Byte order of a machine and so of the structures in its memory. */
export type ByteOrder = 'little' | 'big';

/** Unsigned integers. */
export type IntegerKind = 'u8' | 'u16' | 'u32' | 'u64';
/** `char[n]`: a NUL-padded string of at most n bytes; `bytes[n]`: n bytes as they are. */
export type FieldKind = IntegerKind | `char[${number}]` | `bytes[${number}]`;

/** One field of a fixed layout. */
export interface FieldSpec {
  /** Byte offset from the start of the structure. */
  readonly at: number;
  readonly kind: FieldKind;
  /** What it means, for the generated format tables. */
  readonly doc: string;
}

/** The fields of a structure by name. */
export type StructSpec = Readonly<Record<string, FieldSpec>>;

/** The type of a field's value. */
export type FieldValue<K extends FieldKind> = K extends 'u64'
  ? bigint
  : K extends IntegerKind
    ? number
    : K extends `char[${number}]`
      ? string
      : Uint8Array;

/** The values of a structure: u64 as bigint, smaller integers as number, `char` as string. */
export type StructValues<S extends StructSpec> = { -readonly [F in keyof S]: FieldValue<S[F]['kind']> };

/**
 * A fixed-layout structure: one table of fields from which its reader, writer, size and documentation are made.
 *
 * @example
 * const pair = struct('pair', { start: { at: 0, kind: 'u64', doc: 'first byte' }, ... });
 * const { start } = pair.read(bytes, 0, 'little');
 */
export class Struct<S extends StructSpec> {
  /** Bytes from the start of the structure to the end of its last field. */
  readonly size: number;

  constructor(
    readonly name: string,
    readonly fields: S,
  ) {
    this.size = Math.max(0, ...Object.values(fields).map((field) => field.at + fieldSize(field.kind)));
  }

  /**
   * Reads every field from `bytes` at `offset`.
   *
   * @throws KvmError `TRUNCATED` when the bytes end inside the structure.
   */
  read(bytes: Uint8Array, offset: number, order: ByteOrder): StructValues<S> {
    if (offset < 0 || offset + this.size > bytes.length) {
      throw new KvmError(
        'TRUNCATED',
        `${this.name} needs ${this.size} bytes, ${bytes.length - offset} are there`,
        {
          offset,
          length: this.size,
          hint: 'the file is cut short; copy it again',
        },
      );
    }
    const view = viewOf(bytes);
    const values: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(this.fields)) {
      values[name] = readField(view, bytes, offset + field.at, field.kind, order === 'little');
    }
    return values as StructValues<S>;
  }

  /**
   * Writes the given fields to `bytes` at `offset`; fields left out stay as they are.
   *
   * @throws KvmError `INVALID_ARGUMENT` for a value that does not fit its field, or bytes that end inside the structure
   */
  write(bytes: Uint8Array, offset: number, order: ByteOrder, values: Partial<StructValues<S>>): void {
    if (offset < 0 || offset + this.size > bytes.length) {
      throw new KvmError(
        'INVALID_ARGUMENT',
        `${this.name} needs ${this.size} bytes at offset ${offset}, the target has ${bytes.length}`,
        { offset, length: this.size },
      );
    }
    const view = viewOf(bytes);
    for (const [name, value] of Object.entries(values)) {
      const field = Object.hasOwn(this.fields, name) ? this.fields[name] : undefined;
      if (field !== undefined && value !== undefined) {
        writeField(
          view,
          bytes,
          offset + field.at,
          field.kind,
          order === 'little',
          value,
          `${this.name}.${name}`,
        );
      }
    }
  }

  /** The layout as a Markdown table: offset, type, field, meaning. */
  toMarkdown(): string {
    const rows = Object.entries(this.fields)
      .sort(([, a], [, b]) => a.at - b.at)
      .map(([name, field]) => `| ${field.at} | ${field.kind} | ${name} | ${field.doc} |`);
    return ['| offset | type | field | meaning |', '|---|---|---|---|', ...rows].join('\n');
  }
}

/** Makes a {@link Struct} from its table. */
export function struct<const S extends StructSpec>(name: string, fields: S): Struct<S> {
  return new Struct(name, fields);
}

/** Bytes a field takes. */
export function fieldSize(kind: FieldKind): number {
  switch (kind) {
    case 'u8':
      return 1;
    case 'u16':
      return 2;
    case 'u32':
      return 4;
    case 'u64':
      return 8;
    default:
      return Number(kind.slice(kind.indexOf('[') + 1, -1));
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readField(view: DataView, bytes: Uint8Array, at: number, kind: FieldKind, little: boolean): unknown {
  switch (kind) {
    case 'u8':
      return view.getUint8(at);
    case 'u16':
      return view.getUint16(at, little);
    case 'u32':
      return view.getUint32(at, little);
    case 'u64':
      return view.getBigUint64(at, little);
    default: {
      const field = bytes.subarray(at, at + fieldSize(kind));
      return kind.startsWith('char') ? latin1(field) : field.slice();
    }
  }
}

function writeField(
  view: DataView,
  bytes: Uint8Array,
  at: number,
  kind: FieldKind,
  little: boolean,
  value: number | bigint | string | Uint8Array,
  name: string,
): void {
  if (kind === 'u64') view.setBigUint64(at, checked(value, 64, name), little);
  else if (kind === 'u32') view.setUint32(at, Number(checked(value, 32, name)), little);
  else if (kind === 'u16') view.setUint16(at, Number(checked(value, 16, name)), little);
  else if (kind === 'u8') view.setUint8(at, Number(checked(value, 8, name)));
  else writeBytes(bytes.subarray(at, at + fieldSize(kind)), value as string | Uint8Array, name);
}

/** A value that does not fit its field is a bug or a machine the format cannot hold: never cut silently. */
function checked(value: unknown, bits: number, name: string): bigint {
  const integer =
    typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : -1n;
  if (integer < 0n || integer >> BigInt(bits) !== 0n) {
    throw new KvmError('INVALID_ARGUMENT', `${name}: ${String(value)} does not fit ${bits} bits`, {
      field: name,
    });
  }
  return integer;
}

function writeBytes(field: Uint8Array, value: string | Uint8Array, name: string): void {
  const content = typeof value === 'string' ? latin1Bytes(value, name) : value;
  if (content.length > field.length) {
    throw new KvmError('INVALID_ARGUMENT', `${name}: ${content.length} bytes do not fit ${field.length}`, {
      field: name,
    });
  }
  field.fill(0);
  field.set(content);
}

function latin1Bytes(text: string, name: string): Uint8Array {
  const codes = Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
  if (codes.every((code) => code <= 0xff)) return Uint8Array.from(codes);
  throw new KvmError(
    'INVALID_ARGUMENT',
    `${name}: ${JSON.stringify(text)} has characters of more than a byte`,
    {
      field: name,
    },
  );
}

/** The bytes up to the first NUL, one character each. */
export function latin1(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  let text = '';
  for (const byte of end < 0 ? bytes : bytes.subarray(0, end)) text += String.fromCharCode(byte);
  return text;
}

import type { HeaderOverrides } from './dialect.js';
import { KvmError } from './errors.js';
import { fieldSize, type Struct, type StructSpec, type StructValues } from './struct.js';

/**
 * A header with some of its fields replaced by what the caller knows better.
 *
 * @param values what the file says; not changed
 * @param what the kind of core, for messages: `a FreeBSD/amd64 minidump`
 * @throws KvmError `INVALID_ARGUMENT` for a field that the header does not have, that is no number, or for a value that
 *   does not fit it
 */
export function overrideHeader<S extends StructSpec>(
  header: Struct<S>,
  values: StructValues<S>,
  overrides: HeaderOverrides,
  what: string,
): StructValues<S> {
  const result: Record<string, unknown> = { ...values };
  for (const [field, value] of Object.entries(overrides)) {
    const spec = Object.hasOwn(header.fields, field) ? header.fields[field] : undefined;
    if (!spec?.kind.startsWith('u')) throw noSuchField(header, field, what);
    const integer = checkedInteger(value, fieldSize(spec.kind) * 8, field);
    result[field] = spec.kind === 'u64' ? integer : Number(integer);
  }
  return result as StructValues<S>;
}

function checkedInteger(value: number | bigint, bits: number, field: string): bigint {
  const integer = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : -1n;
  if (integer >= 0n && integer >> BigInt(bits) === 0n) return integer;
  throw new KvmError(
    'INVALID_ARGUMENT',
    `${field}: ${String(value)} is not an unsigned integer of ${bits} bits`,
    {
      field,
      hint: 'numbers are exact only up to 2^53 - 1; write greater ones as bigints (0xffffffff80000000n)',
    },
  );
}

function noSuchField<S extends StructSpec>(header: Struct<S>, field: string, what: string): KvmError {
  const numbers = Object.keys(header.fields).filter((name) => header.fields[name].kind.startsWith('u'));
  return new KvmError('INVALID_ARGUMENT', `the header of ${what} has no number ${field}`, {
    field,
    hint: `it has ${numbers.join(', ')}`,
  });
}

/** Enums of the contract ↔ names in the core; the compiler checks that each has the other. */
import type { Given } from '../core/requests.ts';

/** Unspecified is undefined; a number that no name has is told as such. */
export function fromEnum<Prefix extends string, Name extends string>(
  values: Readonly<Record<`${Prefix}_${Name}`, number>>,
  prefix: Prefix,
  names: readonly Name[],
  value: number,
): Given<Name> {
  if (value === 0) return undefined;
  return names.find((name) => values[`${prefix}_${name}`] === value) ?? { unrecognized: value };
}

export function toEnum<Prefix extends string, Name extends string, Value>(
  values: Readonly<Record<`${Prefix}_${Name}`, Value>>,
  prefix: Prefix,
  name: Name,
): Value {
  return values[`${prefix}_${name}`];
}

/** Enums of the contract ↔ names in the core; the compiler checks that both sides are complete. */
import { fail } from '../core/errors.ts';
import type { Given } from '../core/requests.ts';

/** Unspecified is undefined; an unknown number is passed on. */
export function fromEnum<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Given<Names<Values, Prefix>> {
  return value === 0 ? undefined : (nameIn(values, prefix, value) ?? { unrecognized: value });
}

export function toEnum<Prefix extends string, Name extends string, Value>(
  values: Readonly<Record<`${Prefix}_${Name}`, Value>>,
  prefix: Prefix,
  name: Name,
): Value {
  return values[`${prefix}_${name}`];
}

/** The value in the message: also a number without a name. */
export function numberOf<Prefix extends string, Name extends string, Value extends number>(
  values: Readonly<Record<`${Prefix}_${Name}`, Value>>,
  prefix: Prefix,
  given: Given<Name>,
): Value {
  if (given === undefined) return 0 as Value;
  return typeof given === 'string' ? toEnum(values, prefix, given) : (given.unrecognized as Value);
}

type Names<Values, Prefix extends string> = keyof Values extends infer Key
  ? Key extends `${Prefix}_${infer Name}`
    ? Exclude<Name, 'UNSPECIFIED'>
    : never
  : never;

function nameIn<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Names<Values, Prefix> | undefined {
  const key = Object.keys(values).find((one) => values[one] === value && one.startsWith(`${prefix}_`));
  return key?.slice(prefix.length + 1) as Names<Values, Prefix> | undefined;
}

/** Undefined if a message has no value. Throws for a value that only a newer service has. */
export function enumName<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Names<Values, Prefix> | undefined {
  if (value === 0) return undefined;
  return (
    nameIn(values, prefix, value) ??
    fail('NOT_IMPLEMENTED', { feature: `${prefix} ${value}, which a newer server answers` })
  );
}

/** Like enumName, for a value that every answer has. */
export function namedOf<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Names<Values, Prefix> {
  const name = enumName(values, prefix, value);
  if (name === undefined) fail('NOT_IMPLEMENTED', { feature: `an answer without ${prefix}` });
  return name;
}

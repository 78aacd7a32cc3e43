/** Enums of the contract ↔ names in the core; the compiler checks that both sides are complete. */
import type { Given } from '../core/requests.ts';

/** Unspecified is undefined; an unknown number is passed on. */
export function fromEnum<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Given<Names<Values, Prefix>> {
  return value === 0 ? undefined : (nameIn(values, prefix, value) ?? { unrecognized: value });
}

/** See namedOf(). */
export function toEnum<Prefix extends string, Name extends string, Value extends number>(
  values: Readonly<Record<`${Prefix}_${Name}`, Value>>,
  prefix: Prefix,
  name: Name,
): Value {
  const key = `${prefix}_${name}` as const;
  return Object.hasOwn(values, key) ? values[key] : (Number(name) as Value);
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

/** Undefined if a message has no value. */
export function enumName<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Names<Values, Prefix> | undefined {
  return value === 0 ? undefined : namedOf(values, prefix, value);
}

/** A value that only another version of this service gives is passed on: its number stands for its name. */
export function namedOf<Values extends Readonly<Record<string, number>>, Prefix extends string>(
  values: Values,
  prefix: Prefix,
  value: number,
): Names<Values, Prefix> {
  return nameIn(values, prefix, value) ?? (String(value) as Names<Values, Prefix>);
}

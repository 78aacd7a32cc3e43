/**
 * A request without what makes no difference: the order of its fields, and default values, as on the wire. Undefined if nothing
 * is left.
 */
export function canonical(value: unknown): unknown {
  if (typeof value === 'bigint') return value === 0n ? undefined : `${value}`;
  if (typeof value !== 'object' || value === null) return value === '' || value === false ? undefined : value;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map((one) => canonical(one) ?? null);
  const entries = Object.entries(value);
  if (entries.length === 0) return undefined;
  const fields = entries.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([name, field]) => [name, canonical(field)]));
}

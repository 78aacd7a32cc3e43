/** An object of JSON, of which nothing else is known: for files that people write. */
export function isRecord(value: unknown): value is Partial<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

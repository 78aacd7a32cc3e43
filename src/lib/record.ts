/** Reads JSON that people write: an object with one key, whose value is an object. Otherwise a sentence says what is wrong. */
export function recordIn(text: string, key: string): Partial<Record<string, unknown>> | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return `It is not JSON: ${error instanceof Error ? error.message : String(error)}.`;
  }
  const value = isRecord(parsed) ? parsed[key] : undefined;
  if (!isRecord(parsed) || !isRecord(value)) return `It must be an object with "${key}", an object.`;
  const unknown = Object.keys(parsed).find((one) => one !== key);
  return unknown === undefined ? value : `It has "${unknown}", which means nothing.`;
}

export function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

/** A JSON object with unknown members: for files that people write. */
export function isRecord(value: unknown): value is Partial<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Shares equal texts. JSON.parse makes a new one each time, also for paths, which a job has four times, and for texts
 * that all jobs of a VM have: with ten thousand jobs that is a third of the memory.
 */

/** Texts that many jobs share: there are few of each. The others are looked for in the same job alone. */
const OF_MANY: ReadonlySet<string> = new Set([
  'domain',
  'domainUuid',
  'disk',
  'qdev',
  'startTime',
  'bootId',
  'pidNamespace',
  'device',
  'caller',
  'counts',
]);

export class SharedTexts {
  readonly #ofMany = new Map<string, string>();
  readonly #ofOne = new Map<string, string>();

  /** Replaces equal texts in a parsed object by the shared ones. */
  share<T extends object>(parsed: T): T {
    this.#ofOne.clear();
    this.#walk(parsed);
    return parsed;
  }

  #walk(value: object): void {
    for (const [key, one] of Object.entries(value) as [string, unknown][]) {
      if (typeof one === 'string') Reflect.set(value, key, oneOf(OF_MANY.has(key) ? this.#ofMany : this.#ofOne, one));
      else if (typeof one === 'object' && one !== null) this.#walk(one);
    }
  }
}

function oneOf(known: Map<string, string>, text: string): string {
  const there = known.get(text);
  if (there !== undefined) return there;
  known.set(text, text);
  return text;
}

/**
 * One of each text. JSON.parse makes each anew, also those that a job has four times, such as its paths, and those that all jobs
 * of a VM have: of ten thousand jobs that is a third of what is kept.
 */

/** What many jobs have alike: there are few of each. The others are looked for in the same job alone. */
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

  /** Puts into what has just been parsed the same texts in the place of equal ones. */
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

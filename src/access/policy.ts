/**
 * Who may do what, on which domains. The file is JSON:
 *
 *   { "callers": { "spiffe://site/backup": { "operate": ["web*"] }, "spiffe://site/*": { "read": ["*"] } } }
 *
 * A caller is named by its certificate (its SPIFFE id, else its DNS name), a domain by its name; * stands for any text.
 * What several entries allow adds up, and who may operate may read. Whatever no entry allows is refused.
 */

import { isRecord } from '../lib/record.ts';

export type Right = 'read' | 'operate';

interface Entry {
  readonly caller: RegExp;
  readonly read: readonly RegExp[];
  readonly operate: readonly RegExp[];
}

export class Policy {
  readonly #entries: readonly Entry[];

  private constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  /** The policy, or the sentence that says what is wrong with its text. */
  static read(text: string): Policy | string {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      return `It is no JSON: ${error instanceof Error ? error.message : String(error)}.`;
    }
    if (!isRecord(parsed) || !isRecord(parsed['callers'])) return 'It must be an object with "callers", an object.';
    const unknown = Object.keys(parsed).find((key) => key !== 'callers');
    if (unknown !== undefined) return `It has "${unknown}", which means nothing.`;
    const entries: Entry[] = [];
    for (const [caller, rights] of Object.entries(parsed['callers'])) {
      const entry = readEntry(caller, rights);
      if (typeof entry === 'string') return entry;
      entries.push(entry);
    }
    return new Policy(entries);
  }

  /** Is anything said of this caller? */
  names(caller: string): boolean {
    return this.#entries.some((entry) => entry.caller.test(caller));
  }

  allows(caller: string, right: Right, domain: string): boolean {
    return this.#entries.some(
      (entry) =>
        entry.caller.test(caller) &&
        [...entry.operate, ...(right === 'read' ? entry.read : [])].some((allowed) => allowed.test(domain)),
    );
  }
}

function readEntry(caller: string, rights: unknown): Entry | string {
  if (caller === '') return 'A caller has no name.';
  if (!isRecord(rights)) return `What ${caller} may do must be an object.`;
  const unknown = Object.keys(rights).find((key) => key !== 'read' && key !== 'operate');
  if (unknown !== undefined) return `Caller ${caller} has "${unknown}"; there are "read" and "operate".`;
  const { read = [], operate = [] } = rights;
  if (!isNames(read) || !isNames(operate)) return `What ${caller} may read and operate must be lists of domain names.`;
  return { caller: pattern(caller), read: read.map(pattern), operate: operate.map(pattern) };
}

function isNames(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '');
}

function pattern(text: string): RegExp {
  const parts = text.split('*').map((part) => part.replaceAll(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}

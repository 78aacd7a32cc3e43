/**
 * The rights of callers on domains. The file is JSON:
 *
 *   { "callers": { "spiffe://site/backup": { "operate": ["web*"] }, "spiffe://site/*": { "read": ["*"] } } }
 *
 * A caller is named by its certificate (its SPIFFE id, or its DNS name), a domain by its name; * stands for any text.
 * The rights of several entries add up, and a caller that may operate may also read. Everything else is refused.
 */
import { type Grant, grants, LARGEST_GRANT_BYTES, type Right } from '../core/grant.ts';
import { fits } from '../core/pattern.ts';
import { isRecord, isTexts, recordIn } from '../lib/record.ts';

/** The longest SPIFFE id. */
const LONGEST_CALLER = 2048;
const LONGEST_DOMAIN = 1024;
const MOST_REMEMBERED = 1000;
const SPIFFE = 'spiffe://';

interface Entry extends Grant {
  readonly caller: string;
}

export class Policy {
  readonly #entries: readonly Entry[];
  readonly #grants = new Map<string, Grant>();

  private constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  /** The policy, or the sentence that says what is wrong with its text. */
  static read(text: string): Policy | string {
    const callers = recordIn(text, 'callers');
    if (typeof callers === 'string') return callers;
    const entries: Entry[] = [];
    for (const [caller, rights] of Object.entries(callers)) {
      const entry = readEntry(caller, rights);
      if (typeof entry === 'string') return entry;
      entries.push(entry);
    }
    return tooMuch(entries) ?? new Policy(entries);
  }

  /** Whether the policy names this caller. */
  names(caller: string): boolean {
    return this.#entries.some((entry) => isOf(entry, caller));
  }

  grantOf(caller: string): Grant {
    const known = this.#grants.get(caller);
    if (known !== undefined) return known;
    const grant = sum(this.#entries.filter((entry) => isOf(entry, caller)));
    // It is asked again and again, for a few callers.
    if (this.#grants.size >= MOST_REMEMBERED) this.#grants.clear();
    this.#grants.set(caller, grant);
    return grant;
  }

  allows(caller: string, right: Right, domain: string): boolean {
    return grants(this.grantOf(caller), right, domain);
  }
}

/** A pattern is of one kind of name, so that no DNS name can look like a SPIFFE id, or the reverse; * matches all. */
function isOf({ caller: pattern }: Entry, caller: string): boolean {
  if (pattern === '*') return caller !== '';
  return pattern.startsWith(SPIFFE) === caller.startsWith(SPIFFE) && fits(caller, pattern);
}

function sum(entries: readonly Grant[]): Grant {
  const all = (right: Right) => [...new Set(entries.flatMap((entry) => entry[right]))];
  return { read: all('read'), operate: all('operate') };
}

/** For any caller: the entries of all patterns that could match it, and its own entry. */
function tooMuch(entries: readonly Entry[]): string | undefined {
  const shared = bytesOf(sum(entries.filter(isShared)));
  if (shared > LARGEST_GRANT_BYTES) return `Callers with a * ${tooMany(shared)}`;
  const largest = entries.find((entry) => !isShared(entry) && shared + bytesOf(sum([entry])) > LARGEST_GRANT_BYTES);
  if (largest === undefined) return undefined;
  const bytes = shared + bytesOf(sum([largest]));
  return `Caller ${largest.caller}, together with the entries of callers with a *, ${tooMany(bytes)}`;
}

function tooMany(bytes: number): string {
  return `may have ${bytes} bytes of names of domains, and ${LARGEST_GRANT_BYTES} is the most for one: use *.`;
}

function isShared({ caller }: Entry): boolean {
  return caller.includes('*');
}

function bytesOf(grant: Grant): number {
  return Buffer.byteLength(JSON.stringify(grant));
}

function readEntry(caller: string, rights: unknown): Entry | string {
  if (caller === '') return 'A caller has no name.';
  if (caller.length > LONGEST_CALLER) return `The name of a caller is longer than ${LONGEST_CALLER}: ${cut(caller)}.`;
  if (!caller.startsWith(SPIFFE) && /[:/]/.test(caller)) {
    return `Caller ${caller} is neither a SPIFFE id (${SPIFFE}…), nor a DNS name, nor *.`;
  }
  if (!isRecord(rights)) return `The rights of ${caller} must be an object.`;
  const unknown = Object.keys(rights).find((key) => key !== 'read' && key !== 'operate');
  if (unknown !== undefined) return `Caller ${caller} has "${unknown}"; there are "read" and "operate".`;
  const { read = [], operate = [] } = rights;
  if (!isNames(read) || !isNames(operate)) return `"read" and "operate" of ${caller} must be lists of domain names.`;
  const long = [...read, ...operate].find((name) => name.length > LONGEST_DOMAIN);
  if (long !== undefined) return `Caller ${caller} has a domain longer than ${LONGEST_DOMAIN}: ${cut(long)}.`;
  return { caller, read, operate };
}

function isNames(value: unknown): value is readonly string[] {
  return isTexts(value) && !value.includes('');
}

function cut(text: string): string {
  return `${text.slice(0, 60)}…`;
}

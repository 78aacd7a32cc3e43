/** The configuration file: named contexts, each a service and the way to reach it. */
import { readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { defined } from '../lib/defined.ts';
import { type Terminal, UsageError } from './terminal.ts';

export interface Context {
  readonly address: readonly string[];
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly serverName?: string;
}

const FILES = ['ca', 'cert', 'key'] as const;
const KEYS = ['address', ...FILES, 'server-name'];

export class ConfigFile {
  readonly path: string;
  readonly current: string | undefined;
  readonly contexts: ReadonlyMap<string, Context>;
  readonly #document: Document;

  private constructor(path: string, text: string) {
    this.path = path;
    this.#document = parseDocument(text);
    const [wrong] = this.#document.errors;
    if (wrong !== undefined) throw new UsageError(`${path}: ${wrong.message.split('\n')[0]}`);
    const { current, contexts } = recordOf(this.#document.toJS() ?? {}, path, ['current', 'contexts']);
    if (current !== undefined && typeof current !== 'string') throw new UsageError(`${path}: current must be a name`);
    this.current = current;
    this.contexts = new Map(
      Object.entries(contexts === undefined ? {} : recordOf(contexts, `${path}: contexts`)).map(([name, context]) => [
        name,
        contextOf(context, `${path}: context ${name}`, dirname(path)),
      ]),
    );
  }

  static pathIn({ environment }: Terminal): string {
    const folder = environment['XDG_CONFIG_HOME'] ?? join(environment['HOME'] ?? homedir(), '.config');
    return join(folder, 'blockjob', 'config.yaml');
  }

  /** The default file need not exist. */
  static async read(path: string, { mustExist }: { mustExist: boolean }): Promise<ConfigFile> {
    try {
      return new ConfigFile(path, await readFile(path, 'utf8'));
    } catch (error) {
      if (error instanceof UsageError) throw error;
      const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (isAbsent && !mustExist) return new ConfigFile(path, '');
      throw new UsageError(error instanceof Error ? error.message : String(error));
    }
  }

  context(name: string): Context {
    const found = this.contexts.get(name);
    if (found !== undefined) return found;
    const known = [...this.contexts.keys()].join(', ');
    throw new UsageError(`${this.path} has no context ${name}; ${known === '' ? 'it has none' : `it has ${known}`}`);
  }

  /** Makes this context the current one. The rest of the file stays, comments included. */
  async use(name: string): Promise<void> {
    this.context(name);
    this.#document.set('current', name);
    await writeFile(this.path, String(this.#document));
  }
}

function contextOf(value: unknown, where: string, folder: string): Context {
  const record = recordOf(value, where, KEYS);
  const address = addressesOf(record['address'], where);
  const text = (key: string) => {
    const one = record[key];
    if (one === undefined || typeof one === 'string') return one;
    throw new UsageError(`${where}: ${key} must be a text`);
  };
  const file = (key: (typeof FILES)[number]) => {
    const path = text(key);
    return path === undefined ? undefined : resolve(folder, path);
  };
  return {
    address,
    ...defined({ ca: file('ca'), cert: file('cert'), key: file('key'), serverName: text('server-name') }),
  };
}

function addressesOf(value: unknown, where: string): readonly string[] {
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  const texts = all.filter((one) => typeof one === 'string');
  if (texts.length === all.length && texts.length > 0) return texts;
  throw new UsageError(`${where}: address must be HOST:PORT or unix:/PATH, or a list of these`);
}

function recordOf(value: unknown, where: string, keys?: readonly string[]): Partial<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageError(`${where} must be a mapping`);
  }
  const unknown = Object.keys(value).find((key) => keys?.includes(key) === false);
  if (unknown !== undefined) throw new UsageError(`${where}: there is no ${unknown}; there are ${keys?.join(', ')}`);
  return value;
}

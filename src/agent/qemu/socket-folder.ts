/** The sockets in the folder of monitors. A look at a folder without changes asks only for the folder itself. */
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { fits } from '../../core/pattern.ts';

export interface SocketFolderOptions {
  readonly folder: string;
  /** The names to look at; undefined for all. */
  readonly pattern?: string | undefined;
  /** Sockets that are known without the folder. */
  readonly named: readonly { readonly socketPath: string }[];
  readonly logger: Logger;
}

/** The clock of a file system is coarse: until then, a second change may leave the time of the first. */
const TIME_DIFFERS_MS = 1000;

export class SocketFolder {
  readonly path: string;
  readonly #options: SocketFolderOptions;
  #sockets: ReadonlyMap<string, string> = new Map();
  /** The folder's own facts. They change when a name in it comes, goes, or gets another file. */
  #facts: string | undefined;
  #factsSinceMs = 0;
  /** When the last look at each file began. */
  #lookedMs = -Infinity;
  /** A file may be replaced in another folder. */
  #leadsElsewhere = false;

  constructor(options: SocketFolderOptions) {
    this.path = options.folder;
    this.#options = options;
  }

  /** The next look is at each file, whatever the folder shows. */
  changed(): void {
    this.#lookedMs = -Infinity;
  }

  /** Path → the file. A socket with several names counts once, by its first name; a link counts as its target. */
  async sockets(): Promise<ReadonlyMap<string, string>> {
    const nowMs = performance.now();
    const facts = await factsOf(this.path);
    if (facts !== this.#facts) this.#factsSinceMs = nowMs;
    this.#facts = facts;
    const isKnown = facts !== undefined && this.#lookedMs >= this.#factsSinceMs + TIME_DIFFERS_MS;
    if (isKnown && !this.#leadsElsewhere) return this.#sockets;
    this.#lookedMs = nowMs;
    this.#sockets = await this.#look();
    return this.#sockets;
  }

  async #look(): Promise<ReadonlyMap<string, string>> {
    const { folder, pattern = '*', logger } = this.#options;
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const names = entries
      .filter((entry) => (entry.isSocket() || entry.isSymbolicLink()) && fits(entry.name, pattern))
      .toSorted((a, b) => Number(a.isSymbolicLink()) - Number(b.isSymbolicLink()) || (a.name < b.name ? -1 : 1));
    const named = this.#options.named.map(({ socketPath }) => resolve(socketPath));
    this.#leadsElsewhere = named.length > 0 || names.some((entry) => entry.isSymbolicLink());
    const taken = new Map<string, string>();
    const sockets = new Map<string, string>();
    for (const path of [...named, ...names.map(({ name }) => join(folder, name))]) {
      const found = await stat(path, { bigint: true }).catch(() => undefined);
      if (found?.isSocket() !== true) continue;
      const inode = `${found.dev}:${found.ino}`;
      const other = taken.get(inode);
      if (other !== undefined && other !== path) {
        logger.debug({ socket: path, other }, 'A second name of a socket is ignored');
        continue;
      }
      taken.set(inode, path);
      sockets.set(path, `${inode}:${found.ctimeNs}`);
    }
    return sockets;
  }
}

/** Undefined if there is no such folder, or it cannot be asked. */
async function factsOf(folder: string): Promise<string | undefined> {
  const found = await stat(folder, { bigint: true }).catch(() => undefined);
  return found && [found.dev, found.ino, found.mtimeNs, found.ctimeNs].join(':');
}
